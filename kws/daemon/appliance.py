"""The daemon's life: it starts, listens for months, answers, reloads, and ends cleanly.

The audio thread listens (`listener`, `hearing`); everything here runs in the main thread, which sleeps until
a client, a signal, a detection or the watchdog's time wakes it.
"""

import gc
import itertools
import logging
import os
import signal
import time
from collections import deque
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from kws import prometheus
from kws.daemon import requests, systemd
from kws.daemon.archive import FOLDER
from kws.daemon.captures import Captures
from kws.daemon.cost import Cost
from kws.daemon.feedback import Feedback
from kws.daemon.hearing import CONTEXT_SECONDS, Chain, Heard, Hearing
from kws.daemon.hooks import Hooks
from kws.daemon.journal import fields
from kws.daemon.listener import Listener, State
from kws.daemon.mute import Mute
from kws.daemon.outlets import Outlets
from kws.daemon.renewal import start_anew
from kws.daemon.server import Server
from kws.daemon.settings import Settings, load_settings, says
from kws.daemon.snapshot import Counts, snapshot
from kws.errors import INTERRUPTED, KwsError
from kws.events import Detection
from kws.folders import runtime_folder, state_folder

_TURN_SECONDS = 15.0  # at most between two looks at the audio thread
_HANGING_SECONDS = 10.0  # for an audio thread that hangs in the sound system to come free
_MINUTE = 60.0
_STOP_SECONDS = 3.0  # for the audio thread to close the microphone
_LAST_EVENTS = 10

_log = logging.getLogger(__name__)


class Appliance:
    """One daemon, from its configuration to its end.

    Building it reads configuration and model, and takes the folder of its sockets.

    Raises:
        KwsError: the configuration or the model cannot be used, or another daemon runs already.
    """

    def __init__(self, config: Path | None, why: str) -> None:
        self.config_path, self.config_reason = config, why
        self.settings = load_settings(config)
        self.server = Server(runtime_folder(), partial(requests.answer, self))
        self.hearing = Hearing(Chain.for_settings(self.settings, says(config)), self.server.wake)
        self.server.open()  # before anything is written: the folders may be another daemon's
        rate_hz = self.hearing.sample_rate_hz
        self.listener = Listener(rate_hz, self.hearing.hear, self.hearing.lost, self._tell)
        self.hooks = Hooks(self.settings.hooks)
        self.outlets = Outlets(self.server.folder)
        self.state_folder = state_folder()
        self.mute = Mute(self.state_folder)
        self.captures = Captures(self.state_folder / FOLDER, self.settings.capture, rate_hz)
        self.feedback = Feedback(self.state_folder, self.words, self.captures)
        self.cost = Cost(self.settings.power)
        self.counts = Counts()
        self.last_events: deque[dict[str, Any]] = deque(maxlen=_LAST_EVENTS)
        self.started, self.started_s = datetime.now(UTC), time.monotonic()
        self.loaded = self.started
        self.config_error: str | None = None
        """Why the last reload changed nothing."""
        self._ids = itertools.count(1)
        self._told: deque[tuple[State, str]] = deque()
        self._signals: set[int] = set()
        self._due: deque[tuple[float, int, dict[str, Any]]] = deque()  # captures: when, which sample
        self._is_ready = False
        self._next_minute_s = self.started_s + _MINUTE
        self._hanging_since_s: float | None = None
        self._fed_s = 0.0  # the watchdog
        self._cannot_write = False  # prometheus_file
        self._resize_ring()

    @property
    def words(self) -> tuple[str, ...]:
        """What can be detected."""
        return self.hearing.chain.model.manifest.words

    def run(self) -> int:
        """Listen until SIGTERM (returns 0) or SIGINT (returns 130)."""
        signal.set_wakeup_fd(self.server.wake_fd, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        gc.collect()
        gc.freeze()  # what is here now stays; the collector need not look at it again
        if self.mute.left_s:
            self.listener.mute()
        self.listener.start(self.settings.microphone)
        self.outlets.configure(self.settings)
        try:
            while not self._signals & {signal.SIGTERM, signal.SIGINT}:
                self._turn()
        finally:
            self._close()
        return INTERRUPTED if signal.SIGINT in self._signals else 0

    def reload(self) -> None:
        """Read the configuration and the model again. If they are wrong, the old ones stay in force."""
        systemd.reloading()
        try:
            settings = load_settings(self.config_path)
            self.hearing.change(Chain.for_settings(settings, says(self.config_path)))
        except (KwsError, OSError) as error:
            self.config_error = str(error)
            _log.error("not reloaded, the old configuration stays in force: %s", error)
        else:
            self._apply(settings)
            self.config_error, self.loaded = None, datetime.now(UTC)
            _log.info("reloaded: %s", "; ".join(self.hearing.chain.reason))
        self._publish({"event": "config", "error": self.config_error})
        systemd.ready(self._status_line())

    def _apply(self, settings: Settings) -> None:
        old, self.settings = self.settings, settings
        if settings.microphone != old.microphone:
            self.listener.reopen(settings.microphone)
        if settings.hooks != old.hooks:
            self.hooks.configure(settings.hooks)
        self.outlets.configure(settings)
        if settings.capture != old.capture:
            self.captures.close()
            self.captures = Captures(
                self.state_folder / FOLDER, settings.capture, self.hearing.sample_rate_hz
            )
        if settings.power != old.power:
            self.cost.configure(settings.power)
        self.feedback.keywords, self.feedback.captures = self.words, self.captures
        self._resize_ring()

    def _resize_ring(self) -> None:
        capture, seconds = self.settings.capture, CONTEXT_SECONDS
        if capture.enabled:
            # A near miss is known when nothing can come of it any more, one refractory period later.
            late_s = self.hearing.chain.model.manifest.detector.refractory_seconds + 1
            seconds = max(seconds, capture.before_seconds + capture.after_seconds + late_s)
        self.hearing.ring.samples = round(seconds * self.hearing.sample_rate_hz)

    def _turn(self) -> None:
        """Sleep until there is something to do, and do it."""
        self.server.serve(self._sleep_s())
        if signal.SIGHUP in self._signals:
            self._signals.discard(signal.SIGHUP)
            self.reload()
        while self._told:
            self._on_state(*self._told.popleft())
        for heard in self.hearing.take():
            self._on_heard(heard)
        now_s = time.monotonic()
        self._store_due(now_s)
        if self.listener.state == "muted" and not self.mute.left_s:
            self.unmute()
        self._look_after_audio(now_s)
        if now_s >= self._next_minute_s:
            self._next_minute_s = now_s + _MINUTE
            self._every_minute()

    def _sleep_s(self) -> float:
        now_s, watchdog_s = time.monotonic(), systemd.watchdog_seconds()
        waits = [_TURN_SECONDS, self._next_minute_s - now_s]
        if watchdog_s:
            waits.append(watchdog_s / 3)
        if self.mute.left_s:
            waits.append(self.mute.left_s)
        if self._due:
            waits.append(self._due[0][0] - now_s)
        running_s = self.hooks.poll()
        if running_s is not None:
            waits.append(running_s)
        if self._hanging_since_s is not None:
            waits.append(1.0)
        if self._told or self._signals:
            waits.append(0.0)
        return max(0.0, min(waits))

    def _tell(self, state: State, reason: str) -> None:
        """In the audio thread."""
        self._told.append((state, reason))
        self.server.wake()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._signals.add(number)

    def _on_state(self, state: State, reason: str) -> None:
        level = logging.WARNING if state in ("lost", "silent") else logging.INFO
        _log.log(level, "%s: %s", state, reason, extra=fields(state=state))
        if state == "muted":
            self.hearing.ring.clear()  # whoever mutes may mean what was just said
        self._publish({"event": "state", "state": state, "reason": reason})
        if self._is_ready:
            systemd.status(self._status_line())
        # Ready is who has processed audio, or knows that there is no microphone and waits for one.
        elif state != "opening":
            self._is_ready = systemd.ready(self._status_line()) or True

    def _on_heard(self, heard: Heard) -> None:
        what, is_detection = heard.what, isinstance(heard.what, Detection)
        self.counts.add(what)
        event = self._publish(
            {
                "event": "detection" if is_detection else "near-miss",
                **what.fields(),
                "wall_time": _iso(heard.wall_s),
                "latency_ms": round(heard.latency_ms, 1),
            }
        )
        _log.log(
            logging.INFO if is_detection else logging.DEBUG,
            "%s %s, score %.3f, %.0f ms after its audio",
            "heard" if is_detection else "near miss of",
            what.keyword,
            what.score,
            heard.latency_ms,
            extra=fields(event=event["event"], keyword=what.keyword, score=event["score"], id=event["id"]),
        )
        if self.captures.settings.enabled:
            after_s, block_s = self.captures.settings.after_seconds, self.settings.microphone.block_ms / 1000
            self._due.append((time.monotonic() + after_s + 2 * block_s, what.sample, event))

    def _publish(self, event: dict[str, Any]) -> dict[str, Any]:
        """Complete an event and hand it to all who want it."""
        identity = f"{int(self.started.timestamp()):x}-{next(self._ids)}"
        event = {"id": identity, "wall_time": _iso(time.time())} | event
        self.last_events.append(event)
        self.feedback.heard(event)
        self.server.publish(event)
        self.hooks.start(event)
        self.outlets.put(event)
        return event

    def _store_due(self, now_s: float) -> None:
        settings, rate_hz = self.captures.settings, self.hearing.sample_rate_hz
        while self._due and self._due[0][0] <= now_s:
            _, sample, event = self._due.popleft()
            first, audio = self.hearing.ring.between(
                sample - round(settings.before_seconds * rate_hz),
                sample + round(settings.after_seconds * rate_hz),
            )
            self.captures.store(audio, event, (sample - first) / rate_hz)

    def _look_after_audio(self, now_s: float) -> None:
        """Feed the watchdog while the audio thread turns; help it, or start anew, when it does not."""
        if not self.listener.hangs:
            self._hanging_since_s = None
            self._feed_watchdog(now_s)
            return
        if self._hanging_since_s is None:
            self._hanging_since_s = now_s
            _log.warning("the sound system does not answer; cutting the connection to it")
        self.listener.abandon()
        if now_s - self._hanging_since_s > _HANGING_SECONDS:
            _log.error("the sound system hangs; kws starts itself anew")
            self._start_anew()

    def _feed_watchdog(self, now_s: float) -> None:
        limit_s = systemd.watchdog_seconds()
        if limit_s and now_s - self._fed_s >= limit_s / 4:
            self._fed_s = now_s
            systemd.alive()

    def _start_anew(self) -> NoReturn:
        systemd.status("starting anew: the sound system hung")
        self._end_all()
        start_anew()

    def _every_minute(self) -> None:
        self.cost.every_minute()
        self._write_prometheus()

    def _write_prometheus(self) -> None:
        path = self.settings.prometheus_file
        if path is not None:
            try:
                prometheus.write_textfile(Path(path), prometheus.exposition(snapshot(self)))
                self._cannot_write = False
            except OSError as error:
                if not self._cannot_write:  # once, not every minute
                    _log.warning("cannot write %s (%s); correct prometheus_file", path, error.strerror)
                self._cannot_write = True

    def silence(self, seconds: float | None) -> None:
        """Close the microphone for so long; None: until `unmute`."""
        self.mute.begin(seconds)
        self.listener.mute()

    def unmute(self) -> None:
        """Open it again."""
        self.mute.end()
        self.listener.unmute()

    def choose_rates(self, changes: dict[str, float | None]) -> None:
        """Take other rates of false accepts per day, None: the model's own, until a reload or restart.

        ConfigError, and no change, where a word is unknown or its curve was not measured.
        """
        model, rates = self.hearing.chain.model, self.settings.false_accepts_per_day
        old = rates if isinstance(rates, dict) else dict.fromkeys(model.manifest.keywords, rates)
        new = {word: rate for word, rate in (old | changes).items() if rate is not None}
        settings = replace(self.settings, false_accepts_per_day=new or None)
        self.hearing.change(Chain.for_model(model, settings, "false_accepts_per_day was set by request"))
        self.settings = settings
        _log.info("thresholds: %s", "; ".join(self.hearing.chain.reason[1:]))
        self._publish({"event": "config", "error": self.config_error})

    def _status_line(self) -> str:
        """What `systemctl status` shows."""
        line = f"{self.listener.state}: {self.listener.reason}"
        return line if self.config_error is None else f"{line}; the last reload failed: {self.config_error}"

    def _close(self) -> None:
        """End everything, the audio thread first: a process that ends under it crashes."""
        systemd.stopping("stopping")
        self._write_prometheus()
        has_ended = self.listener.stop(_STOP_SECONDS)
        self._end_all()
        if not has_ended:
            _log.error("the sound system hangs; leaving it behind")
            logging.shutdown()
            os._exit(0)

    def _end_all(self) -> None:
        signal.set_wakeup_fd(-1)
        self.outlets.close()
        self.hooks.close()
        self.captures.close()
        self.server.close()


def _iso(wall_s: float) -> str:
    """UTC, to the millisecond."""
    return datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="milliseconds")
