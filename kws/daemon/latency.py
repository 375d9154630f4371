"""How long things take: percentiles of durations, of the last five minutes and since the start.

A histogram with buckets that grow by 7 % tells every percentile within 4 %, in constant memory and without
keeping a single measurement. The audio thread adds, any other thread may read at the same time.
"""

import math
from bisect import bisect_left
from itertools import accumulate
from typing import Any

FIRST_MS = 0.01
"""Upper edge of the first bucket."""
FACTOR = 1.07
"""From one bucket to the next."""
BUCKETS = 201
"""The last one takes everything above 7 s."""
SLOT_SECONDS = 60.0
SLOTS = 5
"""Recent are the last five minutes, in slots of one."""

_PER_BUCKET = 1 / math.log(FACTOR)


class Histogram:
    """Counts of durations by size."""

    def __init__(self) -> None:
        self._counts = [0] * BUCKETS
        self._max_ms = 0.0

    def add(self, ms: float) -> None:
        """Count one duration, in milliseconds."""
        bucket = math.ceil(math.log(ms / FIRST_MS) * _PER_BUCKET) if ms > FIRST_MS else 0
        self._counts[min(bucket, BUCKETS - 1)] += 1
        self._max_ms = max(self._max_ms, ms)

    def include(self, other: "Histogram") -> None:
        """Count all of another one's durations."""
        self._counts = [a + b for a, b in zip(self._counts, other._counts, strict=True)]
        self._max_ms = max(self._max_ms, other._max_ms)

    def summary(self) -> dict[str, Any]:
        """``n``, and in milliseconds ``p50``, ``p95``, ``p99`` and ``max``: None without a duration."""
        counts, max_ms = self._counts.copy(), self._max_ms
        n = sum(counts)
        if not n:
            return {"p50": None, "p95": None, "p99": None, "max": None, "n": 0}
        found = {f"p{p}": round(min(_percentile_ms(counts, n, p), max_ms), 3) for p in (50, 95, 99)}
        return {**found, "max": round(max_ms, 3), "n": n}


class Latency:
    """One stage's durations: recent ones and all."""

    def __init__(self) -> None:
        self._all = Histogram()
        self._slots = [(-1, Histogram())] * SLOTS  # (minutes of the clock, what was added in that minute)

    def add(self, ms: float, now_s: float) -> None:
        """Count one duration, in milliseconds, that ended at `now_s` of the monotonic clock."""
        minute = int(now_s / SLOT_SECONDS)
        place = minute % SLOTS
        if self._slots[place][0] != minute:
            self._slots[place] = (minute, Histogram())
        self._slots[place][1].add(ms)
        self._all.add(ms)

    def recent(self, now_s: float) -> dict[str, Any]:
        """Summary of the running minute and the four before it."""
        oldest, total = int(now_s / SLOT_SECONDS) - SLOTS, Histogram()
        for minute, slot in list(self._slots):
            if minute > oldest:
                total.include(slot)
        return total.summary()

    def since_start(self) -> dict[str, Any]:
        """Summary of everything."""
        return self._all.summary()


def _percentile_ms(counts: list[int], n: int, percent: int) -> float:
    """Middle, on the logarithmic scale, of the bucket that holds the nearest-rank percentile."""
    bucket = bisect_left(list(accumulate(counts)), math.ceil(n * percent / 100))
    return FIRST_MS * math.exp((bucket - 0.5) / _PER_BUCKET)
