"""Mean power over time, for the energy of a day."""

from dataclasses import dataclass

from kws.power.figure import Figure

HOURS_PER_DAY = 24


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
