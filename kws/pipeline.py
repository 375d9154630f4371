"""The listening path, joined: samples in, detections out."""

from collections.abc import Iterable

import numpy as np

from kws.detector import Detector
from kws.events import Detection
from kws.features import Samples
from kws.model import Model
from kws.operating import Rates
from kws.scores import Scores


class Pipeline:
    """Features, network and detector of one audio stream."""

    def __init__(self, model: Model, false_accepts_per_day: Rates | None = None) -> None:
        """Thresholds are the manifest's, or those of wanted rates (`kws.operating`)."""
        self.stream = model.stream()
        self.detector = Detector.for_model(model, false_accepts_per_day)
        self.scores: Scores = np.zeros((0, len(model.keywords)), np.float32)
        """What the last call produced, (steps, keywords)."""

    def feed(self, samples: Samples) -> list[Detection]:
        """Take the next samples, any number; return what was heard in them."""
        self.scores = self.stream.feed(samples)
        return self.detector.feed(self.scores)

    def flush(self) -> list[Detection]:
        """What the last, unfinished step holds. Call `reset` before other audio."""
        self.scores = self.stream.flush()
        return self.detector.feed(self.scores)

    def reset(self) -> None:
        """Forget all context: the next sample is the first of a new stream."""
        self.stream.reset()
        self.detector.reset()


def score_recording(pipeline: Pipeline, blocks: Iterable[Samples]) -> tuple[Scores, list[Detection], int]:
    """Run one whole recording.

    Returns:
        Scores (T, keywords), the detections, and the number of samples.
    """
    pipeline.reset()
    scores, detections, samples = [], [], 0
    for block in blocks:
        detections += pipeline.feed(block)
        scores.append(pipeline.scores)
        samples += len(block)
    detections += pipeline.flush()
    scores.append(pipeline.scores)
    return np.concatenate(scores), detections, samples
