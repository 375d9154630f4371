"""The daemon at work, redrawn on a terminal: level, scores and what was heard last."""

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any, NoReturn

from kws.client import ask
from kws.errors import KwsError
from kws.protocol import HEALTHY, Folder, Message
from kws.status_view import duration, event_line, headline, number, percent, watts

TURNS_PER_SECOND = 5
"""Asked only while someone watches: an idle daemon builds no snapshots."""

_HOLD_S = 1.0  # a score lasts one block, too short to be seen
_NEW_S = 2.0  # how long a new event stands out
_BAR_CELLS, _BAR_RANGE_DB = 40, 80
_EVENTS = 8

_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l"  # another screen, no cursor, long lines cut
_LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"
_GOOD, _BAD, _NEW, _FAINT, _PLAIN = "\x1b[32m", "\x1b[1;31m", "\x1b[1;7m", "\x1b[2m", "\x1b[0m"


def watch(folder: Folder) -> NoReturn:
    """Draw until Ctrl-C, also while the daemon restarts; KwsError if it does not run at first."""
    view = View(is_coloured="NO_COLOR" not in os.environ)
    snapshot = ask({"request": "status"}, folder)
    with _screen():
        while True:
            try:
                _draw(view.lines(snapshot, time.monotonic()))
                time.sleep(1 / TURNS_PER_SECOND)
                snapshot = ask({"request": "status"}, folder)
            except KwsError as error:
                _draw([str(error), "", "waiting for it; Ctrl-C ends"])
                time.sleep(1)


class View:
    """What is drawn of the snapshots that it is shown one after the other."""

    def __init__(self, is_coloured: bool = True) -> None:
        self._is_coloured = is_coloured
        self._peaks: dict[str, tuple[float, float]] = {}
        self._newest: Any = None
        self._news_s = float("-inf")

    def lines(self, snapshot: Message, now_s: float) -> list[str]:
        """The screen.

        Args:
            snapshot: what "status" answers.
            now_s: time of a clock that only goes forward.
        """
        state = headline(snapshot)
        colour = _GOOD if snapshot.get("state") in HEALTHY else _BAD
        return [
            f"kws  {self._paint(colour, state)}  {_PLAIN if self._is_coloured else ''}"
            f"running for {duration(snapshot.get('uptime_s'))}",
            "",
            self._level(snapshot),
            *self._scores(snapshot, now_s),
            "",
            *self._events(snapshot, now_s),
            "",
            *_figures(snapshot),
            "",
            self._paint(_FAINT, "Ctrl-C ends"),
        ]

    def _level(self, snapshot: Message) -> str:
        audio, gate = snapshot.get("audio") or {}, snapshot.get("gate") or {}
        level = audio.get("level_dbfs")
        share = 0.0 if level is None else 1 + level / _BAR_RANGE_DB
        is_open = {None: "", True: ", gate open", False: ", gate closed"}[gate.get("is_open")]
        background = number(audio.get("floor_dbfs"), "dBFS")
        return f"{'level':<16}{self._bar(share)}{number(level, 'dBFS'):>12}, background {background}{is_open}"

    def _scores(self, snapshot: Message, now_s: float) -> Iterator[str]:
        thresholds = (snapshot.get("model") or {}).get("thresholds") or {}
        for keyword, score in (snapshot.get("scores") or {}).items():
            peak, peak_s = self._peaks.get(keyword, (0.0, now_s))
            if (score or 0.0) >= peak or now_s - peak_s >= _HOLD_S:
                peak, peak_s = score or 0.0, now_s
            self._peaks[keyword] = peak, peak_s
            threshold = thresholds.get(keyword)
            wanted = "" if threshold is None else f", threshold {threshold:.2f}"
            yield f"{keyword:<16}{self._bar(peak, threshold)}{peak:>12.2f}{wanted}"

    def _events(self, snapshot: Message, now_s: float) -> Iterator[str]:
        events = snapshot.get("last_events") or []
        newest = events[-1] if events else None
        if newest != self._newest:
            self._newest, self._news_s = newest, now_s
        for event in reversed(events[-_EVENTS:]):
            is_new = event is newest and now_s - self._news_s < _NEW_S
            yield self._paint(_NEW if is_new else "", event_line(event))
        if not events:
            yield "nothing heard yet"

    def _bar(self, share: float, mark: float | None = None) -> str:
        """A share of 1 as cells, with a tick at `mark`."""
        filled = round(min(max(share, 0.0), 1.0) * _BAR_CELLS)
        cells = "█" * filled + "·" * (_BAR_CELLS - filled)
        if mark is not None:
            tick = min(round(mark * _BAR_CELLS), _BAR_CELLS - 1)
            cells = f"{cells[:tick]}│{cells[tick + 1 :]}"
        return self._paint(_GOOD, cells)

    def _paint(self, colour: str, words: str) -> str:
        return f"{colour}{words}{_PLAIN}" if self._is_coloured and colour else words


def _figures(snapshot: Message) -> Iterator[str]:
    cpu = snapshot.get("cpu") or {}
    audio, gate = snapshot.get("audio") or {}, snapshot.get("gate") or {}
    total = (((snapshot.get("latency_ms") or {}).get("recent") or {}).get("total")) or {}
    power = snapshot.get("power") or {}
    yield (
        f"cost      CPU {number(cpu.get('ms_per_s'), 'ms a second', 1)}, "
        f"wake-ups {number(cpu.get('wakeups_per_s'), 'a second')}, memory {number(cpu.get('rss_mb'), 'MB')}"
    )
    yield f"latency   median {number(total.get('p50'), 'ms', 1)}, p95 {number(total.get('p95'), 'ms', 1)}"
    yield (
        f"audio     lost {number(audio.get('lost_ms'), 'ms')}, reopens {number(audio.get('reopens'))}, "
        f"gate open {percent(gate.get('duty_cycle'))}"
    )
    yield f"power     this program {watts(power.get('daemon'))}"
    yield f"          machine {watts(power.get('machine'))}"


@contextlib.contextmanager
def _screen() -> Iterator[None]:
    """Borrow the terminal, and give it back as it was, also on SIGTERM."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        sys.stdout.write(_ENTER)
        yield
    finally:
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()
        signal.signal(signal.SIGTERM, before)


def _draw(lines: list[str]) -> None:
    """Write over the screen that is there: clearing it first would flicker."""
    rows = shutil.get_terminal_size().lines
    sys.stdout.write("\x1b[H" + "".join(f"{line}\x1b[K\r\n" for line in lines[: rows - 1]) + "\x1b[J")
    sys.stdout.flush()
