"""Percentiles of durations: near the true ones, and forgotten after five minutes where they should be."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kws.daemon.latency import Histogram, Latency

durations_ms = st.lists(st.floats(0.01, 5000), min_size=1, max_size=300)


@given(durations_ms)
def test_percentiles_are_within_four_percent(values):
    histogram = Histogram()
    for ms in values:
        histogram.add(ms)
    found = histogram.summary()
    for p in (50, 95, 99):
        true = np.percentile(values, p, method="inverted_cdf")
        assert found[f"p{p}"] == pytest.approx(true, rel=0.04, abs=0.001)
    assert found["max"] == pytest.approx(max(values), abs=0.001)
    assert found["n"] == len(values)
    assert found["p50"] <= found["p95"] <= found["p99"] <= found["max"]


def test_durations_beyond_both_ends_are_counted():
    histogram = Histogram()
    for ms in (0.0, 1e-9, 60_000.0):
        histogram.add(ms)
    assert histogram.summary()["n"] == 3
    assert histogram.summary()["max"] == 60_000.0
    assert histogram.summary()["p50"] <= 0.01


def test_no_duration_has_no_percentiles():
    assert Latency().recent(0.0) == {"p50": None, "p95": None, "p99": None, "max": None, "n": 0}


def test_recent_forgets_after_five_minutes_and_the_rest_never_does():
    latency = Latency()
    for second in range(0, 1200, 10):  # six a minute: 1 ms for ten minutes, then 8 ms for ten
        latency.add(1.0 if second < 600 else 8.0, 5000.0 + second)
    now_s = 5000.0 + 1199
    assert latency.recent(now_s)["p50"] == pytest.approx(8, rel=0.04)
    assert 4 * 6 <= latency.recent(now_s)["n"] <= 5 * 6
    assert latency.recent(now_s + 3600)["n"] == 0
    whole = latency.since_start()
    assert (whole["n"], whole["max"]) == (120, 8.0)
    assert whole["p50"] == pytest.approx(1, rel=0.04)
