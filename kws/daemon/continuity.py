"""Did audio get lost? Frames counted against the monotonic clock.

PortAudio loses audio without a word when its reader is late, so nothing but the clock tells. After every read

    behind = (time - time of the first read) * rate - (frames read since + frames still waiting)

is noise (a read returns late, never early), plus the drift of the device's clock, plus whatever was lost.
Noise and drift set a baseline: it follows `behind` down at once, and up by at most 1000 ppm, above what any
device's clock and the machine's corrections of its own reach. What stays above it for some reads is a gap.
"""

_CREEP = 1e-3
_CONFIRMING_READS = 3


class Continuity:
    """Finds gaps in one stream; losses below 0.1 % of the time pass for drift.

    Args:
        rate_hz: Rate of the frames.
        gap_frames: The smallest loss that is a gap; half a block is above the noise of all that was measured.
    """

    def __init__(self, rate_hz: int, gap_frames: int) -> None:
        self._rate_hz, self._gap_frames = rate_hz, gap_frames
        self._start_s: float | None = None
        self._last_s, self._baseline = 0.0, 0.0
        self._frames = 0
        self._excess: list[float] = []

    def feed(self, frames: int, waiting: int, time_s: float) -> int:
        """Take one read: its frames, the frames still waiting, the monotonic time; return the frames lost.

        A gap is told two reads after it, when late audio can no longer explain it.
        """
        if self._start_s is None:
            self._start_s = self._last_s = time_s
            self._frames = -waiting
            return 0
        self._frames += frames
        behind = (time_s - self._start_s) * self._rate_hz - (self._frames + waiting)
        crept = self._baseline + _CREEP * (time_s - self._last_s) * self._rate_hz
        self._last_s, self._baseline = time_s, min(behind, crept)
        self._excess = [*self._excess[1 - _CONFIRMING_READS :], behind - self._baseline]
        gap = round(min(self._excess))
        if len(self._excess) < _CONFIRMING_READS or gap <= self._gap_frames:
            return 0
        self._baseline += gap
        self._excess.clear()
        return gap
