"""Near misses: scores that came close to a threshold without a detection.

They are what a threshold costs: spoken words that were missed, and sounds that were nearly taken for one.
Time is the sample counter, as in the detector, and the same scores give the same near misses in blocks of any
size.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kws.detector import Detector
from kws.events import Detection, NearMiss
from kws.scores import Scores

FLOOR_SHARE = 0.5
"""Scores below this share of the threshold are nothing. By the operating curves of the shipped models, speech
without a keyword reaches half the threshold about four times an hour, of "computer" more than ten times."""

_highest = np.maximum.reduce  # what `scores.max()` calls in the end

SHORTEST_REST_SECONDS = 0.5
"""Two near misses of a model without a refractory period are at least this far apart."""


class NearMisses:
    """Find the peaks between a floor and the threshold that did not become a detection.

    A score that rises above the floor is a candidate; its highest value within one refractory period counts.
    A detection before that period is over takes the candidate away: the word was heard after all. So a near
    miss is known one refractory period after its peak, and there is at most one per refractory period. A
    score that stays above the floor counts once. What follows a detection within its rest counts for nothing,
    nor does a keyword while a class without a threshold scores higher.
    """

    def __init__(self, detector: Detector) -> None:
        """Beside a detector: what it takes as a detection, and when a score is, holds here too."""
        self._detector = detector
        self._floors: Scores = FLOOR_SHARE * detector.thresholds
        self._lowest = float(self._floors.min())
        # Without a rest there would be no time for the detection that follows a rising score.
        rest_seconds = max(detector.settings.refractory_seconds, SHORTEST_REST_SECONDS)
        self._rest_samples = round(rest_seconds * detector.sample_rate_hz)
        self.reset()

    def reset(self) -> None:
        """Start a new stream: the next score is its first."""
        keywords = len(self._detector.keywords)
        self._sample = self._detector.first_score_samples  # of the next score
        self._resting_until = 0
        self._candidate: NearMiss | None = None
        self._was_above = np.zeros(keywords, np.bool_)
        self._counts = np.zeros(keywords, np.bool_)  # above, and it may become a near miss
        self._is_up = False  # some of them may be true

    def feed(self, scores: Scores, detections: Sequence[Detection] = ()) -> list[NearMiss]:
        """Take the next scores, (steps, keywords), and what was detected in them; return what was missed."""
        if not len(scores):
            return []
        if not self._candidate and not detections and _highest(scores, None) < self._lowest:  # nearly always
            if self._is_up:
                self._was_above[:] = self._counts[:] = self._is_up = False
            self._sample += len(scores) * self._detector.score_hop_samples
            return []
        self._is_up = True
        above = self._detector.reached(scores, self._floors)
        heard = {detection.sample for detection in detections}
        missed = []
        for row, is_above in zip(scores, above, strict=True):
            missed += self._settled(self._sample)
            if self._sample in heard:
                self._rest()
            self._look(row, is_above)
            self._sample += self._detector.score_hop_samples
        return missed

    def skip(self, samples: int) -> list[NearMiss]:
        """Advance over audio that gets no scores; return what was missed before it."""
        self._sample += samples
        return self._settled(self._sample)

    def flush(self) -> list[NearMiss]:
        """The stream ends here: what has not been detected never is. Call `reset` before other audio."""
        return self._settled(None)

    def _settled(self, sample: int | None) -> list[NearMiss]:
        """The candidate, once no detection can take it away any more."""
        candidate = self._candidate
        if candidate is None or (sample is not None and sample < candidate.sample + self._rest_samples):
            return []
        self._candidate = None
        self._counts[:] = False
        return [candidate]

    def _rest(self) -> None:
        """Something was detected: the scores that led to it, and those that follow, are no near miss."""
        self._candidate = None
        self._resting_until = self._sample + self._rest_samples
        self._was_above[:] = True
        self._counts[:] = False

    def _look(self, row: Scores, is_above: NDArray[np.bool_]) -> None:
        rises = is_above & ~self._was_above
        self._counts = is_above & (self._counts | (rises & (self._sample >= self._resting_until)))
        self._was_above = is_above
        for i in np.flatnonzero(self._counts):
            if self._candidate is None or row[i] > self._candidate.score:
                self._candidate = NearMiss(
                    self._detector.keywords[i], self._sample, float(row[i]), self._detector.sample_rate_hz
                )
