"""Scores from logits, by hand and by law; and the peaks of a recording."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kws.scores import SILENT_LOGIT, Smoother, peaks, scores_of

SCALE, ZERO_POINT = 0.5, 100

codes_of_any_length = st.integers(0, 120).flatmap(lambda steps: arrays(np.uint8, (steps, 2)))
scores_of_any_length = st.integers(0, 200).flatmap(
    lambda steps: arrays(np.float32, (steps, 2), elements=st.floats(0, 1, width=32))
)


def column(*values):
    """Scores of one keyword; those of the other are 0."""
    scores = np.zeros((len(values), 2), np.float32)
    scores[:, 0] = values
    return scores


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_score_is_the_probability_of_the_mean_logit():
    codes = np.array([[100], [104], [108], [96]], np.uint8)
    scores = Smoother(SCALE, ZERO_POINT, 2, 1).feed(codes)[:, 0]
    np.testing.assert_allclose(scores[1:], sigmoid(np.array([1.0, 3.0, 1.0])), rtol=1e-6)


def test_before_the_start_logits_are_as_low_as_can_be():
    (score,) = Smoother(SCALE, ZERO_POINT, 4, 1).feed(np.array([[200]], np.uint8))[0]
    assert score == pytest.approx(sigmoid(SCALE * (200 / 4 - ZERO_POINT)), rel=1e-6)


@given(codes_of_any_length, st.integers(1, 12), st.lists(st.integers(0, 120)))
def test_any_cut_gives_the_same_bits(codes, smoothing_steps, cuts):
    whole, cut = (Smoother(SCALE, ZERO_POINT, smoothing_steps, 2) for _ in range(2))
    parts = np.split(codes, sorted(min(c, len(codes)) for c in cuts))
    np.testing.assert_array_equal(np.concatenate([cut.feed(part) for part in parts]), whole.feed(codes))


@given(codes_of_any_length, st.integers(1, 12))
def test_codes_and_float_logits_give_the_same_scores(codes, smoothing_steps):
    logits = (SCALE * (codes.astype(np.float32) - ZERO_POINT)).astype(np.float32)
    settled = slice(smoothing_steps - 1, None)  # what they take for the past differs
    np.testing.assert_allclose(
        Smoother(SCALE, ZERO_POINT, smoothing_steps, 2).feed(codes)[settled],
        scores_of(logits, smoothing_steps)[settled],
        rtol=1e-5,
    )


def test_float_scores_start_from_silence():
    (score,) = scores_of(np.array([[6.0]], np.float32), 4)[0]
    assert score == pytest.approx(sigmoid((6 + 3 * SILENT_LOGIT) / 4), rel=1e-6)


def test_reset_starts_a_new_stream():
    smoother = Smoother(SCALE, ZERO_POINT, 3, 2)
    codes = np.full((5, 2), 120, np.uint8)
    first = smoother.feed(codes)
    smoother.reset()
    np.testing.assert_array_equal(smoother.feed(codes), first)


def test_peaks_by_hand():
    yes = [0.5, 0.1, 0.3, 0.3, 0.2, 0.2, 0.4, 0.01, 0.015, 0.0, 0.6]
    assert rounded(peaks(column(*yes), min_distance_rows=1)) == [
        [(0, 0.5), (2, 0.3), (6, 0.4), (10, 0.6)],
        [],
    ]
    assert rounded(peaks(column(*yes), min_distance_rows=5)) == [[(0, 0.5), (10, 0.6)], []]
    assert rounded(peaks(column(*yes), min_distance_rows=4)) == [[(0, 0.5), (6, 0.4), (10, 0.6)], []]


def test_peak_of_a_level_recording_is_its_first_row():
    assert rounded(peaks(column(*[0.5] * 200), min_distance_rows=50)) == [[(0, 0.5)], []]


@given(scores_of_any_length, st.integers(1, 60))
def test_peaks_hold_the_maximum_and_keep_their_distance(scores, distance):
    for values, found in zip(scores.T, peaks(scores, min_distance_rows=distance), strict=True):
        rows = [row for row, _ in found]
        assert all(b - a >= distance for a, b in pairwise(rows))
        assert all(score == values[row] and score >= 0.02 for row, score in found)
        highest = values.max(initial=0)
        assert max((score for _, score in found), default=None) == (highest if highest >= 0.02 else None)


def rounded(columns):
    return [[(row, round(score, 3)) for row, score in found] for found in columns]
