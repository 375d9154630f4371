"""Which windows a training step sees."""

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")

from kws.train.batches import Batches  # noqa: E402
from kws.train.pool import Pool  # noqa: E402
from kws.train.recipe import Training  # noqa: E402

DRAWN, MINED = 90, 10
TRAINING = Training(positives_per_batch=2, negatives_per_batch=20, mined_share=0.5, mined_fraction=0.1)


def pool(count: int) -> Pool:
    zeros = torch.zeros(count, dtype=torch.int64)
    return Pool(torch.zeros(count, 40, 4, dtype=torch.uint8), zeros - 1, zeros, zeros)


def mined_rows(batches: Batches, step: int) -> set[int]:
    """Negatives that a step sees because they are the hardest."""
    return set(batches.draw(step).negatives[:10].tolist())


def test_mined_windows_come_first_until_they_turn_out_easy_and_again_when_all_is_forgotten() -> None:
    batches = Batches(pool(8), pool(DRAWN), TRAINING, seed=1, device=torch.device("cpu"))
    batches.extend(pool(MINED))
    mined = set(range(DRAWN, DRAWN + MINED))
    assert mined_rows(batches, 0) <= mined

    for step in range(50):  # those that mining found are easy, the first ten of all are hard
        batch = batches.draw(step)
        losses = torch.where(batch.negatives < 10, 5.0, 0.1)
        batches.learn(batch, torch.cat([torch.zeros(2), losses]))
    assert mined_rows(batches, 50) <= set(range(10))

    batches.forget()
    assert mined_rows(batches, 51) <= mined  # at once, not only at the next ranking
    assert mined_rows(batches, 100) <= mined
