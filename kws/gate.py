"""A gate before the model: while there is nothing but the steady background, nothing is computed.

The gate follows the background in four bands and opens when one of them rises above it. It then replays what
it held back, so that no beginning of a word is lost, and stays open until it has been quiet for a while. It
is no judge of speech: whatever changes opens it, and while a television is on it is simply open.
"""

import math
from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from operator import gt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kws.errors import ConfigError
from kws.features import Samples, unit_scale

STEP_MS = 80
"""The gate decides once in so much audio: one block of the microphone, one step of the model."""

WAVE_HZ = 500
"""Distance of two waves whose halves fit into a millisecond."""
BANDS_HZ = (500, 1000, 2000, 4000, 8000)
"""First waves of the four bands, and the end. What is below, hum and rumble, may be loud and says nothing."""

LOWEST = 1e-9
"""Added to the power of a band's background, -90 dBFS: so much noise makes the last bit of 16."""

_PARTS = 5  # of the time in which the background is sought


@dataclass(frozen=True)
class GateSettings:
    """When to compute nothing; the defaults are measured (docs/evaluation.md)."""

    enabled: bool = True
    """False: everything is passed on."""
    margin_db: float = 5.0
    """A band this far above its background opens the gate, dB; 1..20."""
    hang_over_seconds: float = 1.0
    """So long after the last such moment it stays open; 0.5..30."""
    pre_roll_seconds: float = 2.5
    """So much of what was held back is replayed when it opens; 0.2..5. At least as long as a score remembers
    (`Manifest.memory_seconds`): then every score from the opening on is the ungated one."""
    background_seconds: float = 10.0
    """The background is the quietest moment of so much audio, and the gate starts open for as long; 2..60."""

    def __post_init__(self) -> None:
        """Refuse what would lose words."""
        for name, low, high in (
            ("margin_db", 1, 20),
            ("hang_over_seconds", 0.5, 30),
            ("pre_roll_seconds", 0.2, 5),
            ("background_seconds", 2, 60),
        ):
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"{name} must lie in {low}..{high}; correct it, or set enabled: false")


class Passage(NamedTuple):
    """Audio without a gap."""

    skipped_before: int
    """Samples that were left out between it and the last passage."""
    samples: Samples
    """(n,), for the model."""


class Gate:
    """Follows one stream of audio and passes on what may hold speech.

    It decides on a grid of `STEP_MS`, so the same audio passes however it is cut into calls of `feed`.
    """

    def __init__(self, settings: GateSettings, sample_rate_hz: int) -> None:
        self.settings = settings
        self.step_samples = sample_rate_hz * STEP_MS // 1000
        self._step = np.zeros(self.step_samples, np.float32)
        self._rows = self._step.reshape(-1, sample_rate_hz // 1000)
        self._cosines = _cosines(sample_rate_hz // 1000)
        self._waves = np.zeros(self._rows.T.shape, np.float32)
        edges = [hz // WAVE_HZ for hz in BANDS_HZ]
        bands = [self._waves[first:end].reshape(-1) for first, end in pairwise(edges)]
        self._views = [*bands, self._step]  # what is measured: each band, and the whole
        self._margin = 10 ** (settings.margin_db / 10)
        self._hang_over_steps = _steps(settings.hang_over_seconds)
        self._part_steps = _steps(settings.background_seconds / _PARTS)
        self._parts: deque[list[float]] = deque(maxlen=_PARTS - 1)  # lowest power of each band; one part runs
        self._held: deque[NDArray[np.float32]] = deque(maxlen=_steps(settings.pre_roll_seconds) + 1)
        self.reset()

    def reset(self) -> None:
        """Start a new stream, whose background is unknown; the counters start anew."""
        self.is_open = True
        self.samples = 0
        """Heard so far."""
        self.skipped_samples = 0
        """Of these, not passed on for good."""
        self._since_passage = 0  # skipped samples that no passage has told yet
        self._filled = 0
        self._open_steps = _PARTS * self._part_steps
        self._held.clear()
        self._parts.clear()
        self._lowest = self._background = [math.inf] * len(self._views)
        self._power = [0.0] * len(self._views)
        self._part_left = self._part_steps

    @property
    def level_dbfs(self) -> float:
        """RMS of the last step, in decibels below a full-scale square wave; at least -100."""
        return _dbfs(self._power[-1])

    @property
    def floor_dbfs(self) -> float:
        """The background's level, likewise."""
        return _dbfs(self._background[-1])

    def feed(self, samples: Samples) -> list[Passage]:
        """Add int16 or float32 (-1..1) mono samples, any number; return what the model must hear now.

        While the gate is open every sample is passed on at once. Of `STEP_MS` of audio at a time, there is at
        most one passage that follows a gap.
        """
        scale = unit_scale(samples)
        self.samples += len(samples)
        passages: list[Passage] = []
        position = 0
        while position < len(samples):
            part = samples[position : position + self.step_samples - self._filled]
            np.multiply(part, scale, out=self._step[self._filled : self._filled + len(part)])
            self._filled += len(part)
            position += len(part)
            if self.is_open:
                passages.append(Passage(0, part))
            if self._filled == self.step_samples:
                self._filled = 0
                if self._decide():
                    passages.append(self._replay())
        return passages

    def _decide(self) -> bool:
        """Judge the finished step, hold it back or close; true when the gate opens with it."""
        is_loud = self._measure()
        if is_loud:
            self._open_steps = max(self._open_steps, self._hang_over_steps)
        if self.is_open:
            self._open_steps -= not is_loud
            self.is_open = self._open_steps > 0
            return False
        if len(self._held) == self._held.maxlen:
            self.skipped_samples += self.step_samples
            self._since_passage += self.step_samples
        self._held.append(self._step.copy())
        self.is_open = is_loud
        return is_loud

    def _replay(self) -> Passage:
        passage = Passage(self._since_passage, np.concatenate(self._held))
        self._held.clear()
        self._since_passage = 0
        return passage

    def _measure(self) -> bool:
        """Power of the finished step in each band; true if one of them is above its background.

        A band's background is its lowest power in the last parts, the running one among them. (Five numbers:
        as plain ones they are faster than an array.)
        """
        np.matmul(self._cosines, self._rows.T, out=self._waves)
        power = self._power = [float(view.dot(view)) / self.step_samples for view in self._views]
        self._lowest = list(map(min, self._lowest, power))
        self._background = list(map(min, self._background, power))
        limits = [self._margin * (usual + LOWEST) for usual in self._background]
        limits[-1] = math.inf  # the whole is not judged: it has hum and rumble in it
        self._part_left -= 1
        if not self._part_left:
            self._begin_part()
        return any(map(gt, power, limits))

    def _begin_part(self) -> None:
        self._parts.append(self._lowest)
        self._background = [min(column) for column in zip(*self._parts, strict=True)]
        self._lowest = [math.inf] * len(self._views)
        self._part_left = self._part_steps


def _cosines(count: int) -> NDArray[np.float32]:
    """Splits `count` samples into waves of 0, 0.5, 1... periods: orthonormal DCT-II, (waves, count)."""
    k = np.arange(count)
    waves = np.sqrt(2 / count) * np.cos(np.pi / count * k[:, None] * (k + 0.5))
    waves[0] /= np.sqrt(2)
    return np.asarray(waves, np.float32)


def _steps(seconds: float) -> int:
    return math.ceil(round(1000 * seconds) / STEP_MS)


def _dbfs(power: float) -> float:
    return 10 * math.log10(max(power, 1e-10)) if power < math.inf else -100.0
