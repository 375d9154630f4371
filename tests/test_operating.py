"""Operating points: wanted false accepts a day become a threshold, and it is said how well that is known."""

import dataclasses
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import toy
from hypothesis import given
from hypothesis import strategies as st

import kws
from kws.errors import ConfigError
from kws.evaluate.curve import TAIL_PEAKS, Tail, operating_curve
from kws.manifest import MANIFEST_FILE, OperatingPoint, read_manifest, write_manifest
from kws.operating import detector_settings, explain, from_logit, logit, parse_rates, settings_at

KEYWORDS = ("alexa", "computer")
# Logits 4, 2 and 0 at 0.024, 0.24 and 2.4 false accepts a day, and nothing else.
CURVE = (
    OperatingPoint(from_logit(4.0), 0.001, 0.3, 0.0, 0.01, is_extrapolated=True),
    OperatingPoint(from_logit(2.0), 0.01, 0.2, 0.005, 0.02),
    OperatingPoint(from_logit(0.0), 0.1, 0.0, 0.05, 0.2),
)


@pytest.fixture
def manifest(toy_folder):
    return dataclasses.replace(
        read_manifest(toy_folder),
        operating_curve={"low note": CURVE},
        evaluation={"ambient_hours": 100.0},
    )


@pytest.mark.parametrize(
    ("per_day", "logit_wanted", "misses", "extrapolated"),
    [
        (2.4, 0.0, 0.0, False),
        (0.24, 2.0, 0.2, False),
        (0.24 * 10**0.5, 1.0, 0.1, False),
        (0.024, 4, 0.3, True),
    ],
)
def test_logit_of_the_threshold_is_linear_in_the_logarithm_of_the_rate(
    manifest, per_day, logit_wanted, misses, extrapolated
):
    (setting,) = settings_at(manifest, {"low note": per_day})
    assert logit(setting.threshold) == pytest.approx(logit_wanted, abs=1e-6)
    assert setting.false_reject_rate == pytest.approx(misses, abs=1e-9)
    assert setting.is_extrapolated == extrapolated
    assert setting.per_day == per_day


@given(st.floats(1e-3, 100), st.floats(1e-3, 100))
def test_fewer_false_accepts_never_lower_the_threshold(a, b):
    manifest = dataclasses.replace(read_manifest(toy.FOLDER), operating_curve={"low note": CURVE})
    rates = sorted((a, b), reverse=True)
    thresholds = [settings_at(manifest, {"low note": rate})[0].threshold for rate in rates]
    assert thresholds[0] <= thresholds[1]
    assert CURVE[2].threshold <= thresholds[0] <= thresholds[1] <= CURVE[0].threshold


def test_explanation_names_extrapolation_and_the_end_of_the_curve(manifest):
    assert explain(manifest, {"low note": 2.4}) == ["low note: 2.4 a day -> threshold 0.50, misses 0 %"]
    (between,) = explain(manifest, {"low note": 0.1})
    assert "measured on 100.0 h: 0.1 a day is an extrapolation (95 %: 0.0" in between
    (below,) = explain(manifest, {"low note": 0.001})
    assert below.startswith("low note: 0.024 a day -> threshold 0.982, misses 30 %; ")
    assert below.endswith("0.001 a day lies outside the measured curve, which ends at 0.024 a day")
    assert explain(manifest, None) == []


def test_a_point_without_any_false_accept_is_no_promise(manifest):
    old = (OperatingPoint(0.9, 0.0, 0.5), OperatingPoint(0.7, 0.5, 0.1))
    manifest = dataclasses.replace(manifest, operating_curve={"low note": old})
    (setting,) = settings_at(manifest, {"low note": 1.0})
    assert (setting.threshold, setting.per_day) == (pytest.approx(0.7), 12.0)
    assert "which ends at 12 a day" in explain(manifest, {"low note": 1.0})[0]


def test_thresholds_of_named_keywords_change_and_others_stay(manifest):
    changed = detector_settings(manifest, {"low note": 0.24})
    assert changed.thresholds == {"low note": pytest.approx(from_logit(2.0)), "high note": 0.5}
    assert detector_settings(manifest, None) is manifest.detector


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ({"high note": 1.0}, "no operating curve of 'high note'; run kws evaluate"),
        (1.0, "no operating curve of 'high note'"),
        ({"middle note": 1.0}, "does not know 'middle note'; it hears: low note, high note"),
    ],
)
def test_a_rate_that_cannot_be_kept_is_refused(manifest, rates, message):
    with pytest.raises(ConfigError, match=message):
        settings_at(manifest, rates)


def test_rates_are_read_for_all_and_for_single_keywords():
    assert parse_rates("1", KEYWORDS) == {"alexa": 1.0, "computer": 1.0}
    assert parse_rates("computer=2", KEYWORDS) == {"computer": 2.0}
    assert parse_rates("alexa=0.5, computer=2", KEYWORDS) == {"alexa": 0.5, "computer": 2.0}
    assert parse_rates("alexa=0.5,3", KEYWORDS) == {"alexa": 0.5, "computer": 3.0}


@pytest.mark.parametrize("text", ["", "few", "0", "-1", "nan", "inf", "alexa=", "alexa=0", "1,"])
def test_what_is_no_rate_is_refused(text):
    with pytest.raises(ConfigError, match="is no number of false accepts per day"):
        parse_rates(text, KEYWORDS)


def test_detector_of_a_strict_rate_hears_less(toy_folder, notes, tmp_path):
    """The same audio: at a threshold that no score of the curve's strict end reaches, nothing is heard."""
    folder = Path(shutil.copytree(toy_folder, tmp_path / "notes"))
    curve = (OperatingPoint(0.999999, 0.001, 1.0), CURVE[2])
    measured = dataclasses.replace(
        read_manifest(folder), operating_curve=dict.fromkeys(("low note", "high note"), curve)
    )
    write_manifest(measured, folder / MANIFEST_FILE)
    model = kws.load_model(folder)
    scores = model.stream().feed(notes)
    heard = [kws.Detector.for_model(model, rate).feed(scores) for rate in (2.4, 0.024)]
    assert [[d.keyword for d in detections] for detections in heard] == [["low note", "high note"], []]
    only_one = kws.Detector.for_model(model, {"low note": 0.024}).feed(scores)
    assert [d.keyword for d in only_one] == ["high note"]


# The tail, on peaks whose distribution is known.


def exponential_peaks(rng, per_hour, hours, anchor, scale):
    """Peaks of a Poisson process above the logit `anchor`, with exponential heights."""
    count = rng.poisson(per_hour * hours)
    return [from_logit(z) for z in anchor + scale * rng.exponential(size=count)]


def test_tail_finds_rates_that_the_hours_cannot_show():
    """Ten hours of a known law: the threshold for one a day is nearly that of the law.

    50 peaks an hour above logit -1, scale 0.8: once a day is at -1 + 0.8 ln(50 * 24) = 4.672.
    """
    found = [
        logit(Tail.fit(exponential_peaks(np.random.default_rng(seed), 50, 10, -1, 0.8), 10).threshold(1 / 24))
        for seed in range(200)
    ]
    truth = -1 + 0.8 * math.log(50 * 24)
    # Each answer is uncertain by scale * sqrt((1 + ln(30 / (10 / 24))^2) / 30) = 0.64.
    assert np.mean(found) == pytest.approx(truth, abs=0.15)
    assert np.std(found) == pytest.approx(0.64, rel=0.2)


def test_interval_of_the_tail_holds_the_true_rate_as_often_as_it_says():
    held = 0
    for seed in range(400):
        peaks = exponential_peaks(np.random.default_rng(seed), 50, 10, -1, 0.8)
        tail = Tail.fit(peaks, 10)
        true_rate = 50 * math.exp(-(logit(tail.threshold(1 / 24)) + 1) / 0.8)
        low, high = tail.interval(1 / 24)
        held += low <= true_rate <= high
    assert 0.9 < held / 400 < 0.99


def test_tail_of_hand_counted_peaks():
    """Logits 5, 4, 3, 2, 1, 0: the scale is the mean of the five highest over the sixth, 3; k is 5."""
    tail = Tail.fit([from_logit(z) for z in (0, 3, 1, 5, 2, 4)], hours=10.0)
    assert (tail.anchor, tail.peaks) == (pytest.approx(0), 5)
    assert tail.scale == pytest.approx(3)
    assert tail.threshold(0.5) == pytest.approx(0.5)  # five in ten hours exceed the anchor
    assert logit(tail.threshold(0.5 / math.e)) == pytest.approx(3)
    low, high = tail.interval(0.5)
    assert low * high == pytest.approx(0.25)
    assert math.log(high / 0.5) == pytest.approx(1.96 / math.sqrt(5), rel=1e-3)


def test_too_few_or_equal_peaks_give_no_line():
    assert Tail.fit([0.1, 0.2, 0.3, 0.4, 0.5], 1.0) is None
    assert Tail.fit([0.5] * 50, 1.0) is None


def test_curve_is_monotone_smooth_and_marks_what_was_not_seen():
    rng = np.random.default_rng(3)
    peaks = exponential_peaks(rng, 40, 4, -2, 1.0)
    scores = rng.beta(8, 1, 100)
    points = operating_curve(peaks, 4.0, scores.tolist(), np.full(100, 0.01))
    rates = [p.false_accepts_per_hour for p in points]
    thresholds = [p.threshold for p in points]
    assert rates == sorted(rates)
    assert thresholds == sorted(thresholds, reverse=True)
    assert [p.is_extrapolated for p in points] == [rate * 4 < 0.999 for rate in rates]
    assert 0.25 in rates
    assert all(p.low_per_hour <= p.false_accepts_per_hour <= p.high_per_hour for p in points)
    # Where the line ends, counting goes on from the same place.
    counted = [np.count_nonzero(np.array(peaks) >= t) / 4 for t in thresholds]
    assert all(
        c == pytest.approx(r, rel=0.02) for c, r in zip(counted, rates, strict=True) if r * 4 > TAIL_PEAKS
    )
    misses = [p.false_reject_rate for p in points]
    assert misses == [pytest.approx(np.mean(scores < t), abs=0.0051) for t in thresholds]


def test_curve_of_a_quiet_word_promises_only_what_was_heard():
    """Two peaks in ten hours: no line. Anything rarer than one in ten hours gets the threshold above both."""
    points = operating_curve([0.9, 0.3], 10.0, [0.5], np.ones(1))
    rare = [p for p in points if p.is_extrapolated]
    assert [p.threshold for p in rare] == pytest.approx([0.900001] * len(rare), abs=2e-6)
    assert {(p.low_per_hour, p.high_per_hour) for p in rare} == {(0.0, 0.3689)}
