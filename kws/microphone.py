"""A microphone: the first form of a device that works, read in blocks by one thread.

Blocking reads in the caller's thread need neither a second thread nor executable memory, which a hardened
service forbids. A read sleeps until its block should be there and only then asks PortAudio for it:
PortAudio's own wait wakes up for every piece, and can spin or never return when the device has gone.

Nothing here recovers from anything: a device that fails raises AudioError, and whoever wants it back opens
it again (`kws.daemon.listener`).
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from kws.audio import resampler
from kws.errors import AudioError, ConfigError
from kws.portaudio import (
    DEVICE_BUSY,
    INVALID_CHANNELS,
    INVALID_RATE,
    code_of,
    forget_other_devices,
    library,
    reason_of,
)

_BUFFER_PERIODS = 4  # of the device: how late a reader may be before audio is lost; the default can be 40 ms
_PERIOD_BLOCKS = 2  # a device reports two blocks at a time: half the wake-ups, for a block of delay
_STALL_S = 5.0  # without audio until the device has failed; a Bluetooth headset needs seconds for its first
_MARGIN_S = 0.008  # audio comes in pieces of a few milliseconds: sleep past the last one rather than twice


@dataclass(frozen=True)
class MicrophoneSettings:
    """Which microphone, and what of it is heard."""

    device: int | str | None = None
    """Number or part of the name, as `kws devices` lists them; None is the system's default."""
    channels: int | None = None
    """Channels to open; None opens as few as `pick` needs, which a sound server may fill with its own mix."""
    pick: int | Literal["mix"] | tuple[float, ...] = 0
    """What is heard of the channels: one of them (from 0), the mean of all, or the sum by these weights."""
    block_ms: int = 80
    """Audio per block, 40 to 160 ms: shorter blocks wake the processor more often, longer ones add delay."""
    flat_line_seconds: float = 10.0
    """Time without any change of the samples after which the microphone counts as dead; 0 never."""

    def __post_init__(self) -> None:
        if self.channels is not None and not 1 <= self.channels <= 64:
            raise ConfigError(
                f"channels must be 1 to 64, not {self.channels}; kws devices tells how many there are"
            )
        if isinstance(self.pick, int) and self.pick < 0:
            raise ConfigError(f"pick must be a channel from 0, not {self.pick}; choose another")
        if isinstance(self.pick, tuple) and not (
            self.pick and all(np.isfinite(self.pick)) and any(self.pick)
        ):
            raise ConfigError("pick must hold a finite weight for each channel, not only zeros; give them")
        if self.channels is not None and not self._fits(self.channels):
            raise ConfigError(f"pick {self.pick!r} does not fit {self.channels} channels; change one of them")
        if not 40 <= self.block_ms <= 160:
            raise ConfigError(f"block_ms must be 40 to 160, not {self.block_ms}; 80 suits most machines")
        if not (self.flat_line_seconds == 0 or 1 <= self.flat_line_seconds <= 3600):
            raise ConfigError(
                f"flat_line_seconds must be 1 to 3600, or 0 for never, not {self.flat_line_seconds}; try 10"
            )

    @property
    def least_channels(self) -> int:
        """How many channels `pick` needs."""
        if isinstance(self.pick, tuple):
            return len(self.pick)
        return self.pick + 1 if isinstance(self.pick, int) else 1

    def _fits(self, channels: int) -> bool:
        return (
            self.least_channels == channels
            if isinstance(self.pick, tuple)
            else self.least_channels <= channels
        )


@dataclass(frozen=True, slots=True)
class Block:
    """What one read returned."""

    samples: NDArray[np.int16]
    """(n,), mono, at the rate that was asked for; a resampler makes n vary by a few."""
    frames: int
    """Samples of one channel that were read, at the device's own rate."""
    start_s: float
    """Monotonic time of the first sample."""
    read_s: float
    """Monotonic time at which the read returned."""
    backlog_ms: float
    """Audio that still waited in the device's buffer then: what the reader is behind."""
    overflowed: bool
    """The sound system says that it threw audio away; it often does so without a word."""
    is_flat: bool
    """All samples are the same: digital silence, or a device that is stuck."""


class Microphone:
    """An open input device; `read` it, or iterate over `blocks`, and use it in a `with` statement.

    A device that cannot do `sample_rate_hz` is resampled; one that cannot do few channels is opened with all.

    Attributes:
        name: The device's.
        rate_hz: The rate at which the device runs.
        channels: How many are open.
        reason: Why it runs in this form, in words.
    """

    def __init__(self, settings: MicrophoneSettings, sample_rate_hz: int) -> None:
        """Open and start the device; AudioError when it is missing, busy, or has no usable form."""
        self._portaudio = library()
        self._settings, self._sample_rate_hz = settings, sample_rate_hz
        self._period_s, self._took_s = _PERIOD_BLOCKS * settings.block_ms / 1000, 0.0
        info = self._find(settings.device)
        self.name: str = info["name"]
        self._stream, self.rate_hz, self.channels, self.reason = self._open(info)
        self._frames = self.rate_hz * settings.block_ms // 1000
        self._pending = np.zeros((0, self.channels), np.int16)
        self._weights = self._mixing()
        self._resampler: Any = None
        if self.rate_hz != sample_rate_hz:
            try:
                self._resampler = resampler(self.rate_hz, sample_rate_hz, "int16")
            except BaseException:
                self.close()
                raise

    def read(self) -> Block:
        """Wait for the next block; AudioError when the device fails."""
        try:
            frames, overflowed = self._take()
            backlog = len(self._pending)  # all that was there has been taken
        except self._portaudio.PortAudioError as error:
            raise AudioError(
                f"the microphone {self.name!r} stopped ({reason_of(error)}); plug it in again"
            ) from error
        read_s = time.monotonic()
        heard = self._mono(frames)
        return Block(
            samples=heard if self._resampler is None else self._resampler.resample_chunk(heard),
            frames=len(heard),
            start_s=read_s - (len(heard) + backlog) / self.rate_hz,
            read_s=read_s,
            backlog_ms=1000 * backlog / self.rate_hz,
            overflowed=overflowed,
            is_flat=bool((heard == heard[0]).all()),
        )

    def blocks(self) -> Iterator[NDArray[np.int16]]:
        """The samples of block after block for as long as the device delivers; AudioError when it stops."""
        while True:
            yield self.read().samples

    def close(self) -> None:
        """Give the device back; only in the thread that reads."""
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _take(self) -> tuple[NDArray[np.int16], bool]:
        """The next block, (frames, channels), and whether audio was thrown away before it.

        Everything that is there is taken, and what exceeds the block kept for the next: a piece that is
        taken in part stays locked in libpulse, which deadlocks if the sound server dies meanwhile.
        """
        give_up_s = time.monotonic() + _STALL_S
        overflowed = False
        while len(self._pending) < self._frames:
            available = self._stream.read_available
            missing = self._frames - len(self._pending) - available
            if missing <= 0:
                frames, overflowed = self._stream.read(available)
                self._took_s = time.monotonic()
                self._pending = np.concatenate([self._pending, frames])
            elif time.monotonic() > give_up_s:
                raise AudioError(f"the microphone {self.name!r} delivers nothing; plug it in again")
            else:
                # The device reports a period at a time: no use in looking before the next one.
                next_s = self._took_s + self._period_s - time.monotonic()
                time.sleep(max(missing / self.rate_hz, next_s) + _MARGIN_S)
        block, self._pending = self._pending[: self._frames], self._pending[self._frames :]
        return block, bool(overflowed)

    def _find(self, device: int | str | None) -> Any:
        try:
            return self._portaudio.query_devices(device, "input")
        except (ValueError, self._portaudio.PortAudioError) as error:
            if "Multiple" in str(error):
                raise AudioError(
                    f"several microphones match {device!r}; name one in full: kws devices"
                ) from error
            what = "there is no microphone" if device is None else f"there is no microphone {device!r}"
            raise AudioError(f"{what}; plug one in, or choose one of: kws devices") from error

    def _open(self, info: Any) -> tuple[Any, int, int, str]:
        """The first form that the device takes: as wanted, with all its channels, at its own rate."""
        wanted_hz, native_hz = self._sample_rate_hz, round(info["default_samplerate"])
        few = self._settings.channels or self._settings.least_channels
        counts = [few] if self._settings.channels else [few, max(few, info["max_input_channels"])]
        forms = dict.fromkeys((rate_hz, count) for rate_hz in (wanted_hz, native_hz) for count in counts)
        reason = "no usable format"
        for rate_hz, channels in forms:
            try:
                return (
                    self._start(info["index"], rate_hz, channels),
                    rate_hz,
                    channels,
                    _why(rate_hz, wanted_hz, channels, few),
                )
            except self._portaudio.PortAudioError as error:
                reason = "another program uses it" if code_of(error) == DEVICE_BUSY else reason_of(error)
                if code_of(error) not in (INVALID_RATE, INVALID_CHANNELS):
                    break
        raise AudioError(
            f"cannot open the microphone {self.name!r} ({reason}); free it, or choose one of: kws devices"
        )

    def _start(self, index: int, rate_hz: int, channels: int) -> Any:
        stream = self._portaudio.InputStream(
            rate_hz,
            device=index,
            channels=channels,
            dtype="int16",
            latency=_BUFFER_PERIODS * self._period_s,
        )
        try:
            stream.start()
        except BaseException:
            stream.close()
            raise
        forget_other_devices()
        return stream

    def _mixing(self) -> NDArray[np.float32] | None:
        """Weight of each channel; None when one of them is taken as it is."""
        pick = self._settings.pick
        if isinstance(
            pick, tuple
        ):  # a device that cannot do so few channels has more; they count for nothing
            return np.array(pick + (0,) * (self.channels - len(pick)), np.float32)
        if pick == "mix" and self.channels > 1:
            return np.full(self.channels, 1 / self.channels, np.float32)
        return None

    def _mono(self, frames: NDArray[np.int16]) -> NDArray[np.int16]:
        if self._weights is None:
            pick = self._settings.pick
            return np.ascontiguousarray(frames[:, pick if isinstance(pick, int) else 0])
        mixed = np.rint(frames.astype(np.float32) @ self._weights)
        samples: NDArray[np.int16] = np.clip(mixed, -32768, 32767).astype(np.int16)
        return samples


def _why(rate_hz: int, wanted_hz: int, channels: int, few: int) -> str:
    said = []
    if rate_hz != wanted_hz:
        said.append(f"it cannot do {wanted_hz} Hz and is resampled")
    if channels > few:
        said.append(f"it cannot do {few} channel{'s' if few > 1 else ''}")
    return "; ".join(said) or "as wanted"
