"""The listening path, joined: samples in, detections out."""

from collections.abc import Iterable
from time import perf_counter_ns
from typing import NamedTuple

import numpy as np

from kws.detector import Detector
from kws.events import Detection
from kws.features import Samples
from kws.gate import Gate, GateSettings, Passage
from kws.model import Model
from kws.operating import Rates
from kws.scores import Scores


class Spent(NamedTuple):
    """Nanoseconds of each stage, by the clock on the wall; 0 for one that had nothing to do."""

    gate: int = 0
    features: int = 0
    model: int = 0
    decision: int = 0


class Pipeline:
    """Features, network and detector of one audio stream, behind a gate if wanted."""

    def __init__(
        self, model: Model, false_accepts_per_day: Rates | None = None, gate: GateSettings | None = None
    ) -> None:
        """Thresholds are the manifest's, or those of wanted rates (`kws.operating`); None is no gate."""
        self.stream = model.stream()
        self.detector = Detector.for_model(model, false_accepts_per_day)
        rate_hz = model.manifest.features.sample_rate_hz
        self.gate = Gate(gate, rate_hz) if gate and gate.enabled else None
        self._none: Scores = np.zeros((0, len(model.keywords)), np.float32)
        self.scores = self._none
        """What the last call produced, (steps, keywords); none while the gate is closed."""
        self.heard: list[tuple[int, Scores, list[Detection]]] = []
        """The same in stretches without a gap: samples left out before it, its scores and detections."""
        self.spent_ns = Spent()
        """What the last call of `feed` cost."""

    def feed(self, samples: Samples) -> list[Detection]:
        """Take the next samples, any number; return what was heard in them.

        Raises:
            AudioError: more than one channel, another type, or samples that are not finite.
        """
        start_ns = perf_counter_ns()
        passages = [Passage(0, samples)] if self.gate is None else self.gate.feed(samples)
        gated_ns = perf_counter_ns()
        self.heard, features_ns, model_ns = [], 0, 0
        for passage in passages:
            self.detector.skip(passage.skipped_before)
            scores = self.stream.feed(passage.samples)
            self.heard.append((passage.skipped_before, scores, self.detector.feed(scores)))
            features_ns += self.stream.features_ns
            model_ns += self.stream.model_ns
        if len(self.heard) == 1:  # the usual case
            self.scores = self.heard[0][1]
        else:
            self.scores = np.concatenate([self._none, *(scores for _, scores, _ in self.heard)])
        decision_ns = perf_counter_ns() - gated_ns - features_ns - model_ns
        self.spent_ns = Spent(gated_ns - start_ns, features_ns, model_ns, decision_ns)
        return [detection for _, _, detections in self.heard for detection in detections]

    def flush(self) -> list[Detection]:
        """What the last, unfinished step holds. Call `reset` before other audio."""
        self.scores = self.stream.flush() if self.gate is None or self.gate.is_open else self._none
        return self.detector.feed(self.scores)

    def reset(self) -> None:
        """Forget all context: the next sample is the first of a new stream."""
        self.stream.reset()
        self.detector.reset()
        if self.gate is not None:
            self.gate.reset()


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
