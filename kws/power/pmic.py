"""The Raspberry Pi 5 measures itself: its power management chip (PMIC) knows current and voltage of 12 rails.

`vcgencmd pmic_read_adc` prints them; a reading takes the firmware some 20 ms, so it is done once a minute.
The difference to the whole bare board was fitted by somebody with a USB-C meter:
board = 1.1451 x rails + 0.5879 W (https://github.com/jfikar/RPi5-power).
"""

import math
import re
from pathlib import Path

from kws import health
from kws.power.figure import Figure, MeterError

BOARDS = re.compile(r"Raspberry Pi (5|500|Compute Module 5)\b")
"""Earlier boards have no current sensors."""
LINE = re.compile(r"^\s*(\S+)_([AV])\s+(?:current|volt)\(\d+\)=([\d.]+|nan)[AV]\s*$", re.MULTILINE)
GAIN, OFFSET_W = 1.1451, 0.5879
PROCESSOR = "VDD_CORE"
"""The rail without which a sum says nothing."""


class Pmic:
    """The board's power at this moment, from the sum of its rails."""

    period_s = 60.0

    def __init__(self, root: Path) -> None:
        self._is_there = BOARDS.search(health.board_name(root)) is not None

    def read(self, now_s: float) -> Figure | None:
        """Watts of the board; None on other boards."""
        if not self._is_there:
            return None
        try:
            rails = rails_w(health.vcgencmd("pmic_read_adc"))
        except OSError as error:
            raise MeterError(f"the PMIC cannot be read: {error}") from None
        if PROCESSOR not in rails:
            raise MeterError(f"the PMIC shows no power of {PROCESSOR}")
        total_w = sum(rails.values())
        return Figure(
            GAIN * total_w + OFFSET_W,
            "measured-board",
            f"Pi 5 PMIC: {len(rails)} rails {total_w:.2f} W, x {GAIN} + {OFFSET_W} W for losses; "
            "without what is plugged into USB",
        )


def rails_w(answer: str) -> dict[str, float]:
    """Watts of each rail that has both a current and a voltage; pairs are found by name.

    EXT5V and BATT have no current. A channel that the firmware could not read is "nan"; its rail is left out.
    """
    found = {(name, unit): float(value) for name, unit, value in LINE.findall(answer)}
    power = {
        name: value * found.get((name, "V"), math.nan) for (name, unit), value in found.items() if unit == "A"
    }
    return {name: watts for name, watts in power.items() if not math.isnan(watts)}
