"""How long to wait before the next attempt: longer each time, up to a cap, and never all machines at once."""

import random


class Backoff:
    """Doubling pauses with jitter.

    Args:
        first_s: The pause after the first failure.
        cap_s: What no pause exceeds.
    """

    def __init__(self, first_s: float = 1.0, cap_s: float = 60.0) -> None:
        self._first_s, self._cap_s = first_s, cap_s
        self._next_s = first_s

    def pause_s(self) -> float:
        """Seconds to wait now: half of the step to all of it."""
        step_s, self._next_s = self._next_s, min(self._cap_s, 2 * self._next_s)
        return step_s * random.uniform(0.5, 1.0)  # noqa: S311

    def reset(self) -> None:
        """It worked."""
        self._next_s = self._first_s
