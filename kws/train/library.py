"""Decoded audio of a corpus: one memory-mapped int16 file, so that training draws windows without decoding.

The file is keyed by the manifest and the sizes of the files, built once, and replaced only when complete.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kws.audio import read_audio
from kws.corpus import Clip
from kws.errors import AudioError
from kws.evaluate.span import speech_span, word_span
from kws.files import replacing
from kws.train.cache import entry
from kws.train.progress import track
from kws.workers import workers

LONGEST_SENTENCE_S = 20.0
"""Longer clips (prompts read in one go, music) are used as they are."""
LEVEL_SECONDS = 0.03
"""Levels are those of stretches this long: of a syllable rather than of a click."""
LOWEST_DB = 120.0
"""Below full scale: digital silence counts as this."""


class Library:
    """Samples and word spans of a list of clips, in the order of the list."""

    def __init__(self, clips: Sequence[Clip], cache: Path, sample_rate_hz: int) -> None:
        self.clips, self.sample_rate_hz = list(clips), sample_rate_hz
        listing = "\n".join(
            f"{c.source}/{c.path.name} {c.kind} {c.seconds} {c.start_s} {c.end_s} {_bytes(c.path)}"
            for c in self.clips
        )
        key = hashlib.sha256(f"library 2 {sample_rate_hz}\n{listing}".encode()).hexdigest()[:16]
        audio, index = entry(cache, f"audio-{key}.i16"), entry(cache, f"audio-{key}.npz")
        if not index.is_file():
            self._build(audio, index)
        with np.load(index, allow_pickle=False) as stored:
            self._offsets: NDArray[np.int64] = stored["offsets"]
            self._spans: NDArray[np.int64] = stored["spans"]
            self._levels: NDArray[np.float64] = stored["levels"]
        self._audio: NDArray[np.int16] = np.zeros(0, np.int16)
        if self._offsets[-1]:  # no file can be mapped that holds nothing
            self._audio = np.memmap(audio, np.int16, mode="r")

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.clips)

    def samples(self, index: int) -> NDArray[np.int16]:
        """All samples of clip `index`; empty when the file could not be read."""
        return self._audio[self._offsets[index] : self._offsets[index + 1]]

    def span(self, index: int) -> tuple[int, int]:
        """First and one-past-last sample of the sound in clip `index`: outside lie silence and dither."""
        start, end = self._spans[index]
        return int(start), int(end)

    def levels(self, index: int) -> tuple[float, float]:
        """Loudest stretch of clip `index` in dBFS, and how far below it the quietest tenth lies, in dB."""
        loudest_dbfs, contrast_db = self._levels[index]
        return float(loudest_dbfs), float(contrast_db)

    def readable(self) -> list[Clip]:
        """The clips that could be read."""
        return [c for c, samples in zip(self.clips, np.diff(self._offsets), strict=True) if samples]

    def word(self, index: int) -> NDArray[np.int16]:
        """The samples of that span."""
        start, end = self.span(index)
        return self.samples(index)[start:end]

    def _build(self, audio: Path, index: Path) -> None:
        offsets, spans, levels = [0], [], []
        jobs = [(c, self.sample_rate_hz) for c in self.clips]
        with (
            replacing(audio) as partial,
            partial.open("wb") as file,
            workers(None) as pool,
        ):
            decoded = pool.map(_decode, jobs, chunksize=32)
            for samples, span in track(decoded, "decoding", total=len(jobs)):
                file.write(samples.tobytes())
                offsets.append(offsets[-1] + len(samples))
                spans.append(span)
                levels.append(_measure(samples, self.sample_rate_hz))
        columns = {
            "offsets": np.array(offsets),
            "spans": np.array(spans, np.int64).reshape(-1, 2),
            "levels": np.array(levels).reshape(-1, 2),
        }
        with replacing(index) as partial, partial.open("wb") as file:
            np.savez(file, allow_pickle=False, **columns)


def _decode(job: tuple[Clip, int]) -> tuple[NDArray[np.int16], tuple[int, int]]:
    clip, rate_hz = job
    try:
        samples = np.rint(np.clip(read_audio(clip.path, rate_hz) * 32768, -32768, 32767)).astype(np.int16)
    except AudioError:
        return np.zeros(0, np.int16), (0, 0)
    if clip.start_s is not None and clip.end_s is not None and clip.start_s < clip.end_s:
        return samples, (int(clip.start_s * rate_hz), min(int(clip.end_s * rate_hz), len(samples)))
    if clip.kind == "keyword":
        return samples, word_span(samples, rate_hz)
    if clip.kind in ("speech", "synthetic") and clip.seconds < LONGEST_SENTENCE_S:
        return samples, speech_span(samples, rate_hz)
    return samples, (0, len(samples))


def _measure(samples: NDArray[np.int16], rate_hz: int) -> tuple[float, float]:
    """Levels of stretches of LEVEL_SECONDS: the loudest in dBFS, and its distance to the quietest tenth."""
    stretch = round(LEVEL_SECONDS * rate_hz)
    whole = samples[: len(samples) // stretch * stretch].reshape(-1, stretch) / np.float32(32768)
    if not len(whole):
        return -LOWEST_DB, 0.0
    level_db = 10 * np.log10(np.maximum(whole.var(axis=1), 10 ** (-LOWEST_DB / 10)))  # an offset is no sound
    loudest_db = float(level_db.max())
    return loudest_db, loudest_db - float(np.percentile(level_db, 10))


def _bytes(path: Path) -> int:
    """Size of a file, so that one that has been repaired is decoded again; 0 when there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
