"""The bridge between a daemon and an MQTT broker: Home Assistant sees what is heard, and may mute and tune.

The bridge is a client of the daemon's own unix sockets, as `kws events` is. So it may be a thread of the
daemon (`mqtt:` in kws.yaml) or a process beside a daemon that has no network at all (`kws mqtt`), and
whatever happens to it, nobody waits for it.
"""

import contextlib
import json
import logging
import os
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from random import uniform

from kws import client
from kws.errors import ConfigError, KwsError
from kws.network import discovery
from kws.network.backoff import Backoff
from kws.network.broker import Broker, Received
from kws.network.discovery import Topics
from kws.network.follower import Follower
from kws.network.outbox import Outbox
from kws.protocol import Folder, Message

CREDENTIAL = "mqtt"
"""Name of the systemd credential that holds the password, if no file is named."""
TRIGGER_S = 10.0
"""A device trigger says "now": for an older event it is not sent."""
HOLD_S = 15.0
"""After an outage Home Assistant may connect later than we do, and says so: older events wait for that."""

_PLAIN_PORT, _TLS_PORT = 1883, 8883
_SOON_S = 0.5  # after an event; so many events are one state
_COMMANDS_S = 0.25  # between two commands: who floods us does not flood the daemon
_BIRTH_S = 2.0  # Home Assistant asks not to be answered by everything at once
_STOP_S = 2.0
_STEADY_S = 20.0  # a connection of that length was none that failed

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MqttSettings:
    """A broker, and what is published there."""

    host: str
    """Name or address of the broker."""
    port: int | None = None
    """None: 1883, with TLS 8883."""
    username: str | None = None
    """None: without a password."""
    password_file: str | None = None
    """A file with the password alone; None: the systemd credential `mqtt`."""
    tls: bool = False
    """Encrypt, and check the broker's certificate."""
    ca_file: str | None = None
    """The authority that signed it, as PEM; None: those of the system."""
    name: str | None = None
    """Of the device; None: the instance, else the host name."""
    prefix: str = "kws"
    """Before all topics."""
    discovery_prefix: str = "homeassistant"
    """As set in Home Assistant."""
    state_seconds: float = 30.0
    """Between two messages with the figures of the daemon."""
    offline_seconds: float = 60.0
    """An event that could not be delivered for so long is dropped."""

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if not self.host:
            raise ConfigError("host is empty; name the broker")
        if self.port is not None and not 0 < self.port < 65536:
            raise ConfigError(f"port must be 1 to 65535, not {self.port}; correct it")
        if self.password_file is not None and self.username is None:
            raise ConfigError("password_file needs a username; add it")
        if self.ca_file is not None and not self.tls:
            raise ConfigError("ca_file is for tls; add tls: true")
        for key in ("prefix", "discovery_prefix"):
            if not getattr(self, key).strip("/") or set(getattr(self, key)) & set("+#\0$"):
                raise ConfigError(f"{key} must be a topic without +, # and $; correct it")
        if not 1 <= self.state_seconds <= 3600:
            raise ConfigError("state_seconds must be 1 to 3600; correct it")
        if not 0 <= self.offline_seconds <= 86_400:
            raise ConfigError("offline_seconds must be 0 to 86400; correct it")

    @property
    def tcp_port(self) -> int:
        """`port`, or the usual one."""
        return self.port or (_TLS_PORT if self.tls else _PLAIN_PORT)

    def password(self) -> str | None:
        """Read it; None where there is none. KwsError when it cannot be read."""
        path = self.password_file
        credentials = os.environ.get("CREDENTIALS_DIRECTORY")
        if path is None and credentials and Path(credentials, CREDENTIAL).exists():
            path = str(Path(credentials, CREDENTIAL))
        if path is None:
            return None
        try:
            return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8"
            raise KwsError(f"cannot read the password in {path} ({reason}); correct password_file") from None


class Mqtt:
    """The bridge of one daemon.

    Args:
        settings: The broker.
        folder: Of the daemon's sockets.
    """

    def __init__(self, settings: MqttSettings, folder: Folder) -> None:
        self._settings, self._folder = settings, folder
        instance = os.fspath(folder).rpartition("/")[2].partition("-")[2]
        self._name = settings.name or instance or socket.gethostname()
        self._topics = Topics(
            f"kws_{discovery.slug(self._name)}",
            settings.prefix.strip("/"),
            settings.discovery_prefix.strip("/"),
        )
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_writer.setblocking(False)
        self._is_over = threading.Event()
        self._follower = Follower(folder, self._wake)
        self._outbox = Outbox(settings.offline_seconds)
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)
        self._complaint: str | None = None
        self._words: list[str] = []
        self._described: Message | None = None
        self._commands: dict[str, bytes] = {}
        self._next_command_s = self._state_s = self._announce_s = self._hold_s = 0.0

    def start(self) -> None:
        """Run in a thread."""
        self._thread.start()

    def close(self) -> None:
        """Take leave of the broker; of one that does not answer without waiting for long."""
        self._is_over.set()
        self._wake()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)
        self._wake_writer.close()  # the thread closes the other end

    def _run(self) -> None:
        """Connect, and connect again, until `close`. What goes wrong is a line in the log."""
        self._follower.start()
        backoff = Backoff()
        while not self._is_over.is_set():
            start_s = time.monotonic()
            try:
                with self._connected() as broker:
                    self._serve(broker)
            except KwsError as error:
                self._complain(str(error))
            except Exception as error:
                self._complain(f"{type(error).__name__}: {error}")
                _log.debug("mqtt", exc_info=True)
            self._outbox.disconnected()
            if time.monotonic() - start_s > _STEADY_S:  # not where two of one name throw each other out
                backoff.reset()
            self._is_over.wait(backoff.pause_s())
        self._follower.stop()
        self._wake_reader.close()

    def _connected(self) -> Broker:
        topics, will = self._topics, (self._topics.availability, discovery.OFFLINE)
        commands = [topics.birth, topics.listening, topics.rates]
        return Broker(self._settings, topics.device, will, commands)

    def _serve(self, broker: Broker) -> None:
        """Until the connection ends (KwsError) or we do."""
        settings, self._complaint = self._settings, None
        _log.info("mqtt: connected to %s:%d as %s", settings.host, settings.tcp_port, self._topics.device)
        self._announce_s, self._hold_s, was_up = 0.0, time.monotonic() + HOLD_S, None
        while not self._is_over.is_set():
            is_up = self._follower.is_up
            if is_up is not was_up:
                was_up, self._announce_s = is_up, 0.0
                if is_up is False:
                    broker.publish(self._topics.availability, discovery.OFFLINE, retain=True)
            self._take_events()
            self._take_messages(broker)
            if is_up:
                self._tell(broker)
            self._send_events(broker)
            broker.turn(self._sleep_s(is_up), self._wake_reader)
        broker.publish(self._topics.availability, discovery.OFFLINE, retain=True)
        broker.drain()

    def _sleep_s(self, is_up: bool | None) -> float:
        now_s = time.monotonic()
        due_s = [self._state_s, self._announce_s] if is_up else [now_s + self._settings.state_seconds]
        if self._commands:
            due_s.append(self._next_command_s)
        if self._outbox and self._hold_s > now_s:
            due_s.append(self._hold_s)
        return max(0.0, min(due_s) - now_s)

    def _take_events(self) -> None:
        soon_s = time.monotonic() + _SOON_S
        for raised_s, event in self._follower.take():
            kind = event.get("event")
            if kind == "detection":
                self._outbox.put(raised_s, event)
            elif kind == "config":
                self._announce_s = min(self._announce_s, soon_s)
            if kind != "near-miss":
                self._state_s = min(self._state_s, soon_s)

    def _take_messages(self, broker: Broker) -> None:
        for receipt in broker.confirmed:
            self._outbox.confirm(receipt)
        for message in broker.received:
            self._take_message(message)
        broker.confirmed.clear()
        broker.received.clear()

    def _take_message(self, message: Received) -> None:
        topic, payload = message
        if topic == self._topics.birth:
            if payload == b"online":
                self._announce_s = time.monotonic() + uniform(0, _BIRTH_S)  # noqa: S311
                self._hold_s = min(self._hold_s, self._announce_s)
            return
        try:
            discovery.command(self._topics, self._words, topic, payload)
        except KwsError as error:
            _log.warning("mqtt: %s", error)
        else:
            self._commands[topic] = payload  # of many only the last counts

    def _tell(self, broker: Broker) -> None:
        """What is due: who we are, how we are; and what we were asked to do."""
        now_s = time.monotonic()
        if self._commands and now_s >= self._next_command_s:
            self._next_command_s = now_s + _COMMANDS_S
            topic = next(iter(self._commands))
            self._obey(topic, self._commands.pop(topic))
        if now_s < min(self._announce_s, self._state_s):
            return
        try:
            status = client.ask({"request": "status"}, self._folder)
        except KwsError as error:
            _log.warning("mqtt: %s", error)
            self._state_s = self._announce_s = now_s + self._settings.state_seconds
            return
        if now_s >= self._announce_s:
            self._announce_s = float("inf")
            self._announce(broker, status)
        self._state_s = now_s + self._settings.state_seconds
        broker.publish(self._topics.state, json.dumps(discovery.state(status)), retain=True)

    def _announce(self, broker: Broker, status: Message) -> None:
        new = discovery.description(self._topics, f"kws {self._name}", status)
        told = discovery.without(self._described, new) if self._described else new
        self._described, self._words = new, status["model"]["keywords"]
        broker.publish(self._topics.discovery, json.dumps(told), retain=True)
        if told != new:  # without the traces of what is gone
            broker.publish(self._topics.discovery, json.dumps(new), retain=True)
        broker.publish(self._topics.availability, discovery.ONLINE, retain=True)

    def _obey(self, topic: str, payload: bytes) -> None:
        try:
            request = discovery.command(self._topics, self._words, topic, payload)
            client.ask(request, self._folder, control=True)
        except KwsError as error:
            _log.warning("mqtt: %s", error)
            self._state_s = 0.0  # what Home Assistant shows is wrong now
        else:
            _log.info("mqtt: %s", request)
            self._state_s = min(self._state_s, time.monotonic() + _SOON_S)

    def _send_events(self, broker: Broker) -> None:
        is_holding = time.monotonic() < self._hold_s
        for key, age_s, event in self._outbox.unsent():
            if age_s <= TRIGGER_S:
                broker.publish(self._topics.keyword(event["keyword"]), discovery.DETECTED)
            elif is_holding:
                continue
            payload = json.dumps(discovery.event(event, age_s))
            self._outbox.sent(key, broker.publish(self._topics.event, payload))

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # full: it will wake up; closed: it need not
            self._wake_writer.send(b"\0")

    def _complain(self, complaint: str) -> None:
        """Once for each reason: a broker may be away for weeks."""
        level = logging.DEBUG if complaint == self._complaint else logging.WARNING
        self._complaint = complaint
        settings = self._settings
        _log.log(level, "mqtt: %s:%d: %s; trying again", settings.host, settings.tcp_port, complaint)
