"""Near misses: worked examples, and laws that hold for any scores and any cut of them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from test_detector import FIRST, HOP, KEYWORDS, column, detector_of

from kws.detector import Detector
from kws.events import NearMiss
from kws.manifest import DetectorSettings
from kws.near_misses import NearMisses

REST = 50  # scores in the refractory period of one second

# Few values, so that scores rise, fall, last and meet each other often. 0.4 is the floor, 0.8 the threshold.
restless_scores = st.integers(0, 200).flatmap(
    lambda steps: arrays(
        np.float32, (steps, 2), elements=st.sampled_from(np.float32([0, 0.3, 0.4, 0.6, 0.9]))
    )
)


def settings_of(**changes):
    return DetectorSettings(**{"thresholds": dict.fromkeys(KEYWORDS, 0.8)} | changes)


def missed_in(scores, settings=None, cuts=()):
    """Near misses and detections of a whole stream, fed in pieces."""
    settings = settings or settings_of()
    detector = detector_of(settings)
    near = NearMisses(detector)
    missed, heard = [], []
    for part in np.split(scores, sorted(min(cut, len(scores)) for cut in cuts)):
        detections = detector.feed(part)
        heard += detections
        missed += near.feed(part, detections)
    return missed + near.flush(), heard


def rows(missed):
    return [(m.keyword, (m.sample - FIRST) // HOP) for m in missed]


def test_peak_between_half_the_threshold_and_the_threshold_is_told_with_its_place_and_height():
    (missed,), heard = missed_in(column(0.1, 0.5, 0.75, 0.6, 0.1))
    assert missed == NearMiss("yes", FIRST + 2 * HOP, 0.75)
    assert missed.time_s == (FIRST + 2 * HOP) / 16_000
    assert missed.fields() == {"keyword": "yes", "time_s": 0.075, "score": 0.75}
    assert not heard


def test_peak_below_half_the_threshold_is_nothing():
    assert missed_in(column(0.1, 0.39, 0.1)) == ([], [])


def test_near_miss_is_known_one_rest_after_its_peak():
    near = NearMisses(detector_of(settings_of()))
    assert not near.feed(column(0.5, length=REST))
    assert rows(near.feed(column(0.0))) == [("yes", 0)]


def test_detection_takes_away_what_led_to_it_and_what_follows():
    scores = column(0.6, 0.1, *[0.1] * 20, 0.7, 0.9, 0.7, 0.1, 0.7, length=200)
    missed, heard = missed_in(scores)
    assert not missed
    assert len(heard) == 1


def test_score_that_falls_slowly_after_the_rest_is_no_near_miss_but_one_that_rises_again_is():
    slow = column(0.9, *[0.7] * (REST + 20), length=200)
    assert missed_in(slow)[0] == []
    slow[REST + 25] = 0.7
    assert rows(missed_in(slow)[0]) == [("yes", REST + 25)]


def test_score_that_stays_up_counts_once_at_its_highest():
    scores = column(*[0.5] * 30, 0.6, *[0.5] * 400)
    assert rows(missed_in(scores)[0]) == [("yes", 30)]


def test_of_two_keywords_the_higher_one_is_missed():
    scores = column(0.5, length=80)
    scores[5, 1] = 0.6
    assert rows(missed_in(scores)[0]) == [("no", 5)]


def test_other_speech_that_scores_higher_silences():
    settings = DetectorSettings({"yes": 0.8})  # "no" has no threshold: it stands for other speech
    scores = column(0.5, length=80)
    assert rows(missed_in(scores, settings)[0]) == [("yes", 0)]
    scores[0, 1] = 0.6
    assert missed_in(scores, settings)[0] == []


def test_single_score_above_the_threshold_is_a_near_miss_where_two_are_required():
    missed, heard = missed_in(column(0.9, length=80), settings_of(hits_required=2))
    assert (rows(missed), heard) == ([("yes", 0)], [])


def test_skipped_audio_passes_the_time():
    near = NearMisses(detector_of(settings_of()))
    near.feed(column(0.5, 0.1))
    assert not near.skip(HOP * (REST - 3))
    assert rows(near.skip(HOP)) == [("yes", 0)]
    near.feed(column(0.5))
    assert rows(near.flush()) == [("yes", REST)]


def test_reset_starts_a_new_stream():
    near = NearMisses(detector_of(settings_of()))
    near.feed(column(0.5, 0.1))
    near.reset()
    assert not near.flush()
    near.feed(column(0.5))
    assert rows(near.flush()) == [("yes", 0)]


def test_model_gives_its_settings(toy_model):
    detector = Detector.for_model(toy_model)
    near = NearMisses(detector)
    lowest = min(toy_model.manifest.detector.thresholds.values())
    scores = np.zeros((200, len(toy_model.keywords)), np.float32)
    scores[3] = 0.75 * lowest
    assert not detector.feed(scores)
    (missed,) = near.feed(scores)
    first, hop = toy_model.manifest.first_score_samples, toy_model.manifest.score_hop_samples
    assert (missed.sample, missed.score) == (first + 3 * hop, np.float32(0.75 * lowest))


@given(restless_scores, st.lists(st.integers(0, 200)), st.sampled_from([0.0, 0.2, 1.0]), st.integers(1, 2))
def test_any_cut_gives_the_same_near_misses(scores, cuts, refractory_seconds, hits_required):
    settings = settings_of(refractory_seconds=refractory_seconds, hits_required=hits_required)
    assert missed_in(scores, settings, cuts) == missed_in(scores, settings)


@given(restless_scores)
def test_near_misses_keep_their_distance_to_each_other_and_to_detections(scores):
    missed, heard = missed_in(scores)
    samples = [m.sample for m in missed]
    assert (np.diff(samples) >= REST * HOP).all()
    for detection in heard:
        assert all(abs(sample - detection.sample) >= REST * HOP for sample in samples)
    for m in missed:
        row = scores[(m.sample - FIRST) // HOP]
        assert np.float32(0.4) <= row[KEYWORDS.index(m.keyword)] == row.max() == np.float32(m.score)


@given(restless_scores)
def test_scores_that_rise_above_the_floor_are_missed_or_heard(scores):
    missed, heard = missed_in(scores)
    assert bool(missed or heard) == bool((scores >= np.float32(0.4)).any())
