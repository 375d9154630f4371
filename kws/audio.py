"""Where samples come from beside a microphone: an audio file, or raw samples on standard input.

Every source is an iterator of blocks, mono, at the rate that is asked for. A source that cannot be opened or
read raises AudioError. The libraries are imported when the first source of their kind is opened.
"""

import math
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kws.errors import AudioError
from kws.features import Samples

BLOCK_MS = 80
"""Audio per block while listening: shorter blocks wake the processor more often, longer ones add delay."""

_FILE_BLOCK_MS = 10_000  # when a file is read whole


def duration_s(path: Path) -> float:
    """Length of an audio file in seconds.

    Raises:
        AudioError: it cannot be read.
    """
    import soundfile  # noqa: PLC0415

    try:
        return float(soundfile.info(str(path)).duration)
    except soundfile.LibsndfileError as error:
        raise AudioError(f"cannot read {path} ({error}); repair or remove it") from error


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
