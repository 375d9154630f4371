"""What a busy core adds to a machine's power, learned from the machine itself.

With an energy counter, each interval gives a pair: mean busy cores and mean watts. Their least-squares line
has the idle power where it begins, and the power of one busy core as its slope. Older pairs fade, since
clocks and heat change. A slope is only told when the load has varied enough to know it.
"""

import math
from dataclasses import dataclass

FADING = 0.98
"""Weight of a pair when the next arrives: the last fifty count."""
LEAST_PAIRS = 12
LEAST_SPREAD_CORES = 0.02
"""Standard deviation of the load below which it is all noise."""
MOST_ERROR = 0.25
"""Standard error of a slope that is told, as a share of it."""


@dataclass
class Slope:
    """Weighted least squares, from running sums."""

    pairs: int = 0
    _weight: float = 0.0
    _x: float = 0.0
    _y: float = 0.0
    _xx: float = 0.0
    _xy: float = 0.0
    _yy: float = 0.0

    def add(self, busy_cores: float, watts: float) -> None:
        """Mean load and mean power of one interval."""
        self.pairs += 1
        # Deviations from running means: squares of raw values would cancel.
        self._weight, self._xx, self._xy, self._yy = (
            FADING * value for value in (self._weight, self._xx, self._xy, self._yy)
        )
        self._weight += 1
        dx, dy = busy_cores - self._x, watts - self._y
        self._x += dx / self._weight
        self._y += dy / self._weight
        self._xx += dx * (busy_cores - self._x)
        self._xy += dx * (watts - self._y)
        self._yy += dy * (watts - self._y)

    @property
    def watts_per_core(self) -> float | None:
        """Watts that a busy core adds; None while it is not known well enough."""
        if self.pairs < LEAST_PAIRS or self._xx < self._weight * LEAST_SPREAD_CORES**2:
            return None
        slope = self._xy / self._xx
        left_over = max(0.0, self._yy - slope * self._xy)
        error = math.sqrt(left_over / (self._weight - 2) / self._xx)
        return slope if slope > 0 and error <= MOST_ERROR * slope else None
