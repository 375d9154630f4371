"""Audio as clients send it, in any rate, width and number of channels, as the models hear it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kws.audio import resampler
from kws.features import FeatureSettings, Samples, unit_scale
from kws.network.wyoming.wire import BadEvent, shown

RATE_HZ = FeatureSettings.sample_rate_hz
RATES_HZ = range(4000, 384_001)
WIDTHS = range(1, 5)
"""Bytes of a sample, little-endian: unsigned if it is one, signed otherwise."""
CHANNELS = range(1, 33)


class Pcm:
    """Turns a stream of bytes of one format into mono samples at `RATE_HZ`; of several channels the first.

    A sample may be cut by the end of a chunk: its rest comes with the next one.
    """

    def __init__(self, rate_hz: int, width: int, channels: int) -> None:
        for name, value, legal in (
            ("rate", rate_hz, RATES_HZ),
            ("width", width, WIDTHS),
            ("channels", channels, CHANNELS),
        ):
            if not isinstance(value, int) or value not in legal:
                raise BadEvent(f"{name} must lie in {legal[0]}..{legal[-1]}, not {shown(value)}")
        self.format = (rate_hz, width, channels)
        self._rest = b""
        self._resampler: Any = None
        if rate_hz != RATE_HZ:
            self._resampler = resampler(rate_hz, RATE_HZ, "float32")  # of int16 it would add dither

    def feed(self, audio: bytes) -> Samples:
        """The next samples: int16 as they came, or float32 (-1..1) if anything had to be converted."""
        _, width, channels = self.format
        audio = self._rest + audio
        whole = len(audio) - len(audio) % (width * channels)
        self._rest = audio[whole:]
        samples = _first_channel(audio[:whole], width, channels)
        if self._resampler is None:
            return samples
        resampled: Samples = self._resampler.resample_chunk(samples * unit_scale(samples))
        return resampled

    def flush(self) -> Samples:
        """What the resampler still holds; then the stream is at its end."""
        if self._resampler is None:
            return np.zeros(0, np.int16)
        last: Samples = self._resampler.resample_chunk(np.zeros(0, np.float32), last=True)
        return last


def _first_channel(audio: bytes, width: int, channels: int) -> NDArray[np.int16] | NDArray[np.float32]:
    if width == 2:
        return np.frombuffer(audio, "<i2")[::channels].astype(np.int16)
    frames = np.frombuffer(audio, np.uint8).reshape(-1, width * channels)[:, :width]
    if width == 1:
        return (frames[:, 0].astype(np.float32) - np.float32(128)) / np.float32(128)
    # The bytes become the highest of 32 bits.
    words = np.zeros((len(frames), 4), np.uint8)
    words[:, 4 - width :] = frames
    return words.view("<i4")[:, 0].astype(np.float32) / np.float32(2**31)
