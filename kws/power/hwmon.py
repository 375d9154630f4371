"""Board meters of the kernel's hardware monitoring: INA219, INA226 and their family, in /sys/class/hwmon.

Units of the files: in* mV, curr* mA, power* microwatts, energy* microjoules
(https://docs.kernel.org/hwmon/sysfs-interface.html). A graphics card or a processor is a hwmon device with
power files too, but not the board's supply, hence the list of names.
"""

import re
from pathlib import Path

from kws import health
from kws.power.counter import Counter
from kws.power.figure import Figure, MeterError

METERS = re.compile(r"ina\d+|sy24655|ltc294\d|power_meter")
"""Chips made for a supply line (ina219, ina226, ina3221, ltc2947…), and the power meter of ACPI machines."""
CHANNELS = range(1, 4)
"""Supply lines of one chip; the ina3221 has three."""


class Hwmon:
    """The meter in the supply line of the board."""

    period_s = 1.0

    def __init__(self, root: Path, meter: str | None = None) -> None:
        """`meter`: its name, label or folder ("ina219", "VDD_IN", "hwmon3"), where there are several."""
        self._root, self._meter = root, meter
        self._counters: dict[tuple[Path, int], Counter] = {}

    def read(self, now_s: float) -> Figure | None:
        """Watts of the supply line; of several the highest, since the others are behind it."""
        lines = [line for chip in self._chips() for line in self._lines(chip, now_s)]
        if self._meter is not None:
            lines = [line for line in lines if self._meter in line[1:]]
            if not lines:
                raise MeterError(f"power.meter: there is no meter {self._meter!r} in /sys/class/hwmon")
        if not lines:
            return None
        figure = max((line[0] for line in lines), key=lambda figure: figure.watts or 0.0)
        if not figure.watts:
            raise MeterError(f"{figure.basis} shows 0 W; check how it is connected")
        if lines[1:]:
            figure = Figure(
                figure.watts,
                figure.kind,
                f"{figure.basis}, the highest of {len(lines)} meters",
                figure.is_mean,
            )
        return figure

    def _chips(self) -> list[Path]:
        chips = health.entries(self._root, "sys/class/hwmon", "hwmon")
        return [
            chip
            for chip in chips
            if METERS.fullmatch(health.read(chip / "name") or "") or self._is_named(chip)
        ]

    def _is_named(self, chip: Path) -> bool:
        return self._meter is not None and self._meter in (chip.name, health.read(chip / "name"))

    def _lines(self, chip: Path, now_s: float) -> list[tuple[Figure, str, str, str]]:
        """Each supply line that a chip measures, with the names by which a user may call it."""
        name = health.read(chip / "name") or chip.name
        found = []
        for channel in CHANNELS:
            label = health.read(chip / f"in{channel}_label") or health.read(chip / "label") or ""
            told = f"{name} ({label})" if label else f"{name} ({chip.name})"
            measured = self._watts(chip, channel, now_s)
            if measured is not None:
                watts, is_mean = measured
                found.append((Figure(watts, "measured-board", told, is_mean), name, label, chip.name))
        return found

    def _watts(self, chip: Path, channel: int, now_s: float) -> tuple[float, bool] | None:
        """Mean power by the energy counter if there is one, else the power, else voltage times current."""
        energy_uj = health.number(chip / f"energy{channel}_input")
        if energy_uj is not None:
            counter = self._counters.setdefault((chip, channel), Counter(chip.name))
            try:
                return counter.watts(now_s, energy_uj), True
            except MeterError:
                pass  # the power of this moment will do until the next reading
        for file in (f"power{channel}_average", f"power{channel}_input"):
            power_uw = health.number(chip / file)
            if power_uw is not None:
                return abs(power_uw) / 1e6, False
        voltage_mv, current_ma = (
            health.number(chip / f"in{channel}_input"),
            health.number(chip / f"curr{channel}_input"),
        )
        if voltage_mv is None or current_ma is None:
            return None
        return abs(voltage_mv * current_ma) / 1e6, False  # a shunt connected the other way round
