"""A real mosquitto on a free port of the loopback, and an observer of what is published there."""

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

PROGRAM = shutil.which(
    "mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/sbin"
)

needs_broker = pytest.mark.skipif(PROGRAM is None, reason="needs mosquitto")


class Mosquitto:
    """The broker; `settings` are lines of its configuration."""

    def __init__(self, folder: Path, *settings: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._folder, self._log = folder, folder / "mosquitto.log"
        self._config = folder / "mosquitto.conf"
        lines = [f"listener {self.port} 127.0.0.1", "user root", *(settings or ["allow_anonymous true"])]
        self._config.write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Mosquitto":
        self.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.kill()

    def start(self) -> None:
        assert PROGRAM is not None
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [PROGRAM, "-c", str(self._config)], stdout=log, stderr=log, cwd=self._folder
            )
        end_s = time.monotonic() + 10
        while time.monotonic() < end_s:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            assert self._process.poll() is None, self._log.read_text()
            time.sleep(0.02)
        raise AssertionError(self._log.read_text())

    def kill(self) -> None:
        """As the kernel does when memory runs out."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
        self._process = None


class Seen(NamedTuple):
    topic: str
    payload: str
    is_retained: bool


class Observer:
    """Another client of the broker: it sees everything, and speaks as Home Assistant."""

    def __init__(self, port: int, username: str | None = None, password: str | None = None) -> None:
        self.seen: list[Seen] = []
        self._is_subscribed = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.reconnect_delay_set(0.1, 0.2)
        if username is not None:
            self._client.username_pw_set(username, password)
        self._client.on_message = self._on_message
        self._client.on_connect = lambda client, *_: client.subscribe("#", 1)
        self._client.on_subscribe = lambda *_: self._is_subscribed.set()
        self._port = port

    def __enter__(self) -> "Observer":
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        self.wait_until_subscribed()
        return self

    def __exit__(self, *_: Any) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def wait_until_subscribed(self) -> None:
        assert self._is_subscribed.wait(10)

    def expect_reconnection(self) -> None:
        """Before the broker is killed."""
        self._is_subscribed.clear()

    def _on_message(self, _client: Any, _data: Any, message: Any) -> None:
        self.seen.append(Seen(message.topic, message.payload.decode(errors="replace"), message.retain))

    def say(self, topic: str, payload: str | bytes, retain: bool = False) -> None:
        self._client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(10)

    def payloads(self, topic: str) -> list[str]:
        return [seen.payload for seen in self.seen if seen.topic == topic]

    def wait(self, condition: Callable[[], Any], seconds: float = 20) -> Any:
        end_s = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < end_s, f"waited {seconds} s, seen: {self.seen[-4:]}"
            time.sleep(0.02)
        return found

    def last(self, topic: str, condition: Callable[[str], Any] = bool) -> str:
        """The newest payload there, as soon as it is as wanted."""

        def newest() -> str | None:
            said = self.payloads(topic)
            return said[-1] if said and condition(said[-1]) else None

        found: str = self.wait(newest)
        return found


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """Without passwords."""
    with Mosquitto(tmp_path) as broker:
        yield broker


@pytest.fixture
def observer(broker: Mosquitto) -> Iterator[Observer]:
    with Observer(broker.port) as observer:
        yield observer
