"""What listening costs this machine now: processor time, wake-ups, memory, watts, heat."""

from collections import deque
from typing import Any

from kws.health import Machine, Usage, rates, usage
from kws.power import Power, PowerSettings

WINDOW_READINGS = 5
"""Rates are over as many minutes, so that two readers of the status see the same."""


class Cost:
    """Readings a minute apart; a report compares now with the oldest that is kept."""

    def __init__(self, settings: PowerSettings) -> None:
        self._readings: deque[Usage] = deque([usage()], maxlen=WINDOW_READINGS)
        self._machine, self._power = Machine(), Power(settings)

    def configure(self, settings: PowerSettings) -> None:
        """Take other figures of the board."""
        self._power = Power(settings)

    def every_minute(self) -> None:
        """Keep a reading, and look at the meters, whose means need it."""
        self.report()
        self._readings.append(usage())

    def report(self) -> dict[str, Any]:
        """The parts "cpu", "power" and "machine" of the status."""
        cpu = rates(self._readings[0], usage())
        ms_per_s = cpu["ms_per_s"]
        return {
            "cpu": cpu,
            "power": self._power.report(None if ms_per_s is None else ms_per_s / 1000),
            "machine": self._machine.report(),
        }
