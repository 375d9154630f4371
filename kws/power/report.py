"""Watts of the daemon and of the machine: the best that this machine can tell, with kind and basis.

A meter of the board comes before the processor's energy counters, these before an estimate. The daemon's own
power is marginal, what would be saved without it: its CPU time times what a busy core adds. That in turn is
learned from the machine's energy counter where there is one, else it comes from the table of boards.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kws import health
from kws.errors import ConfigError
from kws.power.boards import Board, find_board
from kws.power.figure import Figure, Mean
from kws.power.hwmon import Hwmon
from kws.power.pmic import Pmic
from kws.power.rapl import Rapl
from kws.power.source import Source
from kws.power.supply import Supply

ESTIMATE_PERIOD_S = 10.0


@dataclass(frozen=True)
class PowerSettings:
    """What a user knows better than the tables."""

    idle_w: float | None = None
    """Watts of this board when idle, measured by you; with load_w, in place of the table's row."""
    load_w: float | None = None
    """Watts of this board with every core busy."""
    meter: str | None = None
    """Which meter in /sys/class/hwmon feeds the board, by name, label or folder, where there are several."""

    def __post_init__(self) -> None:
        if (self.idle_w is None) != (self.load_w is None):
            raise ConfigError("idle_w and load_w belong together; set both or neither")
        if self.idle_w is not None and self.load_w is not None and not 0 < self.idle_w < self.load_w:
            raise ConfigError("idle_w must be above 0 and below load_w; measure both in watts")


class Power:
    """Answers how much power daemon and machine take; keeps what is needed between two answers."""

    def __init__(
        self,
        settings: PowerSettings | None = None,
        root: Path = health.ROOT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        settings = settings or PowerSettings()
        self._clock = clock
        self._model = health.board_name(root)
        self._board = _board(settings, self._model, root)
        meters = (Hwmon(root, settings.meter), Pmic(root), Supply(root), Rapl(root))
        self._sources = [Source(meter, health.Load(root)) for meter in meters]
        self._load = health.Load(root)
        self._cores: float | None = None
        self._cores_s: float | None = None
        self._means = {"daemon": Mean(), "machine": Mean()}

    def report(self, cpu_s_per_s: float | None) -> dict[str, Any]:
        """Everything that the status shows of power.

        Args:
            cpu_s_per_s: CPU seconds that the daemon used per second lately; None if that is not known yet.

        Returns:
            "daemon" and "machine": {"watts": number or None, "kind", "basis"}; "energy_per_day_wh": 24 hours
            at each one's mean power, None if unavailable; "reason": why it is known in this way.
        """
        now_s = self._clock()
        source, complaints = self._best(now_s)
        machine = source.figure if source and source.figure else self._estimated(now_s)
        daemon = self._marginal(cpu_s_per_s, source)
        return {
            "daemon": daemon.fields(),
            "machine": machine.fields(),
            "energy_per_day_wh": {
                "daemon": self._means["daemon"].per_day_wh(now_s, daemon),
                "machine": self._means["machine"].per_day_wh(now_s, machine),
            },
            "reason": "; ".join([self._reason(source, machine), *complaints]),
        }

    def _best(self, now_s: float) -> tuple[Source | None, list[str]]:
        """The first source that has a figure, and why those before it have none."""
        complaints: list[str] = []
        for source in self._sources:
            source.refresh(now_s)
            if source.figure:
                return source, complaints
            if source.complaint:
                complaints.append(source.complaint)
        return None, complaints

    def _estimated(self, now_s: float) -> Figure:
        """The machine's power from how busy it is."""
        board = self._board
        if board is None:
            return Figure(None, "unavailable", "no meter, and no published figures of this board")
        if self._cores_s is None or now_s - self._cores_s >= ESTIMATE_PERIOD_S:
            self._cores_s, self._cores = now_s, self._load.cores()
        if self._cores is None:
            return Figure(None, "unavailable", "/proc/stat does not tell how busy the machine is")
        watts = board.idle_w + self._cores * board.watts_per_core
        return Figure(watts, "estimated", f"{self._cores:.2f} busy cores on {_told(board)}")

    def _marginal(self, cpu_s_per_s: float | None, source: Source | None) -> Figure:
        """The daemon's power: CPU time times what a busy core adds."""
        if cpu_s_per_s is None:
            return Figure(None, "unavailable", "no CPU time was measured yet")
        if source and source.figure and source.watts_per_core is not None:
            adds = source.watts_per_core
            basis = f"CPU time x {adds:.2f} W a busy core, by the slope of {source.figure.basis} over load"
            return Figure(cpu_s_per_s * adds, source.figure.kind, basis)
        if self._board is not None:
            adds = self._board.watts_per_core
            basis = f"CPU time x {adds:.2f} W a busy core; {_told(self._board)}"
            return Figure(cpu_s_per_s * adds, "estimated", basis)
        if source and source.figure and source.figure.is_mean:
            told = "what a busy core adds is still being learned, which needs some change of load"
            return Figure(None, "unavailable", told)
        return Figure(None, "unavailable", "nothing tells what a busy core adds on this board")

    def _reason(self, source: Source | None, machine: Figure) -> str:
        if source and source.figure:
            return f"measured by {source.figure.basis.partition(':')[0]}"
        if machine.kind == "estimated":
            return f"no meter; estimated from CPU time for {self._model}"
        return (
            f"no meter, and no figures for {self._model}; "
            "set power.idle_w and power.load_w, or connect an INA219"
        )


def _board(settings: PowerSettings, model: str, root: Path) -> Board | None:
    """The user's figures, else the table's."""
    if settings.idle_w is None or settings.load_w is None:
        return find_board(model)
    now = health.busy(root)
    source = "power.idle_w and power.load_w"
    return Board(model, settings.idle_w, settings.load_w, source, now.processors if now else 1)


def _told(board: Board) -> str:
    return f"{board.name}: {board.idle_w:g} W idle, {board.load_w:g} W busy ({board.source})"
