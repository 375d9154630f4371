"""Automatic gain for each band: how far it stands out of its own recent level; a steady noise fades away.

Per-channel energy normalisation (PCEN, arXiv 1607.05666): ``sqrt(E / (1 + M) ** exponent + bias)``
less its value at silence, where E is a frame's mel power over the floor and M the mean of it over the last
frames, weighted exponentially. The original's mean never ends; this one does after `frames`, so that what was
heard long ago changes no bit of what is heard now.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kws.errors import ConfigError

Power = NDArray[np.float32]


@dataclass(frozen=True)
class GainSettings:
    """How a band's level is followed, and how much of it is taken away."""

    frames: int = 64
    """Frames under the mean, the current one included."""
    decay: float = 0.95
    """Weight of a frame over that of the one after it."""
    exponent: float = 0.98
    """1 would take the level away entirely, 0 leaves it."""
    bias: float = 2.0
    """Power over level below which differences are flattened."""
    scale: float = 1.5
    """Multiplies the result, which then uses the range of a code, 0..10."""

    def __post_init__(self) -> None:
        """Refuse what is no mean."""
        if self.frames < 1 or not 0 < self.decay <= 1:
            raise ConfigError("frames must be at least 1 and decay within 0..1; correct them")

    def averaging(self, count: int) -> NDArray[np.float32]:
        """Matrix (count, frames - 1 + count) from past and current power to the levels of `count` frames."""
        weights = np.power(self.decay, np.arange(self.frames - 1, -1, -1))  # oldest first
        weights = weights / weights.sum()
        rows = np.zeros((count, self.frames - 1 + count), np.float32)
        for i in range(count):
            rows[i, i : i + self.frames] = weights
        return rows


class Gain:
    """Stream of one recording: `feed` the power of a block of frames, get the block normalised."""

    def __init__(self, settings: GainSettings, block_frames: int, n_mels: int) -> None:
        self.settings = settings
        self._averaging = settings.averaging(block_frames)
        self._heard = np.zeros((settings.frames - 1 + block_frames, n_mels), np.float32)
        self._level = np.zeros((block_frames, n_mels), np.float32)
        self._past, self._silence = settings.frames - 1, np.float32(np.sqrt(settings.bias))

    def reset(self) -> None:
        """Forget the past: before the next frame it was silent."""
        self._heard.fill(0)

    def feed(self, power: Power) -> Power:
        """Normalise power over the floor (block_frames, n_mels), in place."""
        heard, level, s = self._heard, self._level, self.settings
        heard[: self._past] = heard[len(power) :]
        heard[self._past :] = power
        np.matmul(self._averaging, heard, out=level)
        np.log1p(level, out=level)
        np.multiply(level, np.float32(-s.exponent), out=level)
        np.exp(level, out=level)
        np.multiply(power, level, out=power)
        np.add(power, np.float32(s.bias), out=power)
        np.sqrt(power, out=power)
        np.subtract(power, self._silence, out=power)
        np.multiply(power, np.float32(s.scale), out=power)
        return power
