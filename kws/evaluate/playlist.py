"""What an evaluation plays: which recordings of a corpus, and the soundtrack around each word."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kws.audio import file_blocks
from kws.corpus import Clip, mentions, read_corpus, spoken_keyword
from kws.errors import ConfigError, DataError
from kws.evaluate.channels import ChannelSettings
from kws.evaluate.span import speech_span, word_span
from kws.folds import folded, parse_fold
from kws.gate import GateSettings

Audio = NDArray[np.float32]

AMBIENT_KINDS = ("speech", "music", "noise")
STREAM_SECONDS = 240.0
"""Short ambient clips of one source are joined until a stream is this long."""
NOISE_SECONDS = 30.0
"""Of each noise or music recording, only the beginning is decoded for mixing."""
QUIETEST_NOISE_DBFS = -60.0
"""A quieter excerpt (a pause in the music) is drawn again."""


@dataclass(frozen=True)
class EvaluationSettings:
    """The scoring rules. The defaults are the ones behind every published figure (configs/evaluate.yaml)."""

    split: str = "dev"
    """Part of the corpus that is played."""
    fold: str = ""
    """With other speakers in that part: "2/5" as in `validation.fold` of the recipe that made the model."""
    snr_db: tuple[float, ...] = (10.0, 0.0)
    """Signal to noise ratios of the noisy conditions; "clean" is always played. The first ranks models."""
    noise_sources: tuple[str, ...] = ("gsc_noise",)
    """Sources mixed in whatever their split, beside its noise and music: hold them out of training."""
    mixes: int = 3
    """Different noise excerpts for each positive recording and ratio."""
    lead_in_seconds: float = 2.5
    """Faint noise before each recording, so that the network has settled."""
    tail_seconds: float = 1.2
    """Faint noise after each recording; longer than the hit window."""
    floor_dbfs: float = -66.0
    """Level of that faint noise."""
    hit_window_seconds: float = 1.0
    """A peak from the start of the word until this long after its end is a hit."""
    false_accepts_per_hour: tuple[float, ...] = (0.1, 0.5, 1.0)
    """Operating points in the report."""
    calibrated_at: float = 0.5
    """The one whose thresholds `--update` writes into the model."""
    seed: int = 1
    """Of the noise drawn for each recording."""
    channels: ChannelSettings = field(default_factory=ChannelSettings)
    """What `--robustness` adds."""
    gate: GateSettings = field(default_factory=GateSettings)
    """The one that `--gate` measures."""

    def __post_init__(self) -> None:
        """Refuse settings under which a hit could never be seen."""
        if self.tail_seconds < self.hit_window_seconds:
            raise ConfigError("tail_seconds must be at least hit_window_seconds; lengthen it")
        if self.calibrated_at not in self.false_accepts_per_hour:
            raise ConfigError("calibrated_at must be one of false_accepts_per_hour; add it there")
        if self.mixes < 1:
            raise ConfigError("mixes must be at least 1; raise it")
        if self.fold:
            parse_fold(self.fold)


@dataclass(frozen=True)
class Playlist:
    """The recordings of one evaluation."""

    positives: list[Clip]
    """One keyword each, with or without a lead-in word; real ("keyword") and synthetic."""
    phrases: list[Clip]
    """Other words and near misses: no keyword in any of them."""
    ambient: list[list[Clip]]
    """Streams of audio without a keyword, each one recording or several short ones of a source."""
    noise: list[Clip]
    """What positives are mixed with."""
    keywords: tuple[str, ...]
    """What is judged."""


def read_clips(folder: Path, keywords: Iterable[str], settings: EvaluationSettings) -> list[Clip]:
    """A corpus with its speakers in the splits that the settings' fold gives them."""
    return folded(read_corpus(folder), keywords, settings.split, settings.fold)


def make_playlist(clips: Iterable[Clip], keywords: Iterable[str], settings: EvaluationSettings) -> Playlist:
    """Choose from the clips of a corpus (`read_clips`); DataError when nothing can be measured."""
    keywords = tuple(keywords)
    positives, phrases, ambient, noise = [], [], [], []
    for clip in clips:
        in_split = clip.split == settings.split
        if clip.source in settings.noise_sources or (in_split and clip.kind in ("noise", "music")):
            noise.append(clip)
        if not in_split or clip.kind == "rir":
            continue
        if spoken_keyword(clip, keywords):
            positives.append(clip)
        elif mentions(clip, keywords):
            continue  # a keyword inside a sentence: neither a fair positive nor a negative
        elif clip.kind in AMBIENT_KINDS:
            ambient.append(clip)
        else:
            phrases.append(clip)
    if not positives:
        raise DataError(f"no {settings.split} clip says {', '.join(keywords)}; choose another split")
    if not ambient:
        raise DataError(f"no {settings.split} audio is without keywords; add speech, music or noise")
    if settings.snr_db and not noise:
        raise DataError(f"there is no {settings.split} noise to mix with; add some or measure clean only")
    return Playlist(positives, phrases, _streams(ambient), noise, keywords)


class Mixer:
    """Builds the soundtrack of one recording: lead-in, recording, tail, and noise over all of it."""

    def __init__(self, noise: Iterable[Clip], sample_rate_hz: int, settings: EvaluationSettings) -> None:
        self.settings, self.rate_hz = settings, sample_rate_hz
        self._clips: dict[str, list[Clip]] = defaultdict(list)
        for clip in noise:
            self._clips[clip.kind].append(clip)
        self._loaded: dict[Path, Audio] = {}

    def track(self, samples: Audio, word: tuple[int, int], snr_db: float | None, seed: int) -> Audio:
        """The soundtrack, at most full scale.

        Args:
            samples: The recording, (n,), -1..1.
            word: First sample of the speech in it and the one after its last.
            snr_db: RMS of the speech over the RMS of the noise excerpt; None adds no noise.
            seed: The same seed draws the same noise.
        """
        rng = np.random.default_rng([self.settings.seed, seed])
        faint = 10 ** (self.settings.floor_dbfs / 20)
        before, after = (
            faint * rng.standard_normal(round(seconds * self.rate_hz))
            for seconds in (self.settings.lead_in_seconds, self.settings.tail_seconds)
        )
        track = np.concatenate((before, samples, after)).astype(np.float32)
        if snr_db is not None:
            noise = self._excerpt(len(track), rng)
            track += noise * np.float32(_rms(samples[slice(*word)]) / _rms(noise) * 10 ** (-snr_db / 20))
        track /= max(1.0, float(np.abs(track).max()))
        return track

    def place(self, word: tuple[int, int]) -> tuple[int, int]:
        """Where in the soundtrack a word of the recording lies."""
        before = round(self.settings.lead_in_seconds * self.rate_hz)
        return word[0] + before, word[1] + before

    def _excerpt(self, count: int, rng: np.random.Generator) -> Audio:
        """`count` samples of a random place in a random recording; noise and music equally often."""
        quietest = 10 ** (QUIETEST_NOISE_DBFS / 20)
        for _ in range(100):
            clips = self._clips[str(rng.choice(sorted(self._clips)))]
            noise = self._load(clips[int(rng.integers(len(clips)))])
            start = int(rng.integers(max(1, len(noise) - count)))
            excerpt = np.resize(noise[start : start + count], count)  # a short recording repeats
            if _rms(excerpt) > quietest:
                return excerpt
        raise DataError("the noise recordings are silent; name other noise_sources")

    def _load(self, clip: Clip) -> Audio:
        if clip.path not in self._loaded:
            blocks = file_blocks(clip.path, self.rate_hz, block_ms=round(1000 * NOISE_SECONDS))
            self._loaded[clip.path] = next(blocks)
        return self._loaded[clip.path]


def find_word(clip: Clip, samples: Audio, sample_rate_hz: int) -> tuple[int, int]:
    """Where the keyword of a positive clip is: as marked by hand, or by its energy."""
    if clip.start_s is not None and clip.end_s is not None:
        return round(clip.start_s * sample_rate_hz), min(round(clip.end_s * sample_rate_hz), len(samples))
    # Synthetic phrases are clean and may have words before the keyword, real recordings are neither.
    find = speech_span if clip.kind == "synthetic" else word_span
    return find(samples, sample_rate_hz)


def _streams(clips: list[Clip]) -> list[list[Clip]]:
    """Join short clips of one source and kind; the longest streams first, so that workers finish together."""
    streams: list[list[Clip]] = []
    for clip in sorted(clips, key=lambda c: (c.source, c.kind, str(c.path))):
        last = streams[-1] if streams else []
        fits = sum(c.seconds for c in last) + clip.seconds <= STREAM_SECONDS
        if last and fits and (last[0].source, last[0].kind) == (clip.source, clip.kind):
            last.append(clip)
        else:
            streams.append([clip])
    return sorted(streams, key=lambda stream: -sum(c.seconds for c in stream))


def _rms(samples: Audio) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) if len(samples) else 0.0
