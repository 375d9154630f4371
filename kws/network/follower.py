"""A thread that follows a daemon's events, also over its restarts."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from kws import client
from kws.errors import KwsError
from kws.network.backoff import Backoff
from kws.network.outbox import LIMIT
from kws.protocol import Folder, Message

_CAP_S = 10.0  # a socket on this machine costs little

_log = logging.getLogger(__name__)


class Follower:
    """Events of a daemon, in a bounded queue.

    Args:
        folder: Of the daemon's sockets.
        wake: Called in the thread when there is something new.
    """

    def __init__(self, folder: Folder, wake: Callable[[], None]) -> None:
        self._folder, self._wake = folder, wake
        self._events: deque[tuple[float, Message]] = deque(maxlen=LIMIT)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="follower", daemon=True)
        self.is_up: bool | None = None
        """Whether the daemon runs; None before the first look."""

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Let the thread end, with the next event or with the daemon."""
        self._is_over.set()

    def take(self) -> list[tuple[float, Message]]:
        """What has come since the last call: monotonic seconds when it came, and the event."""
        taken = []
        while self._events:
            taken.append(self._events.popleft())
        return taken

    def _follow(self) -> None:
        backoff = Backoff(cap_s=_CAP_S)
        while not self._is_over.is_set():
            try:
                events = client.events(self._folder)
                self._set(True)
                backoff.reset()
                for event in events:
                    self._events.append((time.monotonic(), event))
                    self._wake()
                    if self._is_over.is_set():
                        return
            except (KwsError, OSError) as error:
                if self._is_over.is_set():
                    return
                level = logging.WARNING if self.is_up else logging.DEBUG
                _log.log(level, "following the daemon: %s", error)
            self._set(False)
            self._is_over.wait(backoff.pause_s())

    def _set(self, is_up: bool) -> None:
        self.is_up = is_up
        self._wake()
