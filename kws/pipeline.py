"""The listening path, joined: samples in, detections out."""

from collections.abc import Iterable

import numpy as np

from kws.detector import Detector, Scores
from kws.events import Detection
from kws.features import Samples
from kws.model import Model


class Pipeline:
    """Features, network and detector of one audio stream."""

    def __init__(self, model: Model) -> None:
        self.stream = model.stream()
        self.detector = Detector.for_model(model)

    @property
    def scores(self) -> Scores:
        """Smoothed scores that the last call produced, (steps, keywords)."""
        return self.detector.scores

    def feed(self, samples: Samples) -> list[Detection]:
        """Take the next samples, any number; return what was heard in them."""
        return self.detector.feed(self.stream.feed(samples))

    def flush(self) -> list[Detection]:
        """What the last, unfinished step holds. Call `reset` before other audio."""
        return self.detector.feed(self.stream.flush())

    def reset(self) -> None:
        """Forget all context: the next sample is the first of a new stream."""
        self.stream.reset()
        self.detector.reset()


def score_recording(pipeline: Pipeline, blocks: Iterable[Samples]) -> tuple[Scores, list[Detection], int]:
    """Run one whole recording.

    Returns:
        Smoothed scores (T, keywords), the detections, and the number of samples.
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
