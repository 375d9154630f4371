"""From scores to detections: a threshold, and a rest after each detection.

Everything counts scores and samples, never the clock, so the same audio gives the same detections at any
speed and in blocks of any size.
"""

from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from kws.events import Detection
from kws.manifest import DetectorSettings
from kws.operating import Rates, detector_settings
from kws.scores import Scores

if TYPE_CHECKING:
    from kws.model import Model


class Detector:
    """Turn a stream of scores into detections.

    A keyword is detected when `hits_required` scores in a row have reached its threshold. Then the whole
    model rests for the refractory period: one utterance wakes once, even if it sounds like two of the
    keywords. Scores inside the rest count for nothing. Of two keywords that arrive together, the higher score
    wins. A keyword without a threshold (UNKNOWN of a classifier) is never detected, but silences the others
    while its score is higher.

    Attributes:
        thresholds: Of each keyword, (keywords,); infinity for one that has none.
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
        self.first_score_samples, self.score_hop_samples = first_score_samples, score_hop_samples
        self.thresholds = np.array([settings.thresholds.get(k, np.inf) for k in keywords], np.float32)
        self._rivals = [i for i, keyword in enumerate(keywords) if keyword not in settings.thresholds]
        self._rest_samples = round(settings.refractory_seconds * sample_rate_hz)
        self.reset()

    @classmethod
    def for_model(cls, model: "Model", false_accepts_per_day: Rates | None = None) -> Self:
        """A detector with the settings of the model's manifest.

        Args:
            model: Whose scores it will see.
            false_accepts_per_day: Wanted rate of every keyword, or of each one named: sets its threshold by
                the manifest's operating curve. None keeps the manifest's thresholds.
        """
        manifest = model.manifest
        return cls(
            detector_settings(manifest, false_accepts_per_day),
            manifest.keywords,
            first_score_samples=manifest.first_score_samples,
            score_hop_samples=manifest.score_hop_samples,
            sample_rate_hz=manifest.features.sample_rate_hz,
        )

    def reset(self) -> None:
        """Start a new stream: the next score is its first."""
        self._rows = 0  # scores seen
        self._skipped = 0  # samples that nobody scored
        self._resting_until = 0  # sample
        self._hits = [0] * len(self.keywords)

    def skip(self, samples: int) -> None:
        """Let time pass: before the next score lie so many samples that nobody scored."""
        if samples:
            self._skipped += samples
            self._hits = [0] * len(self.keywords)

    def feed(self, scores: Scores) -> list[Detection]:
        """Take the next scores, (steps, keywords) with any number of steps; return what was heard."""
        first_row, self._rows = self._rows, self._rows + len(scores)
        reached = self.reached(scores, self.thresholds)
        if not reached.any():  # nearly always
            if len(scores):
                self._hits = [0] * len(self.keywords)
            return []
        rows = range(len(scores))
        return [d for i in rows if (d := self._decide(scores[i], reached[i], first_row + i))]

    def reached(self, scores: Scores, levels: Scores) -> NDArray[np.bool_]:
        """Which of the scores, (steps, keywords), reach their keyword's level and count for something."""
        reached = scores >= levels
        if self._rivals and reached.any():
            reached &= scores > scores[:, self._rivals].max(axis=1, keepdims=True)
        return reached

    def _decide(self, scores: Scores, reached: NDArray[np.bool_], row: int) -> Detection | None:
        sample = self._skipped + self.first_score_samples + row * self.score_hop_samples
        if sample < self._resting_until:
            return None
        self._hits = [hits + 1 if now else 0 for hits, now in zip(self._hits, reached, strict=True)]
        heard = [i for i, hits in enumerate(self._hits) if hits >= self.settings.hits_required]
        if not heard:
            return None
        best = max(heard, key=scores.__getitem__)
        self._hits = [0] * len(self.keywords)
        self._resting_until = sample + self._rest_samples
        return Detection(self.keywords[best], sample, float(scores[best]), self.sample_rate_hz)
