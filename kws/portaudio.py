"""PortAudio, as the Python package `sounddevice` brings it, and what has to be known about it.

It is not thread-safe: only one thread at a time may open, read, close or refresh. It lists devices once. Most
of its calls never return from a sound server that does not answer; `cut_off` is the way out.
"""

import ctypes
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kws.errors import AudioError

INVALID_CHANNELS, DEVICE_BUSY, INVALID_RATE = -9998, -9985, -9997
"""Of its error codes."""


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
    portaudio = library()
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


def refresh() -> None:
    """Let PortAudio look for devices again, which it does only once by itself; no microphone may be open."""
    portaudio = library()
    try:
        if portaudio._initialized:
            portaudio._terminate()
        portaudio._initialize()
    except portaudio.PortAudioError as error:
        raise AudioError(
            f"the sound system does not start ({reason_of(error)}); check ~/.asoundrc"
        ) from error


def cut_off() -> bool:
    """Cut this process's connections to sound servers; True if there was one.

    A thread that waits for a server that never answers (stopped, swapped out, hung) gets an error instead.
    Safe in any thread at any time.
    """
    found = False
    for entry in Path("/proc/self/fd").iterdir():
        try:
            if not str(entry.readlink()).startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(entry.name))) as connection:
                peer = connection.getpeername()
                if connection.family == socket.AF_UNIX and any(s in str(peer) for s in ("pulse", "pipewire")):
                    connection.shutdown(socket.SHUT_RDWR)
                    found = True
        except OSError:  # closed meanwhile, or not connected
            continue
    return found


def forget_other_devices() -> None:
    """Unload what ALSA loaded for devices that PortAudio only looked at.

    Many plugins are tried while it lists devices and stay in a cache; where ffmpeg's is installed that is an
    eighth of this program's memory. PortAudio itself makes this call when it ends; what is in use stays.
    """
    try:
        alsa = ctypes.CDLL("libasound.so.2", mode=os.RTLD_NOW | os.RTLD_NOLOAD)
    except OSError:  # PortAudio is built for another sound system
        return
    alsa.snd_config_update_free_global()


def library() -> Any:
    """The module `sounddevice`; AudioError where it or PortAudio does not start."""
    try:
        import sounddevice  # noqa: PLC0415
    except OSError as error:  # the Python package is there, the C library is not
        raise AudioError("PortAudio is not installed; run: sudo apt install libportaudio2") from error
    except Exception as error:  # its own PortAudioError, which cannot be named before the import
        raise AudioError(
            f"the sound system does not start ({reason_of(error)}); check ~/.asoundrc"
        ) from error
    return sounddevice


def code_of(error: Exception) -> int:
    """PortAudio's number of an error; 0 for another one."""
    return int(error.args[1]) if len(error.args) > 1 else 0


def reason_of(error: Exception) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
