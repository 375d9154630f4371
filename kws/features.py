"""Streaming log-mel features in numpy: what the network hears, 40 or 80 numbers every 10 ms.

A frame is ``log10(1 + mel_power / floor)``: decibels over ten ("bel") above a fixed floor, never negative,
and exactly 0 for digital silence. So the integer zero point is 0, a fresh state means "it was silent before",
and one uint8 step over 0..10 bel is 0.39 dB. With a gain (`kws.gain`) a frame has a second half: how far each
band stands out of its own recent level; there too silence is 0. The training copy is `kws.train.frontend`; a
parity test holds the two together.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kws.errors import AudioError, ConfigError
from kws.gain import Gain, GainSettings

Samples = NDArray[np.int16] | NDArray[np.float32]
Frames = NDArray[np.float32]

FRAME_STEP_BEL = 10 / 255
"""Frames as uint8, for the network's input and for caches: 0..10 bel, which full scale does not exceed."""
BEL_PER_NAT = np.float32(1 / np.log(10))


@dataclass(frozen=True)
class FeatureSettings:
    """What turns samples into frames; part of every model's manifest."""

    sample_rate_hz: int = 16_000
    """Samples per second, mono."""
    window_ms: int = 25
    """Audio under one spectrum (periodic Hann window)."""
    hop_ms: int = 10
    """Time between two frames."""
    fft_size: int = 512
    """Window zero-padded to this many samples."""
    n_mels: int = 40
    """Triangular bands, evenly spaced on the HTK mel scale from `low_hz` to `high_hz`."""
    low_hz: float = 60.0
    """Lower edge of the first band."""
    high_hz: float = 7600.0
    """Upper edge of the last band."""
    floor: float = 1e-6
    """Mel power that maps to log10(2); about -90 dB of full scale for speech."""
    gain: GainSettings | None = None
    """A second half of each frame: how far each band stands out of its recent level. None: no such half."""

    def __post_init__(self) -> None:
        """Refuse settings that cannot work."""
        if not 0 <= self.low_hz < self.high_hz <= self.sample_rate_hz / 2:
            raise ConfigError("high_hz must lie above low_hz and at most at half the sample rate; change it")
        if self.fft_size < self.window_samples:
            raise ConfigError(f"fft_size must be at least the window of {self.window_samples}; enlarge it")
        if not 0 < self.hop_ms <= self.window_ms:
            raise ConfigError("hop_ms must be at least 1 and at most window_ms, or audio is lost; change it")

    @property
    def window_samples(self) -> int:
        """Samples under one window."""
        return self.sample_rate_hz * self.window_ms // 1000

    @property
    def hop_samples(self) -> int:
        """Samples between two frames."""
        return self.sample_rate_hz * self.hop_ms // 1000

    @property
    def log_mel(self) -> "FeatureSettings":
        """The same without a gain: what training keeps, and applies the gain to at every use."""
        return replace(self, gain=None)

    @property
    def frame_size(self) -> int:
        """Numbers in a frame."""
        return 2 * self.n_mels if self.gain else self.n_mels

    @property
    def past_frames(self) -> int:
        """Frames before it that a frame depends on."""
        return self.gain.frames - 1 if self.gain else 0


def unit_scale(samples: Samples) -> np.float32:
    """The factor that brings samples to -1..1.

    Raises:
        AudioError: more than one channel, neither int16 nor float32, or samples that are not finite.
    """
    if samples.ndim != 1:
        raise AudioError(f"samples must be mono, shape (n,), not {samples.shape}; choose one channel")
    if samples.dtype == np.int16:
        return np.float32(1 / 32768)
    if samples.dtype != np.float32:
        raise AudioError(f"samples must be int16 or float32, not {samples.dtype}; convert them")
    if not np.isfinite(samples).all():
        raise AudioError("audio contains NaN or infinite samples; repair the source")
    return np.float32(1)


def hann_window(settings: FeatureSettings) -> NDArray[np.float32]:
    """Periodic Hann window, shape (window_samples,)."""
    n = np.arange(settings.window_samples)
    return (0.5 - 0.5 * np.cos(2 * np.pi * n / settings.window_samples)).astype(np.float32)


def mel_matrix(settings: FeatureSettings) -> NDArray[np.float32]:
    """Triangular filters over the power spectrum, divided by the floor: (fft_size // 2 + 1, n_mels)."""
    mel_low, mel_high = (2595 * np.log10(1 + hz / 700) for hz in (settings.low_hz, settings.high_hz))
    edges_hz = 700 * (10 ** (np.linspace(mel_low, mel_high, settings.n_mels + 2) / 2595) - 1)
    bins_hz = np.fft.rfftfreq(settings.fft_size, 1 / settings.sample_rate_hz)[:, None]
    left, centre, right = edges_hz[:-2], edges_hz[1:-1], edges_hz[2:]
    rising, falling = (bins_hz - left) / (centre - left), (right - bins_hz) / (right - centre)
    triangles = np.maximum(0, np.minimum(rising, falling))
    return np.ascontiguousarray(triangles / settings.floor, dtype=np.float32)


class LogMel:
    """Stream of frames: `feed` any number of samples, get zero or more blocks of frames.

    Frames are always computed `block_frames` at a time, so the same audio gives the same bits however it is
    cut (a matrix product rounds differently for another number of rows).
    """

    def __init__(self, settings: FeatureSettings, block_frames: int = 8) -> None:
        self.settings, self.block_frames = settings, block_frames
        window, hop = settings.window_samples, settings.hop_samples
        self._block_samples = block_frames * hop
        self._span = self._block_samples - hop + window  # samples under one block of frames
        self._buffer = np.zeros(self._span, np.float32)
        self._filled = 0
        self._windows = np.lib.stride_tricks.sliding_window_view(self._buffer, window)[::hop]
        self._hann = hann_window(settings)
        self._padded = np.zeros((block_frames, settings.fft_size), np.float32)
        # Real and imaginary parts are squared in one pass: each spectral bin's filter row appears twice.
        self._mel = np.repeat(mel_matrix(settings), 2, axis=0)
        self._spectrum = np.zeros((block_frames, settings.fft_size // 2 + 1), np.complex64)
        self._parts = self._spectrum.view(np.float32)  # (block_frames, 2 * bins)
        self._power = np.zeros((block_frames, settings.n_mels), np.float32)
        self._frames = np.zeros((block_frames, settings.frame_size), np.float32)
        self._log_mel = self._frames[:, : settings.n_mels]
        self._gain = Gain(settings.gain, block_frames, settings.n_mels) if settings.gain else None

    def reset(self) -> None:
        """Forget the carried samples: the next sample is the first of a new stream."""
        self._filled = 0
        if self._gain:
            self._gain.reset()

    def feed(self, samples: Samples) -> Frames:
        """Add int16 or float32 (-1..1) mono samples; return finished frames, (n, frame_size)."""
        blocks = [block.copy() for block in self.blocks(samples)]
        return np.concatenate(blocks) if blocks else np.zeros((0, self.settings.frame_size), np.float32)

    def flush(self) -> Frames:
        """Frames of the last samples, the block filled up with silence; then reset."""
        rest = self._filled - (self._span - self._block_samples)  # samples that no frame has ended on yet
        missing = self._span - self._filled if rest > 0 else 0
        frames = self.feed(np.zeros(missing, np.float32))
        self.reset()
        return frames

    def blocks(self, samples: Samples) -> Iterator[Frames]:
        """Like `feed`, but yields each block as it is ready, in a buffer that the next block overwrites."""
        return self._blocks(samples, unit_scale(samples))

    def _blocks(self, samples: Samples, scale: np.float32) -> Iterator[Frames]:
        position, overlap = 0, self._span - self._block_samples
        while position < len(samples):
            count = min(self._span - self._filled, len(samples) - position)
            np.multiply(
                samples[position : position + count],
                scale,
                out=self._buffer[self._filled : self._filled + count],
            )
            self._filled += count
            position += count
            if self._filled == self._span:
                frames = self._compute()
                self._buffer[:overlap] = self._buffer[self._block_samples :]
                self._filled = overlap
                yield frames

    def _compute(self) -> Frames:
        window = self.settings.window_samples
        np.multiply(self._windows, self._hann, out=self._padded[:, :window])
        _rfft(self._padded, self._spectrum)
        np.multiply(self._parts, self._parts, out=self._parts)
        np.matmul(self._parts, self._mel, out=self._power)
        np.log1p(self._power, out=self._log_mel)
        np.multiply(self._log_mel, BEL_PER_NAT, out=self._log_mel)
        if self._gain:
            self._frames[:, self.settings.n_mels :] = self._gain.feed(self._power)
        return self._frames


def _rfft_by_numpy(rows: NDArray[np.float32], spectrum: NDArray[np.complex64]) -> None:
    np.fft.rfft(rows, out=spectrum)  # type: ignore[arg-type]


def _fastest_rfft() -> Callable[[NDArray[np.float32], NDArray[np.complex64]], object]:
    """The ufunc inside `np.fft.rfft`, whose wrapper takes longer than the transform of eight short rows.

    It is private to numpy, so it is used only where it is there and gives the same numbers.
    """
    try:
        from numpy.fft._pocketfft_umath import (  # type: ignore[import-not-found]  # noqa: PLC0415
            rfft_n_even,
        )

        def rfft(rows: NDArray[np.float32], spectrum: NDArray[np.complex64]) -> None:
            rfft_n_even(rows, _UNSCALED, out=spectrum)

        rows = np.linspace(-1, 1, 32, dtype=np.float32).reshape(2, 16)
        wanted, got = np.zeros((2, 9), np.complex64), np.zeros((2, 9), np.complex64)
        _rfft_by_numpy(rows, wanted)
        rfft(rows, got)
    except (ImportError, TypeError, ValueError):
        return _rfft_by_numpy
    return rfft if np.allclose(wanted, got, atol=1e-5) else _rfft_by_numpy


_UNSCALED = np.float32(1)
_rfft = _fastest_rfft()
