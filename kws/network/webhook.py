"""Events sent to a web server, each as one POST of JSON."""

import importlib
import json
import logging
import threading
import time
import urllib.parse
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kws.errors import ConfigError
from kws.network.backoff import Backoff

LIMIT = 64
"""Events that wait; of more the oldest go."""

_CAP_S = 30.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WebhookSettings:
    """One server, and what it is sent."""

    url: str
    """http:// or https://."""
    events: tuple[Literal["detection", "near-miss", "state", "config"], ...] = ("detection",)
    """Which events."""
    keywords: tuple[str, ...] = ()
    """Of which keywords; none named: every one, and events without a keyword."""
    timeout_seconds: float = 5.0
    """For one attempt."""
    retry_seconds: float = 60.0
    """An event is given up when it is so old; 0: after one attempt."""

    def __post_init__(self) -> None:
        """Refuse what could not be reached."""
        try:
            parts = urllib.parse.urlsplit(self.url)
            is_web = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:  # a port that is none
            is_web = False
        if not is_web or not self.url.isascii() or any(c <= " " for c in self.url):
            raise ConfigError("url must begin with http:// or https://, without spaces; correct it")
        if not 0 < self.timeout_seconds <= 60:
            raise ConfigError("timeout_seconds must be above 0 and at most 60; correct it")
        if not 0 <= self.retry_seconds <= 86_400:
            raise ConfigError("retry_seconds must be 0 to 86400; correct it")

    @property
    def server(self) -> str:
        """For the log: without the path, which is the secret of most webhooks."""
        return urllib.parse.urlsplit(self.url).hostname or ""

    def wants(self, event: Mapping[str, Any]) -> bool:
        """Whether it is sent this event."""
        return event.get("event") in self.events and (
            not self.keywords or event.get("keyword") in self.keywords
        )


class Webhook:
    """A thread that sends; what goes wrong is a line in the log."""

    def __init__(self, settings: WebhookSettings) -> None:
        self._settings = settings
        self._queue: deque[tuple[float, bytes]] = deque(maxlen=LIMIT)
        self._news, self._is_over = threading.Event(), threading.Event()
        self._post = importlib.import_module("kws.network.post").post  # loads much, so only where it is used
        self._thread = threading.Thread(target=self._run, name="webhook", daemon=True)
        self._thread.start()

    def put(self, event: Mapping[str, Any]) -> None:
        """Send it soon, if it is wanted; returns at once."""
        if self._settings.wants(event):
            self._queue.append((time.monotonic(), json.dumps(event).encode()))
            self._news.set()

    def close(self) -> None:
        """End; what waits is not sent, what is under way is not waited for."""
        self._is_over.set()
        self._news.set()

    def _run(self) -> None:
        while True:
            self._news.wait()
            self._news.clear()
            while self._queue and not self._is_over.is_set():
                self._deliver(*self._queue.popleft())
            if self._is_over.is_set():
                return

    def _deliver(self, raised_s: float, body: bytes) -> None:
        """Try until it arrived, or it makes no sense any more."""
        backoff, server = Backoff(cap_s=_CAP_S), self._settings.server
        while not self._is_over.is_set():
            problem, may_improve = self._post(self._settings.url, body, self._settings.timeout_seconds)
            if problem is None:
                return
            pause_s = backoff.pause_s()
            left_s = self._settings.retry_seconds - (time.monotonic() - raised_s)
            if not may_improve or pause_s > left_s:
                _log.warning("webhook at %s: %s; the event is given up", server, problem)
                return
            _log.debug("webhook at %s: %s; trying again", server, problem)
            self._is_over.wait(pause_s)
