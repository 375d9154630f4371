"""From logits to scores: the average of the last few, as a probability; and the peaks of a recording.

Logits are averaged, not probabilities: probabilities saturate, and an average of saturated ones is decided by
how many of them there are, not by how sure they are. On the codes of an INT8 network the average is a sum of
integers and the probability a look-up, so a score is exact, and the same for any cut of the audio.
"""

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float32]

PEAK_FLOOR = 0.02
"""Peaks below this score are not listed."""

PEAK_DISTANCE_SECONDS = 1.0
"""Two listed peaks are at least this far apart."""

SILENT_LOGIT = np.float32(-10)
"""Float logit taken for the time before a recording starts."""


class Smoother:
    """Stream of scores from the codes of a network's logits."""

    def __init__(self, scale: float, zero_point: int, smoothing_steps: int, keywords: int) -> None:
        """Code c means the logit ``scale * (c - zero_point)``; a score averages `smoothing_steps` of them."""
        self._scale, self._zero_point, self._steps = scale, zero_point, smoothing_steps
        self._table = sigmoid(self.logits(np.arange(255 * smoothing_steps + 1)))
        self._shape = smoothing_steps, keywords
        self.reset()

    def reset(self) -> None:
        """Start a new stream: before it, the logits were as low as can be."""
        # One row more than is averaged with the next one. int32: the sums do not fit the codes' type.
        self._past: NDArray[np.integer] = np.zeros(self._shape, np.int32)

    def feed(self, codes: NDArray[np.uint8]) -> Scores:
        """Scores (steps, keywords) of the next logit codes (steps, keywords), any number of steps."""
        scores: Scores = self._table.take(self.sums(codes))
        return scores

    def sums(self, codes: NDArray[np.uint8]) -> NDArray[np.int32]:
        """Sums of the codes under each score, where `feed` gives the score itself."""
        window = np.concatenate((self._past, codes))
        self._past = window[len(codes) :]
        totals = np.add.accumulate(window, axis=0)  # sums are differences of running totals
        sums: NDArray[np.int32] = totals[self._steps :] - totals[: -self._steps]
        return sums

    def logits(self, sums: NDArray[np.integer]) -> NDArray[np.float64]:
        """The averaged logits that such sums stand for."""
        logits: NDArray[np.float64] = self._scale * (sums / self._steps - self._zero_point)
        return logits


def scores_of(logits: Scores, smoothing_steps: int) -> Scores:
    """Scores (T, K) of a whole recording from float logits (T, K): what `Smoother` does with codes."""
    return sigmoid(averaged(logits, smoothing_steps))


def averaged(logits: Scores, smoothing_steps: int) -> NDArray[np.float64]:
    """Mean of the last logits at each step, (T, K)."""
    past = np.full((smoothing_steps - 1, logits.shape[1]), SILENT_LOGIT, np.float32)
    totals = np.cumsum(np.concatenate((np.zeros_like(logits[:1]), past, logits)), axis=0, dtype=np.float64)
    means: NDArray[np.float64] = (totals[smoothing_steps:] - totals[:-smoothing_steps]) / smoothing_steps
    return means


def sigmoid(logits: NDArray[np.float64]) -> Scores:
    """Probabilities of logits, in single precision."""
    scores: Scores = (1 / (1 + np.exp(-logits))).astype(np.float32)
    return scores


def peaks(
    scores: Scores, *, min_distance_rows: int, floor: float = PEAK_FLOOR
) -> list[list[tuple[int, float]]]:
    """Local maxima of each column of `scores` (T, K), in time order: K lists of (row, score).

    A maximum is higher than what comes before and after it; a level stretch counts once, at its start. Of two
    closer than `min_distance_rows`, the higher one stays (the earlier one if equal). None is below `floor`.
    """
    return [_column_peaks(column, min_distance_rows, floor) for column in scores.T]


def _column_peaks(column: Scores, min_distance_rows: int, floor: float) -> list[tuple[int, float]]:
    starts = np.flatnonzero(np.diff(column, prepend=np.float32(-1)))  # of stretches of equal scores
    levels = np.concatenate(([-1], column[starts], [-1]))
    is_peak = (levels[1:-1] > levels[:-2]) & (levels[1:-1] > levels[2:]) & (levels[1:-1] >= floor)
    rows = starts[is_peak]
    taken = np.zeros(len(column), np.bool_)
    kept: list[tuple[int, float]] = []
    for row in rows[np.argsort(-column[rows], kind="stable")].tolist():
        if not taken[row]:
            taken[max(0, row - min_distance_rows + 1) : row + min_distance_rows] = True
            kept.append((row, float(column[row])))
    return sorted(kept)
