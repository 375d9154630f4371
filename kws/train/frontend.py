"""The front end of `kws.features` as batched torch modules, for training on any device.

A second implementation of one thing: tests keep both together. The gain is a module of its own, because
training keeps log-mel frames and varies them before the gain.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kws.features import FeatureSettings, hann_window, mel_matrix

BLOCK_FRAMES = 256
"""Levels computed at once."""


class LogMelBatch(nn.Module):
    """Samples (B, n) in -1..1 -> frames (B, n_mels, T), T = (n - window) // hop + 1."""

    window: Tensor
    mel: Tensor

    def __init__(self, settings: FeatureSettings) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("window", torch.from_numpy(hann_window(settings)), persistent=False)
        self.register_buffer("mel", torch.from_numpy(mel_matrix(settings)), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        """Log-mel frames, in bel above the floor."""
        s = self.settings
        windows = samples.unfold(-1, s.window_samples, s.hop_samples) * self.window  # (B, T, window)
        spectrum = torch.fft.rfft(windows, n=s.fft_size)
        power = spectrum.real.square() + spectrum.imag.square()
        return (torch.log1p(power @ self.mel) / math.log(10)).transpose(1, 2)


class GainBatch(nn.Module):
    """Log-mel frames (B, n_mels, T) to what the network hears, (B, frame_size, T): both halves."""

    averaging: Tensor

    def __init__(self, settings: FeatureSettings) -> None:
        super().__init__()
        self.settings = settings.gain
        if settings.gain:
            matrix = torch.from_numpy(settings.gain.averaging(BLOCK_FRAMES))
            self.register_buffer("averaging", matrix.T.contiguous(), persistent=False)

    @torch.no_grad()
    def forward(self, frames: Tensor, *, goes_on: bool = False) -> Tensor:
        """Add that half; before the first frame it was silent or, if it `goes_on`, as loud as that one."""
        s = self.settings
        if s is None:
            return frames
        power = torch.expm1(frames * math.log(10))
        levels = (1 + self._levels(power, goes_on)) ** -s.exponent
        standing_out = s.scale * ((power * levels + s.bias).sqrt() - math.sqrt(s.bias))
        return torch.cat((frames, standing_out), 1)

    def _levels(self, power: Tensor, goes_on: bool) -> Tensor:
        """Weighted mean of the last frames at each frame, (B, n_mels, T)."""
        assert self.settings is not None  # noqa: S101 - the caller has looked
        past, count = self.settings.frames - 1, power.shape[2]
        before = power[:, :, :1] if goes_on else torch.zeros_like(power[:, :, :1])
        short = -count % BLOCK_FRAMES
        heard = torch.cat((before.expand(-1, -1, past), F.pad(power, (0, short))), 2)
        blocks = heard.unfold(2, past + BLOCK_FRAMES, BLOCK_FRAMES) @ self.averaging
        return blocks.flatten(2)[:, :, :count]
