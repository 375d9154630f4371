"""What a gate costs, counted by hand, and that a gated listener's scores keep their place in time."""

import numpy as np
import pytest
from conftest import RATE_HZ, quiet
from test_folds import clip

from kws.evaluate.gating import gate_costs, gate_tables, gated_listener
from kws.evaluate.playlist import EvaluationSettings
from kws.evaluate.stream import AmbientPeak, Record, Trial, int8_listener
from kws.gate import GateSettings

SETTINGS = EvaluationSettings(false_accepts_per_hour=(0.5,), calibrated_at=0.5)
GATE = GateSettings(background_seconds=3.0)


def record(skipped_s, peaks, *heard):
    """(speaker, condition, score) of each trial; two hours of speech in which scores had these peaks."""
    trials = [
        Trial(clip(number, speaker, "alexa"), "alexa", condition, score, np.zeros(1, np.float32), 0.0, 0.02)
        for number, (speaker, condition, score) in enumerate(heard)
    ]
    found = Record(trials, peaks=[AmbientPeak(clip(99, "", ""), "alexa", 1.0, score) for score in peaks])
    found.ambient_seconds["speech"], found.skipped_seconds["speech"] = 7200.0, skipped_s
    return found


def test_lost_and_gained_words_are_counted_at_the_thresholds_of_the_ungated_model():
    """One false accept is allowed, so the threshold is just above 0.6, the second peak."""
    who = [("ann", "clean"), ("ann", "clean"), ("bob", "clean"), ("bob", "0 dB")]
    before, after = [0.7, 0.7, 0.5, 0.7], [0.7, 0.0, 0.8, 0.7]
    without = record(0.0, [0.9, 0.6], *[(*who[i], before[i]) for i in range(4)])
    gated = record(1800.0, [0.9, 0.7, 0.3], *[(*who[i], after[i]) for i in range(4)])
    costs = gate_costs(without, gated, ("alexa",), SETTINGS)
    clean, noisy = costs["misses"]
    assert (clean["trials"], clean["lost"], clean["gained"]) == (3, 1, 1)
    assert (clean["without"], clean["gated"], clean["difference"]) == (0.5, 0.25, -0.25)
    assert (noisy["lost"], noisy["gained"], noisy["difference"]) == (0, 0, 0.0)
    assert costs["false_accepts"] == {"alexa": {"without": 1, "gated": 2}}
    assert costs["skipped"] == {"all": 0.25, "speech": 0.25}
    table = gate_tables(costs)
    assert "| as recorded | clean | 3 | 50.00 % | 25.00 % | -25.00 | 1 | 1 |" in table
    assert "| speech | 25.0 % |" in table


def test_gated_scores_keep_their_place(toy_folder, notes):
    track = np.concatenate([quiet(3.0, 1), notes, quiet(6.0, 2), notes, quiet(4.0, 3)])
    whole = int8_listener(str(toy_folder))(track)
    listen = gated_listener(str(toy_folder), GATE, SETTINGS)
    gated = listen(track)
    is_heard = gated.any(axis=1)
    assert len(gated) >= len(track) // 320
    assert 0.1 < is_heard.mean() < 0.7
    rows = np.flatnonzero(whole.max(axis=1)[: len(gated)] > 0.5)
    assert is_heard[rows].all()
    assert gated[rows] == pytest.approx(whole[rows], abs=0.02)
    first_note_s = (rows[0] * 320 + 560) / RATE_HZ
    assert first_note_s == pytest.approx(4.2, abs=0.2)
    assert np.array_equal(listen(track), gated)
