"""Which windows each training step sees: shuffled passes over all, and the hardest negatives again and again.

A batch is a function of seed, step and the losses so far. So a run that was interrupted goes on with the same
batches, once it has its losses back.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from kws.features import FRAME_STEP_BEL
from kws.train.pool import Pool
from kws.train.recipe import Training

CALIBRATION_WINDOWS = 128
"""Windows that go through the network at once while its ranges are observed."""
RANKING_STEPS = 50
"""The hardest negatives are looked up afresh this often."""


@dataclass(frozen=True)
class Batch:
    """Windows of one step, those with a keyword first."""

    frames: Tensor
    """float32 (B, n_mels, T), in bel."""
    keyword: Tensor
    """(B,) index of the spoken keyword, or -1."""
    start: Tensor
    """(B,) sample at which the word starts."""
    end: Tensor
    """(B,) sample at which the word has ended."""
    negatives: Tensor
    """Rows of the last windows in the pool of negatives."""


class Batches:
    """Draws the batches of a run and mines its negatives."""

    def __init__(
        self, positives: Pool, negatives: Pool, training: Training, seed: int, device: torch.device
    ) -> None:
        if device.type == "cuda":  # everything resident: batches are gathered on the device
            positives, negatives = positives.to(device), negatives.to(device)
        self._positives, self._negatives = positives, negatives
        self._training, self._seed, self._device = training, seed, device
        self._drawn = len(negatives)
        """Negatives that mining did not find; they come first."""
        self._loss = torch.zeros(len(negatives), device=device)
        """Last loss of each negative; until it has been seen, 0 if it was drawn, infinite if it was mined."""
        self._hardest = torch.zeros(0, dtype=torch.int64, device=device)

    def draw(self, step: int) -> Batch:
        """The batch of a step; call it once for each, in order."""
        t = self._training
        if step % RANKING_STEPS == 0:
            self._rank()
        mined = round(t.negatives_per_batch * t.mined_share)
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + step)
        negatives = torch.cat(
            [
                self._hardest[
                    torch.randint(len(self._hardest), (mined,), generator=generator).to(self._device)
                ],
                shuffled(len(self._negatives), t.negatives_per_batch - mined, step, self._seed).to(
                    self._device
                ),
            ]
        )
        positives = shuffled(len(self._positives), t.positives_per_batch, step, self._seed + 1)
        frames, keyword, start, end = (
            torch.cat([of_positives, of_negatives]).to(self._device)
            for of_positives, of_negatives in zip(
                self._positives.rows(positives), self._negatives.rows(negatives), strict=True
            )
        )
        return Batch(frames.float() * FRAME_STEP_BEL, keyword, start, end, negatives)

    def learn(self, batch: Batch, losses: Tensor) -> None:
        """Remember how hard the negatives of a batch were; losses (B,)."""
        self._loss[batch.negatives] = losses.detach()[-len(batch.negatives) :]

    def forget(self) -> None:
        """Begin anew: no window has been seen, and those that mining found count as the hardest."""
        self._loss = torch.zeros(self._drawn, device=self._device)
        self._pad()
        self._rank()

    def extend(self, negatives: Pool) -> None:
        """Add negatives that mining has found; they count as the hardest until they have been seen."""
        self._negatives = self._negatives + negatives
        self._pad()

    def calibration(self, count: int) -> Iterator[Tensor]:
        """Frames of `count` windows, half of them with a keyword, some at a time."""
        for pool in (self._positives, self._negatives):
            for frames in pool.frames[: count // 2].split(CALIBRATION_WINDOWS):
                yield frames.to(self._device).float() * FRAME_STEP_BEL

    def state_dict(self) -> dict[str, Tensor]:
        """What a resumed run needs."""
        return {"loss": self._loss, "hardest": self._hardest}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from `state_dict`."""
        self._loss, self._hardest = (state[name].to(self._device) for name in ("loss", "hardest"))
        self._pad()

    def _rank(self) -> None:
        count = max(1, int(len(self._loss) * self._training.mined_fraction))
        self._hardest = self._loss.topk(count).indices

    def _pad(self) -> None:
        count = len(self._negatives) - len(self._loss)
        self._loss = torch.cat((self._loss, torch.full((count,), float("inf"), device=self._device)))


def shuffled(total: int, count: int, step: int, seed: int) -> Tensor:
    """Rows step * count .. + count of an endless sequence of shuffled passes over `total` rows."""
    rows = []
    position = step * count
    while count:
        epoch, offset = divmod(position, total)
        part = _order(total, seed * 7919 + epoch)[offset : offset + count]
        rows.append(part)
        position, count = position + len(part), count - len(part)
    return torch.cat(rows) if rows else torch.zeros(0, dtype=torch.int64)


@lru_cache(maxsize=4)  # one pass of each pool, and the next one where they meet
def _order(total: int, seed: int) -> Tensor:
    return torch.randperm(total, generator=torch.Generator().manual_seed(seed))
