"""A microphone as real as software can make it: PortAudio, ALSA, PulseAudio and a sink that plays a file."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import program_environment

PROGRAMS = ("pulseaudio", "pactl", "paplay")

needs_pulseaudio = [
    pytest.mark.system,
    pytest.mark.skipif(not all(map(shutil.which, PROGRAMS)), reason="needs pulseaudio and pulseaudio-utils"),
]

# Without the hint PortAudio does not list the device.
ALSA_CONFIGURATION = """
</usr/share/alsa/alsa.conf>
pcm.kwsmic {
  type pulse
  device "kwsmic.monitor"
  hint {
    show on
    description "kws virtual microphone"
  }
}
"""

# Without norewinds the first block takes two seconds.
NULL_SINK = "module-null-sink sink_name=kwsmic rate=48000 channels=2 format=s16le norewinds=1"


class SoundServer:
    """A sound server of its own in `folder`, whose microphone "kwsmic" hears what is played to its sink.

    `environment` is what a program needs to see it, `configuration` is ALSA's.
    """

    def __init__(self, folder: Path) -> None:
        runtime = folder / "run"
        runtime.mkdir(mode=0o700)
        self.configuration = folder / "asound.conf"
        self.configuration.write_text(ALSA_CONFIGURATION)
        self.environment = program_environment(folder) | {
            "XDG_RUNTIME_DIR": str(runtime),
            "ALSA_CONFIG_PATH": str(self.configuration),
        }
        for name in ("PULSE_SERVER", "PULSE_RUNTIME_PATH", "DBUS_SESSION_BUS_ADDRESS", "DISPLAY"):
            self.environment.pop(name, None)
        self._log = folder / "pulse.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Run it with the microphone plugged in."""
        options = ["--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no"]
        modules = ["-L", "module-native-protocol-unix auth-anonymous=1", "-L", NULL_SINK]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["pulseaudio", "-n", *options, *modules], stderr=log, env=self.environment
            )
        wait_for(lambda: self.pactl("info"), "the sound server")

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End it, or do to it what signal `number` does."""
        assert self._process is not None
        self._process.send_signal(number)
        if number in (signal.SIGKILL, signal.SIGTERM):
            self._process.wait(10)

    def close(self) -> None:
        """End it, whatever state it is in."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(10)

    def pactl(self, *arguments: str) -> str:
        """What `pactl` prints; empty when it fails."""
        done = subprocess.run(
            ["pactl", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=10,
        )
        return done.stdout if done.returncode == 0 else ""

    def unplug(self) -> None:
        """The microphone goes."""
        self.pactl("unload-module", "module-null-sink")

    def plug(self) -> None:
        """It comes back."""
        assert self.pactl("load-module", *NULL_SINK.split())

    def play(self, path: Path) -> "subprocess.Popen[bytes]":
        """Say something into the microphone, in real time."""
        return subprocess.Popen(["paplay", "--device=kwsmic", str(path)], env=self.environment)


def wait_for(condition, what, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.05)


def enter(server: SoundServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process see the sound server."""
    for name in ("XDG_RUNTIME_DIR", "ALSA_CONFIG_PATH", "HOME"):
        monkeypatch.setenv(name, server.environment[name])
    for name in set(os.environ) - set(server.environment):
        monkeypatch.delenv(name)
