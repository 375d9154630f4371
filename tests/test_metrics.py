"""Every figure here was counted by hand or taken from a printed table."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kws.evaluate import metrics
from kws.scores import PEAK_FLOOR, peaks

# Ten ambient peaks in two hours.
AMBIENT = [0.9, 0.1, 0.5, 0.3, 0.8, 0.3, 0.05, 0.2, 0.7, 0.6]


def test_two_bursts_are_two_false_accepts():
    """Two bursts of twenty high scores each, two seconds apart: two events, not forty."""
    scores = np.zeros((300, 1), np.float32)
    scores[50:70] = 0.9
    scores[170:190] = 0.8
    found = [score for _, score in peaks(scores, min_distance_rows=50)[0]]
    assert metrics.false_accepts(found, 0.75) == 2
    assert metrics.false_accepts(found, 0.85) == 1


def test_false_accepts_counts_a_peak_equal_to_the_threshold():
    assert [metrics.false_accepts(AMBIENT, t) for t in (0.95, 0.9, 0.5, 0.3, 0.02)] == [0, 1, 5, 7, 10]


@pytest.mark.parametrize(
    ("fa_per_hour", "above", "count"),
    [(0.1, 0.9, 0), (0.5, 0.8, 1), (1.0, 0.7, 2), (1.4, 0.7, 2), (2.0, 0.5, 4), (3.0, 0.3, 5), (3.5, 0.2, 7)],
)
def test_threshold_at_is_just_above_the_first_peak_that_must_not_pass(fa_per_hour, above, count):
    """Two peaks share 0.3: six cannot pass without a seventh, so the threshold stays above both."""
    threshold = metrics.threshold_at(AMBIENT, hours=2.0, fa_per_hour=fa_per_hour)
    assert threshold == np.nextafter(np.float32(above), np.float32(1))
    assert metrics.false_accepts(AMBIENT, threshold) == count


def test_threshold_at_is_the_peak_floor_when_every_peak_may_pass():
    assert metrics.threshold_at(AMBIENT, 2.0, 5.0) == PEAK_FLOOR
    assert metrics.threshold_at([], 2.0, 0.1) == PEAK_FLOOR


def test_threshold_at_is_not_fooled_by_binary_fractions():
    """0.1 per hour in 30 hours allows three, although 0.1 * 3 is not 0.3 in binary."""
    assert metrics.false_accepts(AMBIENT, metrics.threshold_at(AMBIENT, 30.0, 0.1)) == 3
    assert metrics.false_accepts(AMBIENT, metrics.threshold_at(AMBIENT, 3 / 0.7, 0.7)) == 3


@given(
    st.lists(st.floats(0.03125, 1.0, width=32), max_size=40),
    st.floats(0.01, 30.0),
    st.floats(0.05, 10.0),
)
def test_threshold_at_is_the_smallest_that_keeps_the_promise(ambient, hours, fa_per_hour):
    threshold = metrics.threshold_at(ambient, hours, fa_per_hour)
    assert metrics.false_accepts(ambient, threshold) <= fa_per_hour * hours + 1e-9
    if threshold > PEAK_FLOOR:
        lower = float(np.nextafter(np.float32(threshold), np.float32(0)))
        assert metrics.false_accepts(ambient, lower) > fa_per_hour * hours


def test_false_reject_rate_counts_scores_below_the_threshold():
    scores = [0.0, 0.4, 0.5, 0.9]
    assert [metrics.false_reject_rate(scores, t) for t in (0.02, 0.5, 0.6, 1.0)] == [0.25, 0.5, 0.75, 1.0]
    assert math.isnan(metrics.false_reject_rate([], 0.5))


SPEAKERS = ["ann", "ann", "ann", "bob", "bob", "cy"]
RECORDINGS = ["a1", "a1", "a2", "b1", "b1", "a1"]
"""Ann: one recording in two copies and another. Bob: one in two copies. Cy: one, named like one of Ann's."""


def test_balanced_weights_share_votes_by_speaker_recording_and_copy():
    weights = metrics.balanced_weights(SPEAKERS, RECORDINGS)
    assert weights == pytest.approx([1 / 12, 1 / 12, 1 / 6, 1 / 6, 1 / 6, 1 / 3])


def test_balanced_rate_is_the_mean_over_speakers():
    """Ann missed one of two copies of a1: a quarter. Bob both: 1. Cy none. Mean 5/12; plain rate 3/6."""
    scores = [0.2, 0.8, 0.9, 0.1, 0.3, 0.7]
    weights = metrics.balanced_weights(SPEAKERS, RECORDINGS)
    assert metrics.false_reject_rate(scores, 0.5) == pytest.approx(0.5)
    assert metrics.false_reject_rate(scores, 0.5, weights) == pytest.approx(5 / 12)
    assert metrics.speaker_rates(scores, 0.5, SPEAKERS, RECORDINGS) == pytest.approx([0.25, 1.0, 0.0])


@pytest.mark.parametrize(
    ("count", "low", "high"),
    [(0, 0.0, 3.689), (1, 0.0253, 5.572), (5, 1.623, 11.668), (10, 4.795, 18.390), (100, 81.36, 121.63)],
)
def test_poisson_interval_equals_the_printed_table(count, low, high):
    assert metrics.poisson_interval(count) == pytest.approx((low, high), rel=1e-3)


def test_rate_interval_divides_by_the_hours():
    assert metrics.rate_interval(10, 5.0) == pytest.approx((4.795 / 5, 18.390 / 5), rel=1e-3)


@pytest.mark.parametrize(
    ("events", "trials", "low", "high"),
    [(0, 10, 0.0, 0.2775), (5, 50, 0.0435, 0.2136), (10, 10, 0.7225, 1.0), (0, 0, 0.0, 1.0)],
)
def test_wilson_interval_equals_the_printed_table(events, trials, low, high):
    assert metrics.wilson_interval(events, trials) == pytest.approx((low, high), abs=1e-4)


def test_bootstrap_is_reproducible_and_brackets_the_mean():
    rates = np.array([0.0, 0.0, 0.1, 0.2, 0.9, 0.0, 0.3, 0.0])
    draws = metrics.bootstrap_means(rates)
    low, high = metrics.percentile_interval(draws)
    assert np.array_equal(draws, metrics.bootstrap_means(rates))
    assert low < rates.mean() < high
    assert metrics.percentile_interval(metrics.bootstrap_means(np.full(5, 0.25))) == (0.25, 0.25)


def test_trade_off_lists_the_best_rate_for_each_possible_count():
    """Four trials, three ambient peaks in half an hour; the shared peak makes the count jump by two."""
    rows = metrics.trade_off([0.3, 0.4, 0.6, 0.8], [0.7, 0.4, 0.4], hours=0.5)
    assert [(r.false_accepts, r.false_accepts_per_hour, r.false_reject_rate) for r in rows] == [
        (0, 0.0, 0.75),  # just above 0.7: only 0.8 is heard
        (1, 2.0, 0.5),  # just above 0.4: 0.6 and 0.8 are heard
        (3, 6.0, 0.0),  # at the peak floor everything is
    ]
