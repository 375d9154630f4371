"""Validation of a classifier while training: the share of clips labelled wrongly, averaged over the labels.

The clips and the decision are those of `kws evaluate`; frames are computed once and kept in memory.
"""

from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from torch import nn

from kws.corpus import Clip
from kws.evaluate.clips import make_questions
from kws.features import FRAME_STEP_BEL, LogMel
from kws.manifest import SILENCE
from kws.model import AFTERMATH_SECONDS
from kws.train.frontend import GainBatch
from kws.train.loss import smoothed
from kws.train.net import inference
from kws.train.progress import track
from kws.train.recipe import Recipe
from kws.train.validation import Result, codes_of

BATCH_CLIPS = 64


class ClipValidator:
    """Held-out clips of every word, of other words and of silence, ready to be labelled by any network."""

    def __init__(
        self,
        clips: list[Clip],
        recipe: Recipe,
        *,
        cache: Path,
        device: torch.device,
        jobs: int,
    ) -> None:
        self.recipe, self.device = recipe, device
        self.labels = (*recipe.keywords, SILENCE)
        questions = make_questions(clips, recipe.words, recipe.validation.rules)
        features, self.gain = LogMel(recipe.features.log_mel), GainBatch(recipe.features).to(device)
        aftermath = np.zeros(round(AFTERMATH_SECONDS * recipe.features.sample_rate_hz), np.float32)
        groups: dict[int, list[tuple[torch.Tensor, int]]] = defaultdict(list)  # by length
        for question in track(questions, "hearing validation clips"):
            samples = question.samples(recipe.features.sample_rate_hz)
            frames = features.feed(np.concatenate((samples, aftermath)))
            features.reset()
            codes = codes_of(frames)
            groups[len(codes)].append((torch.from_numpy(codes.T.copy()), self.labels.index(question.label)))
        self._batches = []
        for group in groups.values():
            for i in range(0, len(group), BATCH_CLIPS):
                frames_of, truth = zip(*group[i : i + BATCH_CLIPS], strict=True)
                self._batches.append((torch.stack(frames_of), np.array(truth)))

    def __call__(self, net: nn.Module) -> Result:
        """Label the clips by a network that maps frames (B, frame_size, T) to logits (B, K, T // stride)."""
        asked, wrong = np.zeros(len(self.labels)), np.zeros(len(self.labels))
        with inference(net):
            for clips, truth in self._batches:
                np.add.at(asked, truth, 1)
                np.add.at(wrong, truth, self._answers(net, clips) != truth)
        rates = {label: float(rate) for label, rate in zip(self.labels, wrong / asked, strict=True)}
        return Result(float(np.mean(list(rates.values()))), rates)

    def _answers(self, net: nn.Module, codes: torch.Tensor) -> np.ndarray:
        """Index of the label of each clip; a stream starts settled in silence."""
        stride = self.recipe.network.stride
        steps = -(-self.recipe.network.receptive_field_frames // stride)
        frames = nn.functional.pad(codes.to(self.device).float() * FRAME_STEP_BEL, (steps * stride, 0))
        logits = smoothed(net(self.gain(frames))[:, :, steps:], self.recipe.training.smoothing_steps)
        highest = nn.functional.pad(logits.amax(2), (0, 1))
        return highest.argmax(1).cpu().numpy()
