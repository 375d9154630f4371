"""Where samples come from: a microphone, an audio file, or raw samples on standard input.

Every source is an iterator of blocks, mono, at the rate that is asked for. A source that cannot be opened or
read raises AudioError. The libraries are imported when the first source of their kind is opened.
"""

import math
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from kws.errors import AudioError
from kws.features import Samples

BLOCK_MS = 80
"""Audio per block while listening: shorter blocks wake the processor more often, longer ones add delay."""

_FILE_BLOCK_MS = 10_000  # when a file is read whole
_INVALID_CHANNELS, _DEVICE_BUSY, _INVALID_RATE = -9998, -9985, -9997  # PortAudio's error codes


@dataclass(frozen=True)
class Device:
    """One input of the sound system."""

    index: int
    name: str
    channels: int
    default_rate_hz: int
    is_default: bool


def devices() -> list[Device]:
    """All inputs that PortAudio lists."""
    portaudio = _portaudio()
    default = portaudio.default.device[0]
    return [
        Device(
            index=index,
            name=info["name"],
            channels=info["max_input_channels"],
            default_rate_hz=round(info["default_samplerate"]),
            is_default=index == default,
        )
        for index, info in enumerate(portaudio.query_devices())
        if info["max_input_channels"] > 0
    ]


class Microphone:
    """An open input device; read it with `blocks`, use it in a `with` statement.

    Blocking reads in the caller's thread: they need neither a second thread nor executable memory, which a
    hardened service forbids. A device that cannot do `sample_rate_hz` is resampled; of several channels the
    first is used.
    """

    def __init__(self, sample_rate_hz: int, device: int | str | None = None) -> None:
        self._portaudio = _portaudio()
        info = self._find(device)
        self.name: str = info["name"]
        native_hz, channels = round(info["default_samplerate"]), info["max_input_channels"]
        # Most sound servers convert for us; bare hardware may insist on its own rate or channel count.
        forms = [(sample_rate_hz, 1), (sample_rate_hz, channels), (native_hz, 1), (native_hz, channels)]
        self._stream, rate_hz = self._open(info["index"], forms)
        self._block = rate_hz * BLOCK_MS // 1000
        self._resampler = None if rate_hz == sample_rate_hz else resampler(rate_hz, sample_rate_hz, "int16")

    def blocks(self) -> Iterator[NDArray[np.int16]]:
        """Blocks of 80 ms for as long as the device delivers; AudioError when it stops."""
        while True:
            try:
                samples, _overflowed = self._stream.read(self._block)
            except self._portaudio.PortAudioError as error:
                raise AudioError(
                    f"the microphone {self.name!r} stopped ({_reason(error)}); plug it in again and restart"
                ) from error
            first = samples[:, 0]
            yield first if self._resampler is None else self._resampler.resample_chunk(first.copy())

    def close(self) -> None:
        """Give the device back."""
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _find(self, device: int | str | None) -> Any:
        try:
            return self._portaudio.query_devices(device, "input")
        except (ValueError, self._portaudio.PortAudioError) as error:
            what = "there is no microphone" if device is None else f"there is no microphone {device!r}"
            raise AudioError(f"{what}; plug one in, or choose one of: kws devices") from error

    def _open(self, index: int, forms: list[tuple[int, int]]) -> tuple[Any, int]:
        reason = "no usable format"
        for rate_hz, channels in dict.fromkeys(forms):
            try:
                stream = self._portaudio.InputStream(
                    rate_hz, device=index, channels=channels, dtype="int16", latency="high"
                )
            except self._portaudio.PortAudioError as error:
                reason = _reason(error)
                if _code(error) == _DEVICE_BUSY:
                    reason = "another program uses it"
                if _code(error) not in (_INVALID_RATE, _INVALID_CHANNELS):
                    break
            else:
                stream.start()
                return stream, rate_hz
        raise AudioError(
            f"cannot open the microphone {self.name!r} ({reason}); free it, or choose one of: kws devices"
        )


def read_audio(path: Path, sample_rate_hz: int) -> NDArray[np.float32]:
    """A whole audio file as mono float32 (-1..1) at `sample_rate_hz`; of several channels the first."""
    return np.concatenate(list(file_blocks(path, sample_rate_hz, block_ms=_FILE_BLOCK_MS)))


def file_blocks(path: Path, sample_rate_hz: int, block_ms: int = BLOCK_MS) -> Iterator[NDArray[np.float32]]:
    """The blocks of an audio file: mono float32 (-1..1) at `sample_rate_hz`, the first of several channels.

    Raises:
        AudioError: the file is missing, unreadable, empty, or holds NaN or infinite samples.
    """
    import soundfile  # noqa: PLC0415

    if not path.is_file():
        raise AudioError(f"there is no audio file {path}; check the path")
    try:
        if not path.stat().st_size:
            raise AudioError(f"{path} is an empty file; record it again")
        with soundfile.SoundFile(path) as file:
            if not file.frames:
                raise AudioError(f"{path} holds no audio; record it again")
            yield from _resampled(_first_channel(file, block_ms), file.samplerate, sample_rate_hz, path)
    except soundfile.LibsndfileError as error:
        reason = error.error_string.removeprefix("Error : ").rstrip(".")
        raise AudioError(f"cannot read {path} ({reason}); convert it to WAV or FLAC") from error
    except PermissionError as error:
        raise AudioError(f"cannot read {path} ({error.strerror}); change its permissions") from error


def raw_stdin(sample_rate_hz: int) -> Iterator[NDArray[np.int16]]:
    """Blocks of raw signed 16-bit little-endian mono samples from standard input, until it ends."""
    if sys.stdin.isatty():
        raise AudioError(
            "standard input is a terminal, not audio; "
            f"pipe samples in: arecord -t raw -f S16_LE -r {sample_rate_hz} | kws listen --source -"
        )
    size = sample_rate_hz * BLOCK_MS // 1000 * 2
    data = sys.stdin.buffer.read(size)
    if len(data) < 2:
        raise AudioError("standard input holds no audio; check the program that writes to it")
    while data:
        yield np.frombuffer(data[: len(data) // 2 * 2], "<i2").astype(np.int16, copy=False)
        data = sys.stdin.buffer.read(size)


def paced(blocks: Iterable[Samples], sample_rate_hz: int) -> Iterator[Samples]:
    """The same blocks, each held back until a microphone would have delivered it."""
    start, samples = time.monotonic(), 0
    for block in blocks:
        samples += len(block)
        time.sleep(max(0, start + samples / sample_rate_hz - time.monotonic()))
        yield block


def level_dbfs(samples: Samples) -> float:
    """RMS level, in decibels below a full-scale square wave; -inf for digital silence."""
    scale = 32768.0 if samples.dtype == np.int16 else 1.0
    power = float(np.mean(np.square(samples, dtype=np.float64))) if len(samples) else 0.0
    return 10 * math.log10(power / scale**2) if power else -math.inf


def _first_channel(file: Any, block_ms: int) -> Iterator[NDArray[np.float32]]:
    size = max(1, file.samplerate * block_ms // 1000)
    while len(block := file.read(size, dtype="float32", always_2d=True)):
        yield np.ascontiguousarray(block[:, 0])


def _resampled(
    blocks: Iterator[NDArray[np.float32]], from_hz: int, to_hz: int, path: Path
) -> Iterator[NDArray[np.float32]]:
    converter = None if from_hz == to_hz else resampler(from_hz, to_hz, "float32")
    for block in blocks:
        if not np.isfinite(block).all():
            raise AudioError(f"{path} holds NaN or infinite samples; export it again from its source")
        yield block if converter is None else converter.resample_chunk(block)
    if converter is not None:
        yield converter.resample_chunk(np.zeros(0, np.float32), last=True)


def resampler(from_hz: int, to_hz: int, dtype: str) -> Any:
    """Converts a stream of blocks of that type: `resample_chunk(block, last=False)`."""
    import soxr  # noqa: PLC0415

    return soxr.ResampleStream(from_hz, to_hz, 1, dtype=dtype)


def _portaudio() -> Any:
    try:
        import sounddevice  # noqa: PLC0415
    except OSError as error:  # the Python package is there, the C library is not
        raise AudioError("PortAudio is not installed; run: sudo apt install libportaudio2") from error
    except Exception as error:  # its own PortAudioError, which cannot be named before the import
        raise AudioError(f"the sound system does not start ({_reason(error)}); check ~/.asoundrc") from error
    return sounddevice


def _code(error: Exception) -> int:
    return int(error.args[1]) if len(error.args) > 1 else 0


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
