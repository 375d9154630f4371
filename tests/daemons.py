"""The daemon as a process at a virtual microphone: start it, speak to it, ask it, look at what it wrote."""

import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import RATE_HZ, WARNINGS, program_environment, quiet

from kws import client
from kws.errors import KwsError
from kws.evaluate.virtual_microphone import NAME, PROGRAMS, VirtualMicrophone

needs_microphone = pytest.mark.skipif(
    not all(map(shutil.which, PROGRAMS)), reason="needs pulseaudio and pulseaudio-utils"
)


def int16(samples: Any) -> Any:
    return np.round(32767 * samples).astype(np.int16)


class Room:
    """A quiet room with a microphone; what is said in it is heard in turn."""

    def __init__(self, folder: Path) -> None:
        self.microphone = VirtualMicrophone(folder, RATE_HZ)
        self._said: SimpleQueue[Any] = SimpleQueue()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._feed)

    def say(self, samples: Any) -> None:
        """float32 samples, heard as soon as what was said before is over."""
        self._said.put(int16(samples))

    def __enter__(self) -> "Room":
        self.microphone.__enter__()
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._is_over.set()
        self._thread.join()
        self.microphone.__exit__(None, None, None)

    def _feed(self) -> None:
        while not self._is_over.is_set():
            try:
                self.microphone.write(self._said.get_nowait())
            except Empty:
                self.microphone.write(int16(quiet(0.08, seed=self.microphone.written)))


class Daemon:
    """A running `kws run`."""

    def __init__(self, folder: Path, environment: dict[str, str], settings: dict[str, Any]) -> None:
        self.folder, self.runtime, self.state = folder, folder / "kws", folder / "state"
        self.config, self.log = folder / "kws.yaml", folder / "log"
        self.write(settings)
        self.notifications = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notifications.bind(str(folder / "notify"))
        self._told: SimpleQueue[str] = SimpleQueue()
        self._collector = threading.Thread(target=self._collect)
        self._collector.start()
        self.environment = {
            "RUNTIME_DIRECTORY": str(self.runtime),
            "STATE_DIRECTORY": str(self.state),
            "NOTIFY_SOCKET": str(folder / "notify"),
            "XDG_RUNTIME_DIR": str(folder),
            **environment,
        }
        self.start()

    def start(self, *before: str) -> None:
        """Start it (again); `before` it a program that runs it."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*before, sys.executable, "-m", "kws", "run", "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment,
            )

    def write(self, settings: dict[str, Any]) -> None:
        self.config.write_text(yaml.safe_dump(settings))

    def _collect(self) -> None:
        """Take what the service manager is told, as soon as it comes: its queue is short."""
        while message := self.notifications.recv(4096).decode():
            self._told.put(message)

    def told(self, start: str) -> str:
        """The next message to the service manager that starts so."""
        while True:
            try:
                message = self._told.get(timeout=15)
            except Empty:
                raise AssertionError(f"systemd was not told {start}: {self.log.read_text()}") from None
            if message.startswith(start):
                return message

    def ask(self, request: str, **more: Any) -> dict[str, Any]:
        return client.ask({"request": request, **more}, self.runtime, control=request != "status")

    def status(self) -> dict[str, Any]:
        return self.ask("status")

    def wait(self, condition: Callable[[dict[str, Any]], Any], seconds: float = 15) -> dict[str, Any]:
        """Status as soon as the condition holds."""
        end_s = time.monotonic() + seconds
        while True:
            try:
                status = self.status()
                if condition(status):
                    return status
            except KwsError:
                status = {}
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end_s, f"waited {seconds} s; {status}; {self.log.read_text()}"
            time.sleep(0.05)

    def heard(self) -> list[str]:
        return [e["keyword"] for e in self.status()["last_events"] if e["event"] == "detection"]

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", str(self.folder / "notify"))
        self._collector.join()
        self.notifications.close()

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(15)


@contextmanager
def running(room: Room | None, settings: dict[str, Any], **environment: str) -> Iterator[Daemon]:
    """A daemon that listens in the room (None: there is no microphone at all)."""
    with tempfile.TemporaryDirectory(prefix="kws-") as name:  # a short path: sockets need it
        folder = Path(name)
        around = program_environment(folder) | (room.microphone.environment if room else {})
        around |= {"PYTHONPATH": program_environment(folder)["PYTHONPATH"], "PYTHONWARNINGS": WARNINGS}
        settings = {"microphone": {"device": NAME}} | settings
        daemon = Daemon(folder, around | environment, settings)
        try:
            yield daemon
        finally:
            if daemon.process.poll() is None:
                daemon.process.kill()
            daemon.process.wait(10)
            daemon.close()


@pytest.fixture(scope="module")
def room() -> Iterator[Room]:
    with tempfile.TemporaryDirectory(prefix="kws-") as folder, Room(Path(folder)) as room:
        yield room


def descriptors(pid: int) -> int:
    """Of a process, those that stay: for a moment it also holds that of the client that asked it just now."""
    counts = []
    for _ in range(20):
        counts.append(len(list(Path(f"/proc/{pid}/fd").iterdir())))
        time.sleep(0.05)
    return min(counts)
