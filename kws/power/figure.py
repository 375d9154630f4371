"""One figure of power: how many watts, how they are known, and on what basis."""

from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["measured-board", "measured-package", "estimated", "unavailable"]
"""measured-board: everything that the supply feeds. measured-package: the processor's package, its memory."""


@dataclass(frozen=True, slots=True)
class Figure:
    """Watts that say where they come from."""

    watts: float | None
    """None: unavailable."""
    kind: Kind
    basis: str
    """What was measured or multiplied, for a reader."""
    is_mean: bool = False
    """The mean since the reading before, by an energy counter; otherwise the watts of one moment."""

    def fields(self) -> dict[str, Any]:
        """What the status shows of it."""
        watts = None if self.watts is None else round(self.watts, 6)
        return {"watts": watts, "kind": self.kind, "basis": self.basis}


class MeterError(Exception):
    """A meter is there but gives no figure now; the message says why, without a full stop."""
