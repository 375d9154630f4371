"""What small computers take when idle and with every core busy: measurements that others have published.

Where no meter is, these two figures make an estimate: P = idle + busy cores x (load - idle) / cores. No row
without a source. Boards, supplies and settings differ; whoever has measured his own sets power.idle_w and
power.load_w.
"""

from dataclasses import dataclass

_DRAMBLE = (
    "J. Geerling, Power Consumption Benchmarks, https://www.pidramble.com/wiki/benchmarks/power-consumption"
)
_REVIEWS = "J. Geerling, sbc-reviews, at the wall, https://github.com/geerlingguy/sbc-reviews/issues/"
_GEERLING = "J. Geerling, https://www.jeffgeerling.com/blog/"


@dataclass(frozen=True)
class Board:
    """One measured board."""

    name: str
    """How its device tree calls it, without the revision."""
    idle_w: float
    load_w: float
    """With a computation on every core."""
    source: str
    cores: int = 4

    @property
    def watts_per_core(self) -> float:
        """What one busy core adds; also joules per second of CPU time."""
        return (self.load_w - self.idle_w) / self.cores


BOARDS = (
    # 100 mA at 5 V; 2.3 W with stress-ng -c 4, of which one core alone adds 0.5 W.
    Board(
        "Raspberry Pi Zero 2 W",
        0.5,
        2.3,
        _GEERLING + "2021/disabling-cores-reduce-pi-zero-2-ws-power-consumption-half",
    ),
    Board("Raspberry Pi 3 Model B", 1.4, 3.7, _DRAMBLE),
    Board("Raspberry Pi 3 Model B Plus", 1.9, 5.1, _DRAMBLE),
    Board("Raspberry Pi 4 Model B", 2.7, 6.4, _DRAMBLE),
    Board("Raspberry Pi Compute Module 4", 2.5, 4.6, _REVIEWS + "8"),
    # 4 GB, stepping C1; the 2 GB board of stepping D0 takes 0.9 W less, idle and busy.
    Board(
        "Raspberry Pi 5 Model B",
        3.3,
        9.8,
        _GEERLING + "2024/new-2gb-pi-5-has-33-smaller-die-30-idle-power-savings",
    ),
    Board("Raspberry Pi Compute Module 5", 2.4, 8.5, _REVIEWS + "58"),
    Board("Raspberry Pi 500", 3.1, 9.0, _REVIEWS + "60"),
    Board("Libre Computer AML-S905X-CC", 1.3, 2.4, _REVIEWS + "17"),
    Board("OrangePi Zero 2W", 1.12, 2.4, _REVIEWS + "33"),
)


def find_board(model: str) -> Board | None:
    """The row of a model name such as "Raspberry Pi 3 Model B Plus Rev 1.3"; the longest name that fits."""
    fitting = [board for board in BOARDS if f"{model} ".startswith(f"{board.name} ")]
    return max(fitting, key=lambda board: len(board.name), default=None)
