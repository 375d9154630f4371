"""A Server in a thread of its own, and what its tests say to it."""

import contextlib
import json
import socket
import threading
import time
from collections import deque

from kws.daemon.server import Server
from kws.protocol import CONTROL, STATUS


class Running:
    """A server that serves until the block ends; what the main thread of a daemon does is done by `do`."""

    def __init__(self, folder, answer):
        self.folder, self.server, self.turns = folder, Server(folder, answer), 0
        self._tasks, self._ends = deque(), False
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self):
        self.server.open()
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ends = True
        self.server.wake()
        self._thread.join(10)
        assert not self._thread.is_alive()

    def _serve(self):
        try:
            while not self._ends:
                self.server.serve(None)
                self.turns += 1
                while self._tasks:
                    self._tasks.popleft()()
        finally:
            self.server.close()

    def do(self, task, *arguments):
        done = threading.Event()
        results = []
        self._tasks.append(lambda: (results.append(task(*arguments)), done.set()))
        self.server.wake()
        assert done.wait(10)
        return results[0]

    def publish(self, event):
        self.do(self.server.publish, event)

    def wait_for_subscribers(self, count):
        end = time.monotonic() + 10
        while self.do(lambda: self.server.subscribers) != count:
            assert time.monotonic() < end, f"there are not {count} subscribers"
            time.sleep(0.01)

    def connect(self, may_control=False):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(self.folder / (CONTROL if may_control else STATUS)))
        connection.settimeout(10)  # before, it would not wait while the queue of connections is full
        return connection

    def exchange(self, text, may_control=False):
        """All that the server says to these bytes."""
        with self.connect(may_control) as connection:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(text)
            return [json.loads(line) for line in everything(connection).splitlines()]

    def subscribe(self):
        connection = self.connect()
        connection.sendall(request("events"))
        return connection


def request(name, **arguments):
    return json.dumps({"version": 1, "request": name, **arguments}).encode() + b"\n"


def everything(connection):
    """What arrives until the other side closes."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := connection.recv(65_536):
            received += chunk
    return received
