"""What the audio thread does with each block: gate, network, detector. `take` hands on what it found."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from kws.daemon.latency import Latency
from kws.daemon.ring import Ring
from kws.daemon.settings import Settings
from kws.errors import AudioError
from kws.events import Detection, NearMiss
from kws.microphone import Block
from kws.model import Model, load_model
from kws.near_misses import NearMisses
from kws.operating import explain
from kws.pipeline import Pipeline
from kws.scores import Scores

CONTEXT_SECONDS = 2.5
"""Audio that a new model hears first, as much as a score remembers: a reload in mid-word loses nothing."""

_FOUND_MAX = 256
_OWN_THRESHOLDS = "thresholds: the model's own; false_accepts_per_day would choose others"


@dataclass(frozen=True)
class Heard:
    """A detection or a near miss on its way to the main thread."""

    what: Detection | NearMiss
    """Its sample counts from the start of the daemon."""
    latency_ms: float
    """From the start of the block that decided it, in the air, to the decision."""
    wall_s: float
    """Seconds since 1970 when it was decided."""


class Chain(NamedTuple):
    """What one configuration listens with."""

    model: Model
    pipeline: Pipeline
    near_misses: NearMisses
    reason: tuple[str, ...]
    """Why this model and these thresholds, a sentence each."""

    @classmethod
    def for_settings(cls, settings: Settings, why: str) -> "Chain":
        """Load and build it; this takes some tenths of a second, so it is not for the audio thread.

        Args:
            settings: Which model, and how often it may be wrong.
            why: Why these settings: where they are from.

        Raises:
            ModelError: the model is missing, damaged or of another version.
            ConfigError: a wanted rate names no keyword of it, or its curve was never measured.
        """
        return cls.for_model(load_model(settings.model), settings, why)

    @classmethod
    def for_model(cls, model: Model, settings: Settings, why: str) -> "Chain":
        """Build it with a model that is loaded; ConfigError as `for_settings`."""
        rates = settings.false_accepts_per_day
        pipeline = Pipeline(model, rates, settings.gate)
        return cls(
            model,
            pipeline,
            NearMisses(pipeline.detector),
            (f"model {model.manifest.name}: {why}", *(explain(model.manifest, rates) or [_OWN_THRESHOLDS])),
        )


class Hearing:
    """The audio thread calls `hear` and `lost`; all else is for the main thread.

    Time is the sample counter: samples received since the start of the daemon, lost ones counted in.
    """

    STAGES = ("capture", "queue", "gate", "features", "model", "decision", "total")
    """What takes time. capture: from the start of a block, in the air, until it is handed over. queue: audio
    that waits in the device's buffer behind it. total: from the start of the block until it is decided."""

    def __init__(self, chain: Chain, wake: Callable[[], None]) -> None:
        self._chain, self._wake = chain, wake
        self._next: Chain | None = None
        self._overdue: list[NearMiss] = []  # known since a gap
        self._found: deque[Heard] = deque(maxlen=_FOUND_MAX)
        rate_hz = chain.model.manifest.features.sample_rate_hz
        self.sample_rate_hz = rate_hz
        self.ring = Ring(round(CONTEXT_SECONDS * rate_hz))
        self.samples = 0
        self.busy_ns = 0
        """Time on the wall spent in `hear`."""
        self.latency = {stage: Latency() for stage in self.STAGES}
        self.scores: Scores = chain.pipeline.scores
        """What the last block gave, (steps, keywords)."""

    @property
    def chain(self) -> Chain:
        """What is listened with, or will be from the next block on."""
        return self._next or self._chain

    def hear(self, block: Block) -> None:
        """Take the next block of the microphone."""
        start_ns = time.perf_counter_ns()
        if self._next is not None:
            self._change(self._next)
        pipeline = self._chain.pipeline
        self.ring.append(self.samples, block.samples)
        self.samples += len(block.samples)
        found: list[Detection | NearMiss] = [*self._overdue, *pipeline.feed(block.samples)]
        self._overdue = []
        for skipped, scores, detections in pipeline.heard:
            found += self._chain.near_misses.skip(skipped)
            found += self._chain.near_misses.feed(scores, detections)
        self.scores = pipeline.scores
        self._measure(block)
        if found:
            self._report(found, block)
        self.busy_ns += time.perf_counter_ns() - start_ns

    def lost(self, samples: int) -> None:
        """So much audio is missing before the next block.

        Time goes on, so that a word is not heard twice; the context stays, as it does where the gate skips.
        """
        self.samples += samples
        self._chain.pipeline.detector.skip(samples)
        self._overdue += self._chain.near_misses.skip(samples)

    def change(self, chain: Chain) -> None:
        """Listen with another chain from the next block on; it hears the last seconds first."""
        if chain.model.manifest.features.sample_rate_hz != self.sample_rate_hz:
            raise AudioError("the new model wants another sample rate; restart kws")
        self._next = chain

    def take(self) -> list[Heard]:
        """What has been found since the last call."""
        found = []
        while self._found:
            found.append(self._found.popleft())
        return found

    def _change(self, chain: Chain) -> None:
        self._chain, self._next = chain, None
        context = self.ring.last(round(CONTEXT_SECONDS * self.sample_rate_hz))
        before = self.samples - len(context)
        chain.pipeline.detector.skip(before)
        chain.near_misses.skip(before)
        # The old chain has reported what is in there; the new one must know that it has been.
        chain.pipeline.feed(context)
        for skipped, scores, detections in chain.pipeline.heard:
            chain.near_misses.skip(skipped)
            chain.near_misses.feed(scores, detections)

    def _measure(self, block: Block) -> None:
        now_s = time.monotonic()
        spent = self._chain.pipeline.spent_ns
        durations_ms = {
            "capture": 1000 * (block.read_s - block.start_s),
            "queue": block.backlog_ms,
            "total": 1000 * (now_s - block.start_s),
        }
        durations_ms |= {stage: ns / 1e6 for stage, ns in spent._asdict().items() if ns}
        for stage, ms in durations_ms.items():
            self.latency[stage].add(ms, now_s)

    def _report(self, found: list[Detection | NearMiss], block: Block) -> None:
        latency_ms = 1000 * (time.monotonic() - block.start_s)
        for what in found:
            self._found.append(Heard(what, latency_ms, time.time()))
        self._wake()
