"""The loss: the score must peak once, around the end of the word, and stay low everywhere else.

Max pooling over time (Sun et al., arXiv 1705.02411; Hou et al., arXiv 2001.10097) lets the network choose
where in the hit window it fires, and lets each negative window teach by its worst moment only, which is what
the detector will see. Logits are averaged over the smoothing window first, as `kws.scores` does.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from kws.features import FeatureSettings
from kws.train.recipe import Recipe, Training

AFTERGLOW_STEPS = 10
"""Scores of this many steps after the hit window count neither way: the word is still in sight."""


class ClipLoss:
    """Loss per window of a classifier: cross-entropy of the very decision that `kws.classifier` makes.

    Each output counts with the highest of its smoothed logits, silence with a logit of 0. But the gradient
    goes to all moments, with their softmax as weights. If it went to the highest alone, an output whose logit
    begins higher in silence than in speech would never be taught by the speech, and stay dead.

    The logarithm of each label's share is added first (balanced softmax, arXiv 2007.10740): what a batch
    holds often need not be answered often, and the network decides as if all labels were as frequent.
    """

    def __init__(self, training: Training, shares: Tensor) -> None:
        """`shares` of the labels, silence last, as `label_shares` counts them, where the logits will be."""
        self._smoothing, self._label_smoothing = training.smoothing_steps, training.label_smoothing
        self._prior = shares.log()

    def __call__(self, logits: Tensor, keyword: Tensor, start: Tensor, end: Tensor) -> Tensor:
        """Cross-entropy of each window, (B,).

        Args:
            logits: (B, K, steps).
            keyword: (B,) index of what is said, or -1 for silence.
            start: Not used: the surest moment counts, wherever it is.
            end: Not used.
        """
        moments = smoothed(logits, self._smoothing)
        taught = (moments * moments.detach().softmax(2)).sum(2)
        highest = taught + (moments.amax(2) - taught).detach()  # the value of one, the gradient of the other
        answers = F.pad(highest, (0, 1)) + self._prior  # 0 for silence
        truth = torch.where(keyword >= 0, keyword, answers.shape[1] - 1)
        return F.cross_entropy(answers, truth, reduction="none", label_smoothing=self._label_smoothing)


def label_shares(recipe: Recipe) -> Tensor:
    """Of the windows that a classifier learns from: each word, UNKNOWN and silence, (labels,)."""
    t, kinds = recipe.training, recipe.data.negative_shares
    silence = t.negatives_per_batch * kinds.get("ambient", 0.0) / sum(kinds.values())
    word = t.positives_per_batch / len(recipe.words)
    counts = torch.tensor([word] * len(recipe.words) + [t.negatives_per_batch - silence, silence])
    counts.clamp_(min=0.1)  # a label that does not come is rare, not impossible
    return counts / counts.sum()


class KeywordLoss:
    """Loss per window and keyword from logits (B, K, steps) and the place of the word."""

    def __init__(self, features: FeatureSettings, stride: int, training: Training) -> None:
        self._window, self._hop = features.window_samples, features.hop_samples * stride
        self._frame_hop = features.hop_samples
        step_ms = features.hop_ms * stride
        self._early, self._late = training.early_ms // step_ms, training.late_ms // step_ms
        self._smoothing = training.smoothing_steps

    def __call__(self, logits: Tensor, keyword: Tensor, start: Tensor, end: Tensor) -> Tensor:
        """Mean binary cross-entropy of each window, (B,).

        Args:
            logits: (B, K, steps).
            keyword: (B,) index of the spoken keyword, or -1.
            start: (B,) sample at which the word starts.
            end: (B,) sample at which the word has ended.
        """
        _, keywords, steps = logits.shape
        scores = smoothed(logits, self._smoothing)
        step = torch.arange(steps, device=logits.device)
        first, last = self._step(end) - self._early, self._step(end) + self._late
        hit = (step >= first[:, None]) & (step <= last[:, None])  # (B, steps)
        # From the start of the word until its echo has left the network, its own score may do as it likes.
        free = (step >= self._step(start)[:, None]) & (step <= last[:, None] + AFTERGLOW_STEPS)
        spoken = F.one_hot(keyword.clamp_min(0), keywords).bool() & (keyword >= 0)[:, None]  # (B, K)
        low = scores.new_tensor(-30.0)
        rejected = torch.where(spoken[:, :, None] & free[:, None], low, scores).amax(2)
        loss = F.softplus(rejected)  # cross-entropy against 0 at the worst moment
        accepted = torch.where(hit[:, None], scores, low).amax(2)
        loss = loss + torch.where(spoken, F.softplus(-accepted), accepted.new_zeros(()))
        return loss.sum(1)

    def _step(self, sample: Tensor) -> Tensor:
        """Index of the first logit that has heard everything before `sample`."""
        frames = sample - self._window + self._frame_hop
        return torch.div(frames + self._hop - 1, self._hop, rounding_mode="floor") - 1


def smoothed(logits: Tensor, steps: int) -> Tensor:
    """Mean of the last `steps` logits, (B, K, T) -> (B, K, T); the first one stands for those before it."""
    return F.avg_pool1d(F.pad(logits, (steps - 1, 0), mode="replicate"), steps, 1)
