"""Decoded audio of a corpus: one memory-mapped int16 file, so that training draws windows without decoding.

The file is keyed by the manifest, built once (two processes, progress bar), and replaced only when complete.
"""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from kws.audio import read_audio
from kws.corpus import Clip
from kws.errors import AudioError, DataError
from kws.evaluate.span import speech_span, word_span
from kws.files import replacing

LONGEST_SENTENCE_S = 20.0
"""Longer clips (prompts read in one go, music) are used as they are."""


class Library:
    """Samples and word spans of a list of clips, in the order of the list."""

    def __init__(self, clips: Sequence[Clip], cache: Path, sample_rate_hz: int) -> None:
        self.clips, self.sample_rate_hz = list(clips), sample_rate_hz
        listing = "\n".join(f"{c.source}/{c.path.name} {c.seconds} {c.start_s} {c.end_s}" for c in self.clips)
        key = hashlib.sha256(f"library 1 {sample_rate_hz}\n{listing}".encode()).hexdigest()[:16]
        audio, index = cache / f"audio-{key}.i16", cache / f"audio-{key}.npz"
        if not index.is_file():
            cache.mkdir(parents=True, exist_ok=True)
            self._build(audio, index)
        with np.load(index, allow_pickle=False) as stored:
            self._offsets: NDArray[np.int64] = stored["offsets"]
            self._spans: NDArray[np.int64] = stored["spans"]
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

    def word(self, index: int) -> NDArray[np.int16]:
        """The samples of that span."""
        start, end = self.span(index)
        return self.samples(index)[start:end]

    def _build(self, audio: Path, index: Path) -> None:
        offsets, spans, unreadable = [0], [], []
        jobs = [(c, self.sample_rate_hz) for c in self.clips]
        with (
            replacing(audio) as partial,
            partial.open("wb") as file,
            ProcessPoolExecutor(os.cpu_count()) as pool,
        ):
            decoded = pool.map(_decode, jobs, chunksize=32)
            for clip, (samples, span) in zip(
                self.clips, track(decoded, "decoding", total=len(jobs)), strict=True
            ):
                file.write(samples.tobytes())
                offsets.append(offsets[-1] + len(samples))
                spans.append(span)
                if not len(samples):
                    unreadable.append(clip.path)
        if len(unreadable) > len(jobs) // 100:
            raise DataError(
                f"{len(unreadable)} files cannot be read, first {unreadable[0]}; check the corpus"
            )
        with replacing(index) as partial, partial.open("wb") as file:
            np.savez(file, offsets=np.array(offsets), spans=np.array(spans, np.int64).reshape(-1, 2))


def _decode(job: tuple[Clip, int]) -> tuple[NDArray[np.int16], tuple[int, int]]:
    clip, rate_hz = job
    try:
        samples = np.rint(np.clip(read_audio(clip.path, rate_hz) * 32768, -32768, 32767)).astype(np.int16)
    except AudioError:
        return np.zeros(0, np.int16), (0, 0)
    if clip.start_s is not None and clip.end_s is not None:
        return samples, (int(clip.start_s * rate_hz), min(int(clip.end_s * rate_hz), len(samples)))
    if clip.kind == "keyword":
        return samples, word_span(samples, rate_hz)
    if clip.kind in ("speech", "synthetic") and clip.seconds < LONGEST_SENTENCE_S:
        return samples, speech_span(samples, rate_hz)
    return samples, (0, len(samples))
