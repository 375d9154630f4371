"""One step of training: draw a batch, vary it, compute the loss, descend, remember what was hard.

Nothing in a step waits for a GPU: pools, losses and random numbers live on the device, and the loss that a
step returns is read only where it is shown.
"""

from collections.abc import Iterator
from contextlib import nullcontext

import torch
from torch import Tensor

from kws.train.augment import Dice, FrameAugment
from kws.train.batches import Batches
from kws.train.frontend import GainBatch
from kws.train.learner import Learner
from kws.train.loss import ClipLoss, KeywordLoss, label_shares
from kws.train.processes import Processes
from kws.train.recipe import Recipe


class Teacher:
    """Gives a learner the batches of a run."""

    def __init__(self, recipe: Recipe, batches: Batches, everyone: Processes) -> None:
        self.recipe, self.batches, self.everyone = recipe, batches, everyone
        self.loss = (
            ClipLoss(recipe.training, label_shares(recipe).to(everyone.device))
            if recipe.classifies
            else KeywordLoss(recipe.features, recipe.network.stride, recipe.training)
        )
        self.frame_augment = FrameAugment(recipe.augmentation)
        self.gain = GainBatch(recipe.features).to(everyone.device)

    def teach(self, learner: Learner) -> Tensor:
        """One step; returns the batch's mean loss, on the device."""
        plan, device = learner.plan, self.everyone.device
        number = plan.first_step + learner.step
        seed = self.recipe.seed * 1_000_003 + number
        batch = self.batches.draw(number)
        hop = self.recipe.features.hop_samples
        word = batch.start // hop, -(-batch.end // hop)
        frames = self.gain(self.frame_augment(batch.frames, word, Dice(seed, device)), goes_on=True)
        total, mine = len(frames), self.everyone.share
        torch.manual_seed(seed * self.everyone.count + self.everyone.rank)  # dropout
        mixed = plan.phase == "float" and multiplies_bfloat16(device)  # it cannot hold 256 codes
        with torch.autocast(device.type, torch.bfloat16) if mixed else nullcontext():
            logits = learner.parallel(frames[mine])
        losses = self.loss(logits.float(), batch.keyword[mine], batch.start[mine], batch.end[mine])
        # The processes' gradients are averaged: this makes the average that of the whole batch's mean.
        learner.descend(losses.sum() * (self.everyone.count / total))
        losses = self.everyone.gather(losses.detach(), total)
        self.batches.learn(batch, losses)
        return losses.mean()

    def calibration(self, count: int) -> Iterator[Tensor]:
        """What the network hears of `count` windows, half of them with a keyword, some at a time."""
        for frames in self.batches.calibration(count):
            yield self.gain(frames, goes_on=True)


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether a device has arithmetic for bfloat16; a CPU without it would imitate it, slowly."""
    if device.type == "cuda":
        return True
    tell = getattr(torch.cpu, "get_capabilities", None)  # older versions of torch do not
    return bool(tell and tell().get("avx512_bf16"))
