"""One decision for each short clip: which of the words it says, another one, or none.

A clip is streamed like any audio. Each output counts with its highest smoothed logit, silence with a logit of
0; the highest of these is the answer, and their softmax the scores. On the codes of an INT8 network the
comparison is one of integers, the same for any cut of the audio.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kws.errors import ModelError
from kws.features import Samples
from kws.manifest import SILENCE
from kws.model import AFTERMATH_SECONDS, Model


@dataclass(frozen=True)
class Decision:
    """What a clip says."""

    label: str
    """One of the model's words, UNKNOWN or SILENCE."""
    scores: dict[str, float]
    """Probability of every label; they add up to 1."""


class Classifier:
    """Decides about clips, one after another, with one stream of a model."""

    def __init__(self, model: Model) -> None:
        """Raises ModelError when the model detects wake words and knows nothing of other speech."""
        if not model.manifest.is_classifier:
            raise ModelError(f"the model {model.manifest.name!r} is no classifier; choose --model commands")
        self.labels = (*model.keywords, SILENCE)
        self._stream = model.stream()
        rate_hz = model.manifest.features.sample_rate_hz
        self._aftermath = np.zeros(round(AFTERMATH_SECONDS * rate_hz), np.float32)

    def classify(self, blocks: Iterable[Samples]) -> Decision:
        """Decide about one clip, given in blocks of any size: int16 or float32 (-1..1), mono.

        Raises:
            AudioError: more than one channel, another type, or samples that are not finite.
        """
        stream = self._stream
        stream.reset()
        highest = np.zeros(len(self.labels) - 1, np.int32)
        for samples in (*blocks, self._aftermath):
            for frames in stream.features.blocks(samples):
                sums = stream.smoother.sums(stream.network.step(frames))
                np.maximum(highest, sums.max(axis=0), out=highest)
        return decide(stream.smoother.logits(highest), self.labels)


def decide(highest: NDArray[np.float64], labels: tuple[str, ...]) -> Decision:
    """The decision from the highest averaged logit of each output, (K,); the last label is SILENCE."""
    logits = np.append(highest, 0.0)
    chances = np.exp(logits - logits.max())
    chances /= chances.sum()
    scores = dict(zip(labels, chances.tolist(), strict=True))
    return Decision(labels[int(logits.argmax())], scores)
