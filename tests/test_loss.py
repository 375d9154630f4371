"""The loss rewards a peak in the hit window and nothing else; steps are counted by hand."""

import math

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")

from kws.features import FeatureSettings  # noqa: E402
from kws.train.loss import AFTERGLOW_STEPS, ClipLoss, KeywordLoss, label_shares  # noqa: E402
from kws.train.recipe import Data, Recipe, Training  # noqa: E402

pytestmark = pytest.mark.train

STEPS = 60
# Posterior i has heard 400 + 160 * (2 * i + 1) = 560 + 320 * i samples: all before 6960 at i = 20.
START, END, END_STEP = 560 + 320 * 10, 560 + 320 * 20, 20
LOW, HIGH = -20.0, 20.0


def loss_of(logits: torch.Tensor, keyword: int = 0) -> float:
    loss = KeywordLoss(FeatureSettings(), stride=2, training=Training(smoothing_steps=1))
    place = torch.tensor([START if keyword >= 0 else 0]), torch.tensor([END if keyword >= 0 else 0])
    return float(loss(logits, torch.tensor([keyword]), *place))


def peak_at(step: int, keyword: int = 0) -> torch.Tensor:
    logits = torch.full((1, 2, STEPS), LOW)
    logits[0, keyword, step] = HIGH
    return logits


# early_ms 40 and late_ms 280 are 2 and 14 steps of 20 ms.
@pytest.mark.parametrize("step", [END_STEP - 2, END_STEP, END_STEP + 14])
def test_peak_in_the_hit_window_costs_nothing(step: int) -> None:
    assert loss_of(peak_at(step)) < 1e-6


@pytest.mark.parametrize("step", [END_STEP - 3, END_STEP + 15])
def test_peak_just_outside_is_a_miss(step: int) -> None:
    assert loss_of(peak_at(step)) == pytest.approx(20, abs=1e-3)


@pytest.mark.parametrize("step", [9, END_STEP + 14 + AFTERGLOW_STEPS + 1])
def test_peak_away_from_the_word_costs_a_miss_and_a_false_accept(step: int) -> None:
    assert loss_of(peak_at(step)) == pytest.approx(40, abs=1e-3)


def test_other_keyword_may_not_rise_during_the_word() -> None:
    both = torch.maximum(peak_at(END_STEP), peak_at(END_STEP, keyword=1))
    assert loss_of(both) == pytest.approx(20, abs=1e-3)


def test_window_without_a_keyword_pays_for_its_worst_moment_of_each_keyword() -> None:
    assert loss_of(torch.full((1, 2, STEPS), LOW), keyword=-1) < 1e-6
    both = torch.maximum(peak_at(3), peak_at(50, keyword=1))
    assert loss_of(both, keyword=-1) == pytest.approx(40, abs=1e-3)


EVEN = torch.full((3,), 1 / 3)


def clip_loss_of(
    logits: list[list[float]], label: int, shares: torch.Tensor = EVEN, **training: float
) -> float:
    """Loss of one window: a row of logits for each output."""
    loss = ClipLoss(Training(**({"smoothing_steps": 1, "label_smoothing": 0.0} | training)), shares)
    unused = torch.tensor([0])
    return float(loss(torch.tensor([logits]), torch.tensor([label]), unused, unused))


# The highest moments are ln 6 and ln 3; silence is 0: shares of 0.6, 0.3 and 0.1.
LOGITS = [[-9.0, math.log(6), 0.0], [math.log(3), -9.0, 0.0]]


@pytest.mark.parametrize(("label", "share"), [(0, 0.6), (1, 0.3), (-1, 0.1)])
def test_clip_is_judged_by_the_highest_moment_of_each_output_and_silence_by_zero(
    label: int, share: float
) -> None:
    assert clip_loss_of(LOGITS, label) == pytest.approx(-math.log(share), abs=1e-5)


@pytest.mark.parametrize(("label", "share"), [(0, 6), (1, 3), (-1, 8)])
def test_frequent_label_needs_a_lower_logit(label: int, share: int) -> None:
    # Shares of 1 to 1 to 8: silence weighs eight times as much beside 6 and 3.
    found = clip_loss_of(LOGITS, label, torch.tensor([0.1, 0.1, 0.8]))
    assert found == pytest.approx(-math.log(share / 17), abs=1e-5)


def test_shares_of_labels_are_those_of_the_batches() -> None:
    recipe = Recipe(
        "toy",
        ("on", "off", "_unknown_"),
        data=Data(negative_shares={"words": 3.0, "ambient": 1.0}),
        training=Training(positives_per_batch=60, negatives_per_batch=40),
    )
    torch.testing.assert_close(label_shares(recipe), torch.tensor([0.3, 0.3, 0.3, 0.1]))


def test_label_smoothing_asks_a_little_for_every_label() -> None:
    # 0.7 of the truth for the label itself, 0.1 for each of the three labels.
    want = -0.8 * math.log(0.6) - 0.1 * math.log(0.3) - 0.1 * math.log(0.1)
    assert clip_loss_of(LOGITS, 0, label_smoothing=0.3) == pytest.approx(want, abs=1e-5)


def test_clip_loss_averages_logits_before_it_takes_the_highest() -> None:
    # Averages of two, the first logit standing for the one before it: 0, 2, 4, 2; and 0 throughout.
    logits = [[0.0, 4.0, 4.0, 0.0], [0.0] * 4]
    assert clip_loss_of(logits, 0, smoothing_steps=2) == pytest.approx(math.log1p(2 * math.exp(-4)), abs=1e-5)


def test_every_moment_of_a_flat_output_is_taught() -> None:
    logits = torch.zeros(1, 2, 5, requires_grad=True)
    unused = torch.tensor([0])
    loss = ClipLoss(Training(smoothing_steps=1, label_smoothing=0.0), EVEN)(logits, unused, unused, unused)
    loss.sum().backward()
    # Three labels at a third each: the right one is pulled up by 2/3, the other output down by 1/3.
    want = torch.tensor([[[-2 / 15] * 5, [1 / 15] * 5]])
    torch.testing.assert_close(logits.grad, want)
