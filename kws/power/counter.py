"""An energy counter read twice is a mean power; it wraps around, is reset, or stands still."""

from dataclasses import dataclass

from kws.power.figure import MeterError

PLAUSIBLE_WATTS = 500.0
"""More than any processor package or small board takes. A counter that shows more was reset, not wrapped."""


@dataclass(slots=True)
class Counter:
    """Mean watts between two readings of one counter in microjoules."""

    name: str
    range_uj: int | None = None
    """Highest value before it starts at 0 again; None: it does not wrap."""
    _last: tuple[float, int] | None = None

    def watts(self, now_s: float, energy_uj: int) -> float:
        """Mean power since the reading before.

        Raises:
            MeterError: there is none before, or what was counted in between cannot be known.
        """
        last, self._last = self._last, (now_s, energy_uj)
        if last is None or now_s <= last[0]:
            raise MeterError(f"{self.name} was read for the first time; the next reading has a figure")
        elapsed_s, counted_uj = now_s - last[0], energy_uj - last[1]
        if self.range_uj is not None:
            if elapsed_s * PLAUSIBLE_WATTS * 1e6 > self.range_uj:
                raise MeterError(f"{self.name} may have wrapped more than once in {elapsed_s:.0f} s")
            counted_uj %= self.range_uj + 1
        watts = counted_uj / 1e6 / elapsed_s
        if not 0 <= watts <= PLAUSIBLE_WATTS:
            raise MeterError(f"{self.name} was reset; the next reading has a figure")
        if watts == 0:
            raise MeterError(f"{self.name} stands still")
        return watts
