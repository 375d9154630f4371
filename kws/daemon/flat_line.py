"""A microphone that delivers nothing but one value is muted, stuck, or unplugged without a word."""

_LONGEST_S = 60.0


class FlatLine:
    """Judges the blocks of one microphone, across its reopenings.

    Args:
        limit_s: Length of a flat line that is no accident; 0 judges nothing.

    Attributes:
        is_silent: The line has been flat for that long, and nothing else came since.
    """

    def __init__(self, limit_s: float) -> None:
        self.limit_s, self.is_silent = limit_s, False
        self._flat_s, self._patience_s = 0.0, limit_s

    def feed(self, is_flat: bool, seconds: float) -> bool:
        """Take one block; True when to open the microphone again: at the limit, and then ever more rarely."""
        if not is_flat:
            self.is_silent, self._flat_s, self._patience_s = False, 0.0, self.limit_s
            return False
        self._flat_s += seconds
        if not self.limit_s or self._flat_s < self._patience_s:
            return False
        self.is_silent, self._flat_s = True, 0.0
        self._patience_s = min(2 * self._patience_s, max(self.limit_s, _LONGEST_S))
        return True
