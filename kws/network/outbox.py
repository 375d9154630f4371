"""Events on their way to somebody who is not always there: kept until confirmed, never many, never old."""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator

from kws.protocol import Message

LIMIT = 256
"""Events that wait; of more the oldest go."""


class Outbox:
    """Each event is sent once in a connection; one that was not confirmed is sent again in the next.

    Args:
        age_s: An event that could not be sent for so long is dropped.
        limit: Events that are kept.
        clock: Monotonic seconds.
    """

    def __init__(self, age_s: float, limit: int = LIMIT, clock: Callable[[], float] = time.monotonic) -> None:
        self._age_s, self._limit, self._clock = age_s, limit, clock
        self._waiting: OrderedDict[int, tuple[float, Message]] = OrderedDict()
        self._sent: dict[int, int] = {}  # what the receiver will confirm -> which event
        self._count = 0
        self.dropped = 0
        """Too old or too many."""

    def put(self, raised_s: float, event: Message) -> None:
        """Keep an event that was raised at this time of the clock."""
        self._waiting[self._count] = raised_s, event
        self._count += 1
        while len(self._waiting) > self._limit:
            self._waiting.popitem(last=False)
            self.dropped += 1

    def unsent(self) -> Iterator[tuple[int, float, Message]]:
        """What is to be sent in this connection, oldest first: its key, age in seconds, and the event."""
        now_s, under_way = self._clock(), set(self._sent.values())
        for key, (raised_s, event) in list(self._waiting.items()):
            if key in under_way:
                continue
            if now_s - raised_s > self._age_s:
                del self._waiting[key]
                self.dropped += 1
            else:
                yield key, now_s - raised_s, event

    def sent(self, key: int, receipt: int) -> None:
        """An event is under way; `receipt` is what the receiver will confirm."""
        self._sent[receipt] = key

    def confirm(self, receipt: int) -> None:
        """It arrived; receipts of anything else are no matter."""
        self._waiting.pop(self._sent.pop(receipt, -1), None)

    def disconnected(self) -> None:
        """What is not confirmed by now will not be."""
        self._sent.clear()

    def __len__(self) -> int:
        return len(self._waiting)
