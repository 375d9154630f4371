"""Board meters of the kernel's hardware monitoring: INA219, INA226 and their family, in /sys/class/hwmon.

Units of the files: in* mV, curr* mA, power* microwatts, energy* microjoules
(https://docs.kernel.org/hwmon/sysfs-interface.html). A graphics card or a processor is a hwmon device with
power files too, but not the board's supply, hence the list of names.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kws import health
from kws.power.counter import Counter
from kws.power.figure import Figure, MeterError

METERS = re.compile(r"ina\d+|sy24655|ltc294\d|power_meter")
"""Chips made for a supply line (ina219, ina226, ina3221, ltc2947…), and the power meter of ACPI machines."""
CHANNELS = range(1, 4)
"""Supply lines of one chip; the ina3221 has three."""


@dataclass(frozen=True)
class _Line:
    """One measured supply line."""

    told: str
    names: tuple[str, ...]
    """By which a user may call it."""
    watts: float
    is_mean: bool


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
            lines = [line for line in lines if self._meter in line.names]
            if not lines:
                raise MeterError(f"power.meter: there is no meter {self._meter!r} in /sys/class/hwmon")
        if not lines:
            return None
        highest = max(lines, key=lambda line: line.watts)
        if not highest.watts:
            raise MeterError(f"{highest.told} shows 0 W; check how it is connected")
        among = f", the highest of {len(lines)} meters" if lines[1:] else ""
        return Figure(highest.watts, "measured-board", highest.told + among, highest.is_mean)

    def _chips(self) -> list[Path]:
        chips = health.entries(self._root, "sys/class/hwmon", "hwmon")
        return [chip for chip in chips if self._is_meter(chip, health.read(chip / "name") or "")]

    def _is_meter(self, chip: Path, name: str) -> bool:
        return METERS.fullmatch(name) is not None or self._meter in (name, chip.name)

    def _lines(self, chip: Path, now_s: float) -> Iterator[_Line]:
        """Each supply line that a chip measures."""
        name = health.read(chip / "name") or ""
        for channel in CHANNELS:
            label = health.read(chip / f"in{channel}_label") or health.read(chip / "label") or ""
            measured = self._watts(chip, channel, now_s)
            if measured is not None:
                yield _Line(f"{name} ({label or chip.name})", (name, label, chip.name), *measured)

    def _watts(self, chip: Path, channel: int, now_s: float) -> tuple[float, bool] | None:
        """Mean power by the energy counter if there is one, else the power, else voltage times current.

        Returns:
            Watts, and whether they are a mean; None where the chip has no such channel.
        """
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
        voltage_mv = health.number(chip / f"in{channel}_input")
        current_ma = health.number(chip / f"curr{channel}_input")
        if voltage_mv is None or current_ma is None:
            return None
        return abs(
            voltage_mv * current_ma
        ) / 1e6, False  # negative: the shunt is connected the other way round
