"""One connection to an MQTT broker, from beginning to end, for one thread. paho-mqtt speaks, this waits.

A new connection is a new client: nothing of an old one is sent again behind our back.
"""

import select
import socket
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from kws.errors import KwsError, MissingExtra

if TYPE_CHECKING:
    from paho.mqtt.client import Client

    from kws.network.mqtt import MqttSettings

KEEPALIVE_S = 30
"""A broker takes who is silent for one and a half of it for dead."""
CONNECT_S, FAREWELL_S = 10.0, 1.0
MESSAGE_BYTES_MAX = 4096
"""What the broker may send at once; it keeps anything larger (MQTT 5)."""
_AT_LEAST_ONCE = 1  # QoS
_NO_RETAINED = 2  # at a subscription: an old command is no command


class Received(NamedTuple):
    """A message to us."""

    topic: str
    payload: bytes


class Broker:
    """Connect by `with`; call `turn` again and again.

    Args:
        settings: Where, and as whom.
        client_id: A second connection of the same name ends the first.
        will: Topic and payload that the broker publishes, retained, when this connection breaks.
        subscriptions: Topics.
    """

    def __init__(
        self, settings: "MqttSettings", client_id: str, will: tuple[str, str], subscriptions: Sequence[str]
    ) -> None:
        self._settings, self._subscriptions = settings, subscriptions
        self._client = _client(settings, client_id)
        self._client.will_set(*will, qos=_AT_LEAST_ONCE, retain=True)
        self._client.on_connect = self._on_connect
        self._client.on_message = self._on_message
        self._client.on_publish = self._on_publish
        self._client.on_disconnect = self._on_disconnect
        self._is_connected = False
        self._end: str | None = None
        self.received: list[Received] = []
        """Messages since they were last taken out."""
        self.confirmed: list[int] = []
        """Receipts of `publish`, likewise."""

    def __enter__(self) -> "Broker":
        """Connect; KwsError when the broker cannot be reached or refuses."""
        from paho.mqtt.packettypes import PacketTypes  # noqa: PLC0415
        from paho.mqtt.properties import Properties  # noqa: PLC0415

        limits = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        limits.MaximumPacketSize = MESSAGE_BYTES_MAX
        settings, deadline_s = self._settings, time.monotonic() + CONNECT_S
        try:
            self._client.connect(
                settings.host, settings.tcp_port, KEEPALIVE_S, clean_start=True, properties=limits
            )
            while not self._is_connected:
                if time.monotonic() > deadline_s:
                    raise KwsError(f"it does not answer within {CONNECT_S:.0f} s; is it an MQTT broker?")
                self.turn(1.0)
        except BaseException as error:
            self._client.on_disconnect = None
            self._client.disconnect()
            if isinstance(error, OSError):  # DNS, TCP and TLS
                raise KwsError(str(error.strerror or error)) from error
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take leave, so that there is no last will; after an error just go."""
        if kind is None:
            self._client.disconnect()
        if sock := self._client.socket():
            sock.close()

    def publish(self, topic: str, payload: str, retain: bool = False) -> int:
        """Send; returns the receipt that will be in `confirmed`."""
        return self._client.publish(topic, payload, qos=_AT_LEAST_ONCE, retain=retain).mid

    def turn(self, timeout_s: float, wake: socket.socket | None = None) -> None:
        """Receive and send until something happened, `wake` became readable, or the time is over.

        Raises:
            KwsError: the connection has ended, or was refused.
        """
        sock: Any = self._client.socket()
        if sock is not None:
            pending = getattr(sock, "pending", int)()  # TLS: decrypted, so no longer with the kernel
            readers = [sock] if wake is None else [sock, wake]
            writers = [sock] if self._client.want_write() else []
            wait_s = 0.0 if pending else min(timeout_s, KEEPALIVE_S / 3)
            readable, writable, _ = select.select(readers, writers, [], wait_s)
            if wake is not None and wake in readable:
                wake.recv(4096)
            if sock in readable or pending:
                self._client.loop_read()
            if writable:
                self._client.loop_write()
            self._client.loop_misc()
        if self._end is not None or self._client.socket() is None:
            raise KwsError(self._end or "the connection has ended")

    def drain(self, seconds: float = FAREWELL_S) -> None:
        """Send what is queued."""
        end_s = time.monotonic() + seconds
        while self._client.want_write() and time.monotonic() < end_s:
            self.turn(0.1)

    def _on_connect(self, client: "Client", _data: Any, _flags: Any, reason: Any, _more: Any) -> None:
        from paho.mqtt.subscribeoptions import SubscribeOptions  # noqa: PLC0415

        if reason.is_failure:
            self._end = f"it refuses: {reason}; check username and password_file"
            return
        self._is_connected = True
        options = SubscribeOptions(qos=_AT_LEAST_ONCE, retainHandling=_NO_RETAINED)
        client.subscribe([(topic, options) for topic in self._subscriptions])

    def _on_message(self, _client: "Client", _data: Any, message: Any) -> None:
        self.received.append(Received(message.topic, message.payload))

    def _on_publish(self, _client: "Client", _data: Any, receipt: int, *_: Any) -> None:
        self.confirmed.append(receipt)

    def _on_disconnect(self, _client: "Client", _data: Any, _flags: Any, reason: Any, _more: Any) -> None:
        self._end = self._end or f"the connection has ended ({reason})"


def _client(settings: "MqttSettings", client_id: str) -> "Client":
    try:
        from paho.mqtt import client as paho  # noqa: PLC0415
        from paho.mqtt.enums import CallbackAPIVersion  # noqa: PLC0415
    except ModuleNotFoundError:
        raise MissingExtra("paho-mqtt", "mqtt") from None
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id, protocol=paho.MQTTv5)
    client.connect_timeout = CONNECT_S
    if settings.username is not None:
        client.username_pw_set(settings.username, settings.password())
    if settings.tls:
        client.tls_set(ca_certs=settings.ca_file)
    return client
