"""The last seconds of audio, in memory only."""

from collections import deque

import numpy as np
from numpy.typing import NDArray

Piece = tuple[int, NDArray[np.int16]]
"""Position in the stream, samples."""


class Ring:
    """Written by the audio thread, read by any: the blocks are never changed, and a deque copies at once."""

    def __init__(self, samples: int) -> None:
        self.samples = samples
        """At least so many of the last are kept."""
        self._pieces: deque[Piece] = deque()

    def append(self, sample: int, block: NDArray[np.int16]) -> None:
        """Add the block that starts at `sample` of the stream; the caller must not change it any more."""
        self._pieces.append((sample, block))
        while self._pieces[0][0] + len(self._pieces[0][1]) <= sample + len(block) - self.samples:
            self._pieces.popleft()

    def clear(self) -> None:
        """Forget everything."""
        self._pieces.clear()

    def last(self, samples: int) -> NDArray[np.int16]:
        """The newest samples, at most so many; less after a gap, as only what is joined belongs together."""
        pieces = self._pieces.copy()
        found: list[NDArray[np.int16]] = []
        start = pieces[-1][0] + len(pieces[-1][1]) if pieces else 0
        first = start - samples
        while pieces and start > first and pieces[-1][0] + len(pieces[-1][1]) == start:
            start, block = pieces.pop()
            found.append(block[max(0, first - start) :])
        return np.concatenate([np.zeros(0, np.int16), *found[::-1]])

    def between(self, first: int, last: int) -> Piece:
        """What is still there of the samples from `first` up to `last`, without gaps, and where it starts."""
        found = [
            (max(first, start), block[max(0, first - start) : max(0, last - start)])
            for start, block in self._pieces.copy()
            if start < last and start + len(block) > first
        ]
        if not found:
            return first, np.zeros(0, np.int16)
        return found[0][0], np.concatenate([block for _, block in found])
