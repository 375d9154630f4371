"""From posteriors to detections: a moving average, a threshold, and a rest after each detection.

Everything counts scores and samples, never the clock, so the same audio gives the same detections at any
speed and in blocks of any size.
"""

from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from kws.events import Detection
from kws.manifest import DetectorSettings

if TYPE_CHECKING:
    from kws.model import Model

Scores = NDArray[np.float32]

SILENT_LOGIT = np.float32(-10)
"""Logit taken for the time before a recording starts."""

PEAK_FLOOR = 0.02
"""Peaks below this score are not listed."""

PEAK_DISTANCE_SECONDS = 1.0
"""Two listed peaks are at least this far apart."""


class Detector:
    """Turn a stream of posteriors into detections.

    A keyword is detected when `hits_required` scores in a row have reached its threshold. Then the whole
    model rests for the refractory period: one utterance wakes once, even if it sounds like two of the
    keywords. Scores inside the rest count for nothing. Of two keywords that arrive together, the higher score
    wins.
    """

    def __init__(
        self,
        settings: DetectorSettings,
        keywords: tuple[str, ...],
        *,
        first_score_samples: int,
        score_hop_samples: int,
        sample_rate_hz: int = 16_000,
    ) -> None:
        self.settings, self.keywords, self.sample_rate_hz = settings, keywords, sample_rate_hz
        self._first, self._hop = first_score_samples, score_hop_samples
        self._thresholds = np.array([settings.thresholds[k] for k in keywords], np.float32)
        self._rest_samples = round(settings.refractory_seconds * sample_rate_hz)
        self.reset()

    @classmethod
    def for_model(cls, model: "Model") -> Self:
        """A detector with the settings of the model's manifest."""
        manifest = model.manifest
        return cls(
            manifest.detector,
            manifest.keywords,
            first_score_samples=manifest.first_score_samples,
            score_hop_samples=manifest.score_hop_samples,
            sample_rate_hz=manifest.features.sample_rate_hz,
        )

    def reset(self) -> None:
        """Start a new stream: the next posterior is its first, and there was silence before it."""
        self.scores: Scores = np.zeros((0, len(self.keywords)), np.float32)
        """Smoothed scores of the last `feed`, (steps, keywords)."""
        self._past = np.zeros((self.settings.smoothing_steps - 1, len(self.keywords)), np.float32)
        self._rows = 0  # scores seen
        self._resting_until = 0  # sample
        self._hits = [0] * len(self.keywords)

    def feed(self, posteriors: Scores) -> list[Detection]:
        """Take the next posteriors, (steps, keywords) with any number of steps; return what was heard."""
        steps = len(posteriors)
        if not steps:
            self.scores = posteriors
            return []
        window = np.concatenate((self._past, posteriors))
        self._past = window[steps:]
        self.scores = _average(window, steps)
        first_row, self._rows = self._rows, self._rows + steps
        reached = self.scores >= self._thresholds
        if not np.count_nonzero(reached):  # nearly always, and four times as fast as any()
            self._hits = [0] * len(self.keywords)
            return []
        return [d for row in range(steps) if (d := self._decide(row, reached[row], first_row + row))]

    def _decide(self, row: int, reached: NDArray[np.bool_], stream_row: int) -> Detection | None:
        sample = self._first + stream_row * self._hop
        if sample < self._resting_until:
            return None
        self._hits = [hits + 1 if now else 0 for hits, now in zip(self._hits, reached, strict=True)]
        heard = [i for i, hits in enumerate(self._hits) if hits >= self.settings.hits_required]
        if not heard:
            return None
        best = max(heard, key=self.scores[row].__getitem__)
        self._hits = [0] * len(self.keywords)
        self._resting_until = sample + self._rest_samples
        return Detection(self.keywords[best], sample, float(self.scores[row, best]), self.sample_rate_hz)


def smooth(posteriors: Scores, smoothing_steps: int) -> Scores:
    """Scores of a whole recording, (T, K): the same bits as a `Detector` gives for any cut of it.

    Row i is the mean of posteriors i-smoothing_steps+1..i; before the start they are 0.
    """
    past = np.zeros((smoothing_steps - 1, posteriors.shape[1]), np.float32)
    return _average(np.concatenate((past, posteriors)), len(posteriors))


def scores_of(logits: Scores, smoothing_steps: int) -> Scores:
    """Scores (T, K) of a whole recording from float logits (T, K), as a stream computes them from codes.

    Row i is the sigmoid of the mean of logits i-smoothing_steps+1..i; before the start all is silent.
    """
    past = np.full((smoothing_steps - 1, logits.shape[1]), SILENT_LOGIT, np.float32)
    mean = _average(np.concatenate((past, logits)), len(logits))
    scores: Scores = 1 / (1 + np.exp(-mean))
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


def _average(window: Scores, steps: int) -> Scores:
    """Mean of each `len(window) - steps + 1` rows in a row, always added in the same order: (steps, K)."""
    length = len(window) - steps + 1
    total = window[:steps].copy()
    for shift in range(1, length):
        total += window[shift : shift + steps]
    total *= np.float32(1 / length)
    return total
