"""Detector: worked examples, and laws that hold for any scores."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kws.detector import Detector, peaks, smooth
from kws.errors import ConfigError
from kws.manifest import DetectorSettings

KEYWORDS = ("yes", "no")
HOP, FIRST = 320, 560  # samples: a score every 20 ms, the first one after 35 ms

posteriors_of_any_length = st.integers(0, 200).flatmap(
    lambda steps: arrays(np.float32, (steps, 2), elements=st.floats(0, 1, width=32))
)
detector_settings = st.builds(
    DetectorSettings,
    thresholds=st.fixed_dictionaries({k: st.floats(0.05, 1) for k in KEYWORDS}),
    smoothing_steps=st.integers(1, 12),
    refractory_seconds=st.floats(0, 2),
    hits_required=st.integers(1, 4),
)


def detector_of(settings=None, **changes):
    settings = settings or DetectorSettings(
        **{"thresholds": dict.fromkeys(KEYWORDS, 0.5), "smoothing_steps": 1} | changes
    )
    return Detector(settings, KEYWORDS, first_score_samples=FIRST, score_hop_samples=HOP)


def column(*values, length=None):
    """Posteriors of "yes"; those of "no" are 0."""
    scores = np.zeros((length or len(values), 2), np.float32)
    scores[: len(values), 0] = values
    return scores


def test_detection_carries_keyword_sample_time_and_score():
    (heard,) = detector_of().feed(column(0.1, 0.2, 0.75))
    assert (heard.keyword, heard.sample, heard.score) == ("yes", FIRST + 2 * HOP, 0.75)
    assert heard.time_s == (FIRST + 2 * HOP) / 16_000


def test_score_is_the_mean_of_the_last_posteriors_and_silence_before_the_first():
    detector = detector_of(smoothing_steps=4)
    detector.feed(column(0.4, 0.8))
    detector.feed(column(0.8, 0.8, 0.8))
    np.testing.assert_allclose(detector.scores[:, 0], [0.5, 0.7, 0.8], rtol=1e-6)


def test_threshold_itself_is_enough():
    assert len(detector_of(thresholds={"yes": 0.9, "no": 1.0}).feed(column(np.float32(0.9)))) == 1


def test_rest_after_a_detection_counts_samples_and_covers_every_keyword():
    scores = column(*[0.9] * 102, length=102)
    scores[1:, 1] = 1.0
    heard = detector_of(refractory_seconds=1.0).feed(scores)
    assert [(d.keyword, (d.sample - FIRST) // HOP) for d in heard] == [("yes", 0), ("no", 50), ("no", 100)]


def test_higher_score_wins_when_two_keywords_arrive_together():
    (heard,) = detector_of().feed(np.array([[0.6, 0.7]], np.float32))
    assert heard.keyword == "no"


def test_hits_must_follow_each_other():
    detector = detector_of(hits_required=3)
    assert not detector.feed(column(0.9, 0.9, 0.1, 0.9, 0.9))
    assert not detector.feed(column())
    (heard,) = detector.feed(column(0.9))
    assert heard.sample == FIRST + 5 * HOP


def test_hits_are_counted_anew_after_the_rest():
    heard = detector_of(hits_required=3, refractory_seconds=0.2).feed(column(*[0.9] * 16))
    assert [(d.sample - FIRST) // HOP for d in heard] == [2, 14]


def test_reset_starts_a_new_stream():
    detector = detector_of(smoothing_steps=3)
    first = detector.feed(column(0.9, 0.9, 0.9))
    detector.reset()
    assert detector.feed(column(0.9, 0.9, 0.9)) == first


@given(posteriors_of_any_length, detector_settings, st.lists(st.integers(0, 200)))
def test_any_cut_gives_the_same_scores_and_detections(posteriors, settings, cuts):
    whole, cut = detector_of(settings), detector_of(settings)
    expected = whole.feed(posteriors)
    heard, scores = [], [np.zeros((0, 2), np.float32)]
    for part in np.split(posteriors, sorted(min(c, len(posteriors)) for c in cuts)):
        heard += cut.feed(part)
        scores.append(cut.scores)
    assert heard == expected
    np.testing.assert_array_equal(np.concatenate(scores), smooth(posteriors, settings.smoothing_steps))


@given(posteriors_of_any_length, detector_settings)
def test_detections_reach_their_threshold_and_keep_their_distance(posteriors, settings):
    heard = detector_of(settings).feed(posteriors)
    assert all(d.score >= np.float32(settings.thresholds[d.keyword]) for d in heard)
    gaps = np.diff([d.sample for d in heard])
    assert (gaps >= round(settings.refractory_seconds * 16_000)).all()
    if settings.hits_required == 1:
        limits = np.float32([settings.thresholds[k] for k in KEYWORDS])
        assert bool(heard) == bool((smooth(posteriors, settings.smoothing_steps) >= limits).any())


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


@given(posteriors_of_any_length, st.integers(1, 60))
def test_peaks_hold_the_maximum_and_keep_their_distance(scores, distance):
    for values, found in zip(scores.T, peaks(scores, min_distance_rows=distance), strict=True):
        rows = [row for row, _ in found]
        assert all(b - a >= distance for a, b in pairwise(rows))
        assert all(score == values[row] and score >= 0.02 for row, score in found)
        highest = values.max(initial=0)
        assert max((score for _, score in found), default=None) == (highest if highest >= 0.02 else None)


@pytest.mark.parametrize(
    "wrong",
    [
        {"smoothing_steps": 0},
        {"hits_required": 0},
        {"refractory_seconds": -1.0},
        {"refractory_seconds": float("nan")},
        {"thresholds": {"yes": 0.0}},
        {"thresholds": {"yes": 1.5}},
        {"thresholds": {"yes": float("nan")}},
    ],
)
def test_settings_that_cannot_work_are_refused(wrong):
    with pytest.raises(ConfigError):
        DetectorSettings(**{"thresholds": {"yes": 0.5}} | wrong)


def rounded(columns):
    return [[(row, round(score, 3)) for row, score in found] for found in columns]
