"""Batteries, UPS boards and USB supplies that measure, in /sys/class/power_supply.

A battery that discharges feeds the whole machine. While it charges, its current is not the machine's. The
sign of `current_now` is no help: drivers use three conventions (Linux commit 05f94eb98907), so the status
decides. A USB or mains input counts while it is online and no battery charges from it.
Units: microvolts, microamperes, microwatts (Linux, Documentation/ABI/testing/sysfs-class-power).
"""

from pathlib import Path

from kws import health
from kws.power.figure import Figure, MeterError

BATTERIES = ("Battery", "UPS")
CONTRACTS = ("ucsi-source-psy", "tcpm-source-psy")
"""USB-C ports: their "current" is what was negotiated, not what flows."""


class Supply:
    """Watts from the batteries or into the board's input at this moment."""

    period_s = 1.0

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, now_s: float) -> Figure | None:
        """Watts of the machine; None where no supply measures."""
        supplies = [
            supply
            for supply in health.entries(self._root, "sys/class/power_supply", "")
            if health.read(supply / "scope") != "Device"  # the battery of a mouse
            and not supply.name.startswith(CONTRACTS)
        ]
        batteries = [supply for supply in supplies if health.read(supply / "type") in BATTERIES]
        status = {battery: health.read(battery / "status") for battery in batteries}
        feeding = [battery for battery in batteries if status[battery] == "Discharging"]
        if "Charging" not in status.values():
            feeding += [s for s in supplies if s not in batteries and health.number(s / "online")]
        found = _figure(feeding)
        if found is None and batteries:
            raise MeterError(f"{batteries[0].name} is not discharging, so it says nothing of the machine")
        return found


def _figure(supplies: list[Path]) -> Figure | None:
    """Sum of those that measure."""
    measured = {supply.name: watts for supply in supplies if (watts := _watts(supply))}
    if not measured:
        return None
    return Figure(sum(measured.values()), "measured-board", f"power_supply {' + '.join(measured)}")


def _watts(supply: Path) -> float | None:
    power_uw = health.number(supply / "power_now")
    if power_uw is not None:
        return abs(power_uw) / 1e6
    voltage_uv, current_ua = health.number(supply / "voltage_now"), health.number(supply / "current_now")
    if voltage_uv is None or current_ua is None:
        return None
    return abs(voltage_uv * current_ua) / 1e12
