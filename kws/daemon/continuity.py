"""Did audio get lost? Frames counted against the monotonic clock.

PortAudio loses audio without a word when its reader is late, so nothing but the clock tells. After every read

    behind = (time - time of the first read) * rate - (frames read since + frames still waiting)

is noise (a read returns late, never early), plus the drift of the device's clock, plus whatever was lost.
Noise and drift set a baseline: it follows `behind` down at once, and up by at most 1000 ppm, above what any
device's clock and the machine's corrections of its own reach. What stays above it for some reads is a gap.
While a late reader catches up nothing is judged: a sound server may hold more than the device's buffer shows.
"""

_CREEP = 1e-3
_CONFIRMING_READS = 12  # a second: a busy sound server delivers some reads late, and then what it owes
_ON_TIME_BLOCKS = 3  # waiting at most: a device delivers a few at a time
_CATCHING_UP_S = 10.0  # a reader that needs longer never will: its losses are judged all the same


class Continuity:
    """Finds gaps in one stream; losses below 0.1 % of the time pass for drift.

    Args:
        rate_hz: Rate of the frames.
        block_frames: What one read takes. Losses of more than half of it are gaps: that is above all noise.
    """

    def __init__(self, rate_hz: int, block_frames: int) -> None:
        self._rate_hz, self._block_frames = rate_hz, block_frames
        self._start_s: float | None = None
        self._last_s = self._caught_up_s = self._baseline = 0.0
        self._frames = 0
        self._excess: list[float] = []

    def feed(self, frames: int, waiting: int, time_s: float) -> int:
        """Take one read: its frames, the frames still waiting, the monotonic time; return the frames lost.

        A gap is told a second after it, or after the reader has caught up: audio that is late is not lost.
        """
        if self._start_s is None:
            self._start_s = self._last_s = self._caught_up_s = time_s
            self._frames = -waiting
            return 0
        self._frames += frames
        behind = (time_s - self._start_s) * self._rate_hz - (self._frames + waiting)
        crept = self._baseline + _CREEP * (time_s - self._last_s) * self._rate_hz
        self._last_s, self._baseline = time_s, min(behind, crept)
        if waiting < _ON_TIME_BLOCKS * self._block_frames:
            self._caught_up_s = time_s
        elif time_s - self._caught_up_s < _CATCHING_UP_S:
            self._excess.clear()
            return 0
        self._excess = [*self._excess[1 - _CONFIRMING_READS :], behind - self._baseline]
        gap = round(min(self._excess))
        if len(self._excess) < _CONFIRMING_READS or gap <= self._block_frames / 2:
            return 0
        self._baseline += gap
        self._excess.clear()
        return gap
