"""A meter that is read now and then, with what it said last and what was learned from it."""

from dataclasses import dataclass, field
from typing import Protocol

from kws.health import Load
from kws.power.figure import Figure, MeterError
from kws.power.slope import Slope


class Meter(Protocol):
    """Something that knows the machine's power."""

    period_s: float
    """It is read this often at most: reading costs power too."""

    def read(self, now_s: float) -> Figure | None:
        """The machine's power now; None where there is no such meter, MeterError where it has no figure."""


@dataclass
class Source:
    """One meter's last outcome, and the power of a busy core by its energy counter."""

    meter: Meter
    load: Load
    figure: Figure | None = None
    complaint: str = ""
    """Why the meter, although it is there, has no figure."""
    _slope: Slope = field(default_factory=Slope)
    _slope_of: str = ""
    _read_s: float | None = None

    def refresh(self, now_s: float) -> None:
        """Read the meter if its period is over; whatever it does, an outcome is left."""
        if self._read_s is not None and 0 <= now_s - self._read_s < self.meter.period_s:
            return
        self._read_s, self.figure, self.complaint = now_s, None, ""
        try:
            self.figure = self.meter.read(now_s)
        except MeterError as error:
            self.complaint = str(error)
        if self.figure or self.complaint:
            self._learn(self.load.cores())

    @property
    def watts_per_core(self) -> float | None:
        """What a busy core adds, by the slope; None if it is not known."""
        return self._slope.watts_per_core if self.figure and self.figure.is_mean else None

    def _learn(self, cores: float | None) -> None:
        """Pair the mean power with the mean load of the same interval; another basis starts anew."""
        figure = self.figure
        if figure is None or not figure.is_mean or figure.watts is None:
            return
        if figure.basis != self._slope_of:
            self._slope, self._slope_of = Slope(), figure.basis
        if cores is not None:
            self._slope.add(cores, figure.watts)
