"""Detector: worked examples, and laws that hold for any scores."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kws.detector import Detector
from kws.errors import ConfigError
from kws.manifest import DetectorSettings

KEYWORDS = ("yes", "no")
HOP, FIRST = 320, 560  # samples: a score every 20 ms, the first one after 35 ms

scores_of_any_length = st.integers(0, 200).flatmap(
    lambda steps: arrays(np.float32, (steps, 2), elements=st.floats(0, 1, width=32))
)
detector_settings = st.builds(
    DetectorSettings,
    thresholds=st.fixed_dictionaries({k: st.floats(0.05, 1) for k in KEYWORDS}),
    refractory_seconds=st.floats(0, 2),
    hits_required=st.integers(1, 4),
)


def detector_of(settings=None, **changes):
    settings = settings or DetectorSettings(**{"thresholds": dict.fromkeys(KEYWORDS, 0.5)} | changes)
    return Detector(settings, KEYWORDS, first_score_samples=FIRST, score_hop_samples=HOP)


def column(*values, length=None):
    """Scores of "yes"; those of "no" are 0."""
    scores = np.zeros((length or len(values), 2), np.float32)
    scores[: len(values), 0] = values
    return scores


def test_detection_carries_keyword_sample_time_and_score():
    (heard,) = detector_of().feed(column(0.1, 0.2, 0.75))
    assert (heard.keyword, heard.sample, heard.score) == ("yes", FIRST + 2 * HOP, 0.75)
    assert heard.time_s == (FIRST + 2 * HOP) / 16_000


def test_threshold_itself_is_enough():
    assert len(detector_of(thresholds={"yes": 0.9, "no": 1.0}).feed(column(np.float32(0.9)))) == 1


def test_rest_after_a_detection_counts_samples_and_covers_every_keyword():
    scores = column(*[0.9] * 102, length=102)
    scores[1:, 1] = 1.0
    heard = detector_of(refractory_seconds=1.0).feed(scores)
    assert [(d.keyword, (d.sample - FIRST) // HOP) for d in heard] == [("yes", 0), ("no", 50), ("no", 100)]


def test_class_without_threshold_is_not_detected_but_silences_lower_scores():
    detector = detector_of(thresholds={"yes": 0.5}, refractory_seconds=0)
    heard = detector.feed(np.array([[0.7, 0.9], [0.9, 0.7], [0.1, 1.0]], np.float32))
    assert [(d.keyword, (d.sample - FIRST) // HOP) for d in heard] == [("yes", 1)]


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


def test_skipped_samples_pass_the_time():
    """The rest of a second ends in what was skipped, and the next detection is dated behind it."""
    detector = detector_of(refractory_seconds=1.0)
    (first,) = detector.feed(column(0.9))
    assert not detector.feed(column(0.9))
    detector.skip(16_000)
    (second,) = detector.feed(column(0.9))
    assert second.sample - first.sample == 16_000 + 2 * HOP


def test_hits_before_and_after_a_skip_do_not_follow_each_other():
    detector = detector_of(hits_required=2)
    detector.feed(column(0.9))
    detector.skip(HOP)
    assert not detector.feed(column(0.9))
    assert detector.feed(column(0.9))


def test_reset_starts_a_new_stream():
    detector = detector_of(hits_required=3)
    first = detector.feed(column(0.9, 0.9, 0.9))
    detector.skip(160)
    detector.reset()
    assert detector.feed(column(0.9, 0.9, 0.9)) == first


@given(scores_of_any_length, detector_settings, st.lists(st.integers(0, 200)))
def test_any_cut_gives_the_same_detections(scores, settings, cuts):
    whole, cut = detector_of(settings), detector_of(settings)
    heard = []
    for part in np.split(scores, sorted(min(c, len(scores)) for c in cuts)):
        heard += cut.feed(part)
    assert heard == whole.feed(scores)


@given(scores_of_any_length, detector_settings)
def test_detections_reach_their_threshold_and_keep_their_distance(scores, settings):
    heard = detector_of(settings).feed(scores)
    assert all(d.score >= np.float32(settings.thresholds[d.keyword]) for d in heard)
    gaps = np.diff([d.sample for d in heard])
    assert (gaps >= round(settings.refractory_seconds * 16_000)).all()
    if settings.hits_required == 1:
        limits = np.float32([settings.thresholds[k] for k in KEYWORDS])
        assert bool(heard) == bool((scores >= limits).any())


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
