"""The daemon's sockets and its main loop: requests are answered, events are sent to whoever subscribed.

One thread sleeps in one `epoll` until there is something to do: a client, a wake-up from the audio thread or
a signal handler, or a file descriptor that someone else watches. Everything that a client can make the daemon
keep is bounded: bytes of a request, time for a request, number of clients, bytes that wait for a slow reader.
"""

import contextlib
import errno
import logging
import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from kws.daemon.doors import Doors
from kws.errors import KwsError
from kws.protocol import REQUEST_BYTES_MAX, Message, line, request_in

SUBSCRIBERS_MAX = 128
CLIENTS_MAX = 128
"""Open requests on each socket, so that nobody who may only read can keep out who may control."""

TIMEOUT_S = 5.0
"""For a client to send its request, and again to take the answer."""

QUEUE_BYTES_MAX = 65_536
"""Events that wait for one subscriber; one that is slower is dropped."""

FAREWELL_S = 30.0
"""How long a dropped subscriber may take to read that it was dropped."""

_KERNEL_BUFFER_BYTES = 16_384  # the default, 208 kB, is charged to this service: 128 readers would fill it
_ACCEPTS_PER_TURN = 64
_PAUSE_S = 1.0  # out of file descriptors: the socket stays readable, so asking again at once would spin
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

_log = logging.getLogger(__name__)

Answer = Callable[[Message, bool], Message]


@dataclass(eq=False, slots=True)
class _Client:
    socket: socket.socket
    may_control: bool
    deadline_s: float | None
    received: bytes = b""
    queue: deque[bytes] = field(default_factory=deque)
    queued: int = 0
    sent: int = 0
    """Bytes of the queue's first line that are out already."""
    awaits_room: bool = False
    is_subscriber: bool = False
    is_leaving: bool = False
    """It is closed as soon as its queue is empty."""

    def put(self, message: bytes) -> None:
        self.queue.append(message)
        self.queued += len(message)


class Server:
    """Sockets of one daemon. All methods but `wake` belong to the main thread.

    ::

        server = Server(runtime_folder(), answer)
        server.open()
        signal.set_wakeup_fd(server.wake_fd, warn_on_full_buffer=False)  # or a signal could be slept through
        while not stopping:
            server.serve(timeout_s)
        server.close()

    Args:
        folder: where the sockets appear; made if it is not there.
        answer: called with each request but "events" and whether it came over the control socket; returns
            what to answer. A KwsError becomes the answer's "error".
    """

    def __init__(self, folder: Path, answer: Answer) -> None:
        self.folder, self._answer = folder, answer
        self._doors = Doors(folder, CLIENTS_MAX)
        self._poll = select.epoll()
        self._wake_reader, self.wake_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll.register(self._wake_reader, select.EPOLLIN)
        self._watched: dict[int, Callable[[], None]] = {self._wake_reader: self._drain}
        self._clients: dict[int, _Client] = {}
        self._paused_until_s: float | None = None

    @property
    def subscribers(self) -> int:
        """How many are being sent every event."""
        return sum(client.is_subscriber and not client.is_leaving for client in self._clients.values())

    def open(self) -> None:
        """Take the folder and listen.

        Raises:
            KwsError: another daemon is alive there, a file that is no socket has a socket's name, the path is
                too long, or the folder cannot be written.
        """
        self._doors.open()
        for door in self._doors.listening:
            self._poll.register(door, select.EPOLLIN)

    def close(self) -> None:
        """Remove the sockets and let go of every client."""
        for client in list(self._clients.values()):
            self._drop(client)
        self._doors.close()
        self._poll.close()
        writer, self.wake_fd = self.wake_fd, -1  # a late `wake` must not write into someone else's file
        os.close(self._wake_reader)
        os.close(writer)

    def wake(self) -> None:
        """Make `serve` return, or its next call; from any thread and any signal handler."""
        with contextlib.suppress(OSError):  # full of wake-ups already, or closed
            os.write(self.wake_fd, b"\0")

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        """Call back in `serve` whenever `fd` can be read or has ended; who gets an end must `unwatch`."""
        self._poll.register(fd, select.EPOLLIN)
        self._watched[fd] = callback

    def unwatch(self, fd: int) -> None:
        """Forget `fd`; before it is closed."""
        del self._watched[fd]
        self._poll.unregister(fd)

    def serve(self, timeout_s: float | None = None) -> None:
        """One turn: sleep until something happens or time is up (None: never), then do what is due."""
        ready = self._poll.poll(self._sleep_s(timeout_s))
        # Doors last: a descriptor that this turn closes must not be reused while its events are still listed.
        for fd, events in sorted(ready, key=lambda item: item[0] in self._doors.listening):
            if fd in self._clients:
                self._attend(self._clients[fd], events)
            elif fd in self._watched:
                self._watched[fd]()
            elif fd in self._doors.listening:
                self._accept(*self._doors.listening[fd])
        self._expire()

    def publish(self, event: Message) -> None:
        """Send an event to every subscriber; one whose queue is full is told so and dropped."""
        message = line(event)
        for client in list(self._clients.values()):
            if client.is_subscriber and not client.is_leaving:
                if client.queued + len(message) <= QUEUE_BYTES_MAX:
                    client.put(message)
                else:
                    client.put(_DROPPED)
                    client.is_leaving = True
                    client.deadline_s = time.monotonic() + FAREWELL_S
                self._send(client)

    def _sleep_s(self, timeout_s: float | None) -> float | None:
        deadlines = [client.deadline_s for client in self._clients.values()] + [self._paused_until_s]
        waits = [deadline - time.monotonic() for deadline in deadlines if deadline is not None]
        if timeout_s is not None:
            waits.append(timeout_s)
        return max(0.0, min(waits)) if waits else None

    def _expire(self) -> None:
        now = time.monotonic()
        for client in list(self._clients.values()):
            if client.deadline_s is not None and client.deadline_s <= now:
                self._drop(client)
        if self._paused_until_s is not None and self._paused_until_s <= now:
            self._paused_until_s = None
            for door in self._doors.listening:
                self._poll.modify(door, select.EPOLLIN)

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_reader, 65_536)

    def _accept(self, door: socket.socket, may_control: bool) -> None:
        for _ in range(_ACCEPTS_PER_TURN):
            try:
                connection, _address = door.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _NO_ROOM:
                    self._pause(error)
                    return
                continue  # that client has gone again
            connection.setblocking(False)
            others = self._clients.values()
            if sum(c.may_control is may_control and not c.is_subscriber for c in others) >= CLIENTS_MAX:
                with contextlib.suppress(OSError), connection:
                    connection.send(_BUSY)
                continue
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _KERNEL_BUFFER_BYTES)
            self._clients[connection.fileno()] = _Client(
                connection, may_control, time.monotonic() + TIMEOUT_S
            )
            self._poll.register(connection, select.EPOLLIN)

    def _pause(self, error: OSError) -> None:
        _log.warning("no room for another client (%s); clients wait", error.strerror)
        self._paused_until_s = time.monotonic() + _PAUSE_S
        for door in self._doors.listening:
            self._poll.modify(door, 0)

    def _attend(self, client: _Client, events: int) -> None:
        if events & select.EPOLLOUT:
            self._send(client)
        elif events & select.EPOLLIN:
            self._receive(client)
        else:  # hung up
            self._drop(client)

    def _receive(self, client: _Client) -> None:
        try:
            received = client.socket.recv(REQUEST_BYTES_MAX)
        except BlockingIOError:
            return
        except OSError:
            self._drop(client)
            return
        client.received += received
        text, newline, _ = client.received.partition(b"\n")
        if len(text) >= REQUEST_BYTES_MAX:
            self._reply(client, _TOO_LONG)
        elif newline or (text and not received):
            self._handle(client, text)
        elif not received:
            self._drop(client)

    def _handle(self, client: _Client, text: bytes) -> None:
        try:
            request = request_in(text)
            if request["request"] == "events":
                self._subscribe(client)
                return
            reply = line(self._answer(request, client.may_control))
        except KwsError as error:
            reply = line({"error": str(error)})
        except Exception:
            _log.exception("a request failed")
            reply = _FAILED
        self._reply(client, reply)

    def _subscribe(self, client: _Client) -> None:
        if self.subscribers >= SUBSCRIBERS_MAX:
            raise KwsError(f"{SUBSCRIBERS_MAX} programs subscribe to events already; stop one of them")
        client.is_subscriber, client.deadline_s = True, None
        # What it sends is never read; its end is always reported.
        self._poll.modify(client.socket, 0)

    def _reply(self, client: _Client, message: bytes) -> None:
        client.put(message)
        client.is_leaving = True
        client.deadline_s = time.monotonic() + TIMEOUT_S
        self._send(client)

    def _send(self, client: _Client) -> None:
        """Send what the kernel takes; the rest waits for the reader."""
        try:
            while client.queue:
                first = client.queue[0]
                client.sent += client.socket.send(first[client.sent :])
                if client.sent == len(first):
                    client.queue.popleft()
                    client.queued -= client.sent
                    client.sent = 0
        except BlockingIOError:
            pass
        except OSError:  # gone
            self._drop(client)
            return
        if client.is_leaving and not client.queue:
            self._drop(client)
        elif bool(client.queue) is not client.awaits_room:
            client.awaits_room = not client.awaits_room
            self._poll.modify(client.socket, select.EPOLLOUT if client.awaits_room else 0)

    def _drop(self, client: _Client) -> None:
        self._poll.unregister(client.socket)
        del self._clients[client.socket.fileno()]
        client.socket.close()


_BUSY = line({"error": "too many clients are connected; try again in a few seconds"})
_TOO_LONG = line({"error": f"a request has at most {REQUEST_BYTES_MAX} bytes; send a shorter one"})
_FAILED = line({"error": "kws could not answer; its log says why: journalctl -u kws"})
_DROPPED = line(
    {"event": "dropped", "reason": f"{QUEUE_BYTES_MAX} bytes of events were waiting to be read; read faster"}
)
