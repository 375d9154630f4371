"""The front end of `kws.features` as a batched torch module, for training on any device.

A second implementation of one thing: tests/test_features.py keeps both within 1e-4 bel.
"""

import math

import torch
from torch import Tensor, nn

from kws.features import FeatureSettings, hann_window, mel_matrix


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
