"""Programs that run when something was heard; nothing they do can hold up the daemon.

A hook is an argument list, without a shell. `{keyword}`, `{score}` and the other fields of the event are
filled in, and each of them is in its environment as KWS_KEYWORD, KWS_SCORE and so on. It runs in a process
group of its own, at lower priority than the audio; when it ends, what it left running in its group ends too.
It lives in the sandbox of the service: no network, no home folders.
"""

import contextlib
import logging
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, cast

from kws.errors import ConfigError

log = logging.getLogger(__name__)

AT_ONCE = 4
"""Hooks that may run at the same time; what would be one more is dropped."""

_PASSED_ON = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_ALL", "TZ", "TMPDIR",
    "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "PULSE_SERVER", "DISPLAY", "WAYLAND_DISPLAY",
)  # fmt: skip
"""All that a hook gets of the daemon's environment: enough to play a sound; no sockets, no credentials."""

_TAIL_BYTES = 2048  # of the output, kept for the log
_CHUNK_BYTES = 65536  # what a pipe holds
_DRAIN_SECONDS, _POLL_SECONDS = 0.01, 0.25  # between two looks at a hook that prints much, or anything else
_NAME_LENGTH = 60
_GRACE_SECONDS = 2.0  # between TERM and KILL
_NICENESS, _OOM_SCORE = 5, 500


@dataclass(frozen=True)
class HookSettings:
    """One program, and when it runs."""

    command: tuple[str, ...]
    """Program and arguments; {keyword}, {score}, {wall_time} ... in an argument are fields of the event."""
    events: tuple[Literal["detection", "near-miss", "state", "config"], ...] = ("detection",)
    """Which events start it."""
    keywords: tuple[str, ...] = ()
    """Which keywords start it; none named: every one, and events without a keyword."""
    timeout_seconds: float = 10.0
    """When it is ended by force."""

    def __post_init__(self) -> None:
        """Refuse what could not run."""
        if not self.command or not self.command[0]:
            raise ConfigError("command is empty; name a program")
        if "/" in self.command[0] and not self.command[0].startswith("/"):
            raise ConfigError(f"command {self.command[0]!r} depends on a folder; write its path from / on")
        if any("\0" in part for part in self.command):
            raise ConfigError("command holds a zero byte; remove it")
        if not 0 < self.timeout_seconds <= 3600:
            raise ConfigError("timeout_seconds must lie in 0..3600 and above 0; correct it")

    @property
    def name(self) -> str:
        """For the log: the program and the beginning of its arguments."""
        text, shown = " ".join(" ".join(self.command).split()), max(_NAME_LENGTH, len(self.command[0]))
        return text if len(text) <= shown else f"{text[:shown]}..."

    def wants(self, event: Mapping[str, Any]) -> bool:
        """Whether this event starts it."""
        return event.get("event") in self.events and (
            not self.keywords or event.get("keyword") in self.keywords
        )


class Hooks:
    """The hooks that are configured and those that run; all methods are for one thread and return at once.

    `start` hands an event over, `poll` looks after what runs and says when it wants to be called again. What
    goes wrong is a line in the log, never an exception.
    """

    def __init__(self, settings: tuple[HookSettings, ...] = ()) -> None:
        self._running: list[_Running] = []
        self.configure(settings)

    def configure(self, settings: tuple[HookSettings, ...]) -> None:
        """Use other hooks from now on; what runs goes on."""
        self._settings = settings
        for each in settings:
            if not shutil.which(each.command[0]):
                log.warning("hook %s: there is no such program; install it or correct hooks", each.name)

    def start(self, event: Mapping[str, Any]) -> None:
        """Start what this event starts; call `poll` then."""
        wanted = [each for each in self._settings if each.wants(event)]
        if wanted:
            self.poll()  # what has ended makes room
        for each in wanted:
            name = each.name
            if len(self._running) >= AT_ONCE:
                log.warning("hook %s: left out, %d others still run; make them faster", name, AT_ONCE)
                continue
            try:
                self._running.append(_Running(each, event))
            except (OSError, ValueError, subprocess.SubprocessError) as error:
                reason = getattr(error, "strerror", None) or error
                log.warning("hook %s: cannot start (%s); correct hooks", name, reason)

    def poll(self) -> float | None:
        """Look after what runs; returns the seconds until it must be called again, None when nothing runs."""
        waits = [running.poll() for running in self._running]
        self._running = [r for r, wait in zip(self._running, waits, strict=True) if wait is not None]
        return min((wait for wait in waits if wait is not None), default=None)

    def close(self, timeout_s: float = 1.0) -> None:
        """End what runs: asked first, killed after `timeout_s`."""
        end = time.monotonic() + timeout_s
        for running in self._running:
            running.expire(timeout_s)
        while (wait := self.poll()) is not None and time.monotonic() < end + timeout_s:
            time.sleep(min(wait, 0.02))


class _Running:
    """One program that runs."""

    def __init__(self, settings: HookSettings, event: Mapping[str, Any]) -> None:
        program, *arguments = settings.command
        self._name, self._tail = settings.name, b""
        self._process = subprocess.Popen(
            [program, *(_filled(argument, event) for argument in arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=_environment(event),
            start_new_session=True,
        )
        _step_back(self._process.pid)
        self._output = cast(IO[bytes], self._process.stdout)
        os.set_blocking(self._output.fileno(), False)
        self._started = time.monotonic()
        self._deadline = self._started + settings.timeout_seconds
        self._signals = [signal.SIGTERM, signal.SIGKILL]  # still to be sent, when a deadline passes
        self._is_late = False

    def expire(self, grace_s: float) -> None:
        """Ask it to end now; it is killed after `grace_s`."""
        if signal.SIGTERM in self._signals:
            self._signals.remove(signal.SIGTERM)
            self._signal(signal.SIGTERM)
            self._deadline = time.monotonic() + grace_s

    def poll(self) -> float | None:
        """Read its output, end it when it is late; seconds until the next look, None when it is over."""
        prints_much = self._drain()
        if self._has_ended():
            self._signal(signal.SIGKILL)
            self._finish(self._process.wait())
            return None
        left_s = self._deadline - time.monotonic()
        if left_s <= 0 and self._signals:
            self._is_late = True
            self._signal(self._signals.pop(0))
            left_s = _GRACE_SECONDS
            self._deadline = time.monotonic() + left_s
        soon_s = _DRAIN_SECONDS if prints_much else _POLL_SECONDS
        return min(soon_s, left_s) if self._signals else soon_s

    def _has_ended(self) -> bool:
        """It is not reaped yet: its number is still its own, so that a signal reaches no other group."""
        try:
            ended = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:  # whoever started the daemon had it ignore its children
            return True
        return ended is not None

    def _drain(self) -> bool:
        """Keep the end of what it has printed; whether there may be more."""
        try:
            data = os.read(self._output.fileno(), _CHUNK_BYTES)
        except BlockingIOError:
            return False
        self._tail = (self._tail + data)[-_TAIL_BYTES:]
        return len(data) >= _CHUNK_BYTES // 2  # small writes fill a pipe with half of what it holds

    def _finish(self, code: int) -> None:
        self._drain()  # no further: a process outside the group may still write
        self._output.close()
        said = _printable(self._tail)
        if self._is_late:
            took_s = time.monotonic() - self._started
            log.warning("hook %s: ended by force after %.1f s; it said: %s", self._name, took_s, said)
        elif code:
            how = f"code {code}" if code > 0 else f"signal {-code}"
            log.warning("hook %s: failed with %s; it said: %s", self._name, how, said)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(OSError):  # nobody is left, or it has become another user
            os.killpg(self._process.pid, number)


def _step_back(group: int) -> None:
    """Let the daemon go first: at the processor, and in being spared when memory runs out."""
    with contextlib.suppress(OSError):  # it has ended already, or a sandbox forbids it
        os.setpriority(os.PRIO_PGRP, group, _NICENESS)
        Path(f"/proc/{group}/oom_score_adj").write_text(str(_OOM_SCORE), encoding="ascii")


def _filled(argument: str, event: Mapping[str, Any]) -> str:
    """The argument with the event's fields in place of their names; other braces stay as they are."""
    return re.sub(r"\{(\w+)\}", lambda m: _text(event[m[1]]) if m[1] in event else m[0], argument)


def _environment(event: Mapping[str, Any]) -> dict[str, str]:
    own = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return own | {f"KWS_{name.upper()}": _text(value) for name, value in event.items()}


def _text(value: Any) -> str:
    return "" if value is None else str(value).replace("\0", "")


def _printable(output: bytes) -> str:
    """One line for the log, whatever the bytes are."""
    text = " ".join(output.decode(errors="replace").split())
    return "".join(c for c in text if c.isprintable()) or "nothing"
