"""A microphone without hardware: a PulseAudio server of its own, whose only source is what is written to it.

The program under test opens it through PortAudio and ALSA like any other. The writer sets the pace, so when a
sample was spoken is known to the millisecond.
"""

import contextlib
import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from kws.errors import AudioError

NAME = "kwsmic"
PROGRAMS = ("pulseaudio", "pactl", "parec")

_CHUNK_SECONDS = 0.08  # as a device with periods of the daemon's blocks: more often would wake it for nothing
_START_SECONDS = 10.0
_FULL_SECONDS = 5.0  # for a FIFO whose reader is slow

# Without the hint PortAudio does not list the device.
_ALSA = f"""
</usr/share/alsa/alsa.conf>
pcm.{NAME} {{
  type pulse
  device "{NAME}"
  hint {{
    show on
    description "kws virtual microphone"
  }}
}}
"""


class VirtualMicrophone:
    """Use it in a `with` statement; `environment` makes a program see it, `write` speaks into it."""

    def __init__(self, folder: Path, sample_rate_hz: int) -> None:
        """`folder` is empty and private, its path short: it holds sockets."""
        missing = [program for program in PROGRAMS if not shutil.which(program)]
        if missing:
            raise AudioError(
                f"{' and '.join(missing)} not installed; run: sudo apt install pulseaudio pulseaudio-utils "
                "libasound2-plugins"
            )
        self.sample_rate_hz = sample_rate_hz
        self._drain: subprocess.Popen[bytes] | None = None
        self._fifo, self._folder = folder / "fifo", folder
        runtime = folder / "run"
        runtime.mkdir(mode=0o700)
        (folder / "asound.conf").write_text(_ALSA)
        hidden = ("PULSE_SERVER", "PULSE_RUNTIME_PATH", "DBUS_SESSION_BUS_ADDRESS", "DISPLAY")
        self.environment = {name: value for name, value in os.environ.items() if name not in hidden} | {
            "HOME": str(folder),
            "XDG_RUNTIME_DIR": str(runtime),
            "ALSA_CONFIG_PATH": str(folder / "asound.conf"),
        }

    def __enter__(self) -> Self:
        source = (
            f"module-pipe-source source_name={NAME} file={self._fifo} "
            f"rate={self.sample_rate_hz} channels=1 format=s16le"
        )
        server = "module-native-protocol-unix auth-anonymous=1"
        with (self._folder / "pulseaudio.log").open("wb") as log:
            self._server = subprocess.Popen(
                ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "-L", server, "-L", source],
                stdin=subprocess.DEVNULL,
                stderr=log,
                env=self.environment,
            )
        try:
            self._wait()
            # Somebody must always listen: audio that nobody wants is not taken, and would be heard late.
            self._drain = subprocess.Popen(
                ["parec", f"--device={NAME}", "--latency-msec=1000"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=self.environment,
            )
            self._pipe = os.open(self._fifo, os.O_WRONLY | os.O_NONBLOCK)
        except BaseException:
            self._end()
            raise
        self._start_s, self.written = time.monotonic(), 0  # samples so far
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._pipe)
        self._end()

    def write(self, samples: NDArray[np.int16]) -> float:
        """Speak these samples, as slowly as anyone; returns when the first one was due (monotonic clock).

        Raises:
            AudioError: nothing takes them any more.
        """
        first_s = self._start_s + self.written / self.sample_rate_hz
        size = round(_CHUNK_SECONDS * self.sample_rate_hz)
        for start in range(0, len(samples), size):
            chunk = samples[start : start + size]
            self.written += len(chunk)
            # A chunk is there when its last sample has been spoken.
            time.sleep(max(0.0, self._start_s + self.written / self.sample_rate_hz - time.monotonic()))
            self._put(chunk.astype("<i2").tobytes())
        return first_s

    def _put(self, data: bytes) -> None:
        end_s = time.monotonic() + _FULL_SECONDS
        while data:
            try:
                data = data[os.write(self._pipe, data) :]
            except BlockingIOError:
                if time.monotonic() > end_s:
                    raise AudioError("the sound server takes no more audio; try again") from None
                time.sleep(0.002)
            except BrokenPipeError as error:
                raise AudioError(f"the sound server has ended; read {self._folder}/pulseaudio.log") from error

    def _wait(self) -> None:
        end_s = time.monotonic() + _START_SECONDS
        while subprocess.run(
            ["pactl", "info"], env=self.environment, capture_output=True, check=False
        ).returncode:
            if time.monotonic() > end_s or self._server.poll() is not None:
                raise AudioError(f"the sound server does not start; read {self._folder}/pulseaudio.log")
            time.sleep(0.05)

    def _end(self) -> None:
        for process in filter(None, (self._drain, self._server)):
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()
            process.wait()
