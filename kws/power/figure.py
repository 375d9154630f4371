"""One figure of power: how many watts, how they are known, on what basis; and its mean over time."""

from dataclasses import dataclass
from typing import Any, Literal

HOURS_PER_DAY = 24

Kind = Literal["measured-board", "measured-package", "estimated", "unavailable"]
"""measured-board: everything that the supply feeds. measured-package: the processor's package, its memory."""


@dataclass(frozen=True, slots=True)
class Figure:
    """Watts that say where they come from."""

    watts: float | None
    """None: unavailable."""
    kind: Kind
    basis: str
    """What was measured or multiplied, for a reader."""
    is_mean: bool = False
    """The mean since the reading before, by an energy counter; otherwise the watts of one moment."""

    def fields(self) -> dict[str, Any]:
        """What the status shows of it."""
        watts = None if self.watts is None else round(self.watts, 6)
        return {"watts": watts, "kind": self.kind, "basis": self.basis}


class MeterError(Exception):
    """A meter is there but gives no figure now; the message says why, without a full stop."""


@dataclass
class Mean:
    """Time-weighted mean of a figure, for as long as it is known in the same way."""

    _kind: str = ""
    _joules: float = 0.0
    _seconds: float = 0.0
    _last: tuple[float, float] | None = None

    def per_day_wh(self, now_s: float, figure: Figure) -> float | None:
        """Take in a figure; watt-hours of a day at the mean, None while there is no figure."""
        if figure.watts is None:
            self._last = None
            return None
        if figure.kind != self._kind:
            self._kind, self._joules, self._seconds, self._last = figure.kind, 0.0, 0.0, None
        if self._last is not None:
            last_s, last_w = self._last
            self._joules += (now_s - last_s) * (last_w + figure.watts) / 2
            self._seconds += now_s - last_s
        self._last = now_s, figure.watts
        mean_w = self._joules / self._seconds if self._seconds > 0 else figure.watts
        return round(mean_w * HOURS_PER_DAY, 6)
