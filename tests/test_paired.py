"""Two models compared on the same trials: differences counted by hand, and luck told from skill."""

from pathlib import Path

import numpy as np
import pytest
from test_folds import clip

from kws.errors import DataError
from kws.evaluate.paired import compare
from kws.evaluate.playlist import EvaluationSettings
from kws.evaluate.stream import Record, Trial
from kws.evaluate.tables import paired_table

SETTINGS = EvaluationSettings(false_accepts_per_hour=(0.5,), calibrated_at=0.5)
NOTHING = np.zeros(1, np.float32)


def record(*heard: tuple[str, str, bool], condition: str = "clean") -> Record:
    """(speaker, keyword, whether it was heard) of each trial; an hour of silence around them."""
    trials = [
        Trial(
            clip(number, speaker, keyword), keyword, condition, 0.9 if was_heard else 0.0, NOTHING, 0.0, 0.02
        )
        for number, (speaker, keyword, was_heard) in enumerate(heard)
    ]
    found = Record(trials=trials)
    found.ambient_seconds["speech"] = 3600.0
    return found


def test_difference_is_that_of_balanced_rates_and_trials_are_counted():
    """Ann says it twice: A misses one, B none. Bob once: both miss. Of A 0.75, of B 0.5 is missed."""
    a = record(("ann", "alexa", False), ("ann", "alexa", True), ("bob", "alexa", False))
    b = record(("ann", "alexa", True), ("ann", "alexa", True), ("bob", "alexa", False))
    row, mean = compare(a, b, ("alexa",), SETTINGS)
    assert (row["a"], row["b"], row["difference"]) == (0.75, 0.5, 0.25)
    assert (row["only_a"], row["only_b"]) == (1, 0)
    # Draws of two speakers with replacement: Ann twice 0.5, Bob twice 0.
    assert (row["low"], row["high"]) == (0.0, 0.5)
    assert mean["keyword"] == "mean"
    assert mean["difference"] == 0.25


def test_mean_is_over_keywords_and_a_gain_of_many_speakers_is_no_luck():
    people = [f"p{n}" for n in range(20)]
    a = record(*((p, k, True) for k in ("alexa", "jarvis") for p in people))
    b = record(*((p, k, k == "jarvis" or int(p[1:]) % 2 == 0) for k in ("alexa", "jarvis") for p in people))
    alexa, jarvis, mean = compare(a, b, ("alexa", "jarvis"), SETTINGS)
    assert alexa["difference"] == pytest.approx(-0.5)
    assert alexa["high"] < 0
    assert (jarvis["difference"], jarvis["low"], jarvis["high"]) == (0, 0, 0)
    assert mean["difference"] == pytest.approx(-0.25)
    assert alexa["low"] < mean["low"] < mean["difference"] < mean["high"] < 0
    table = paired_table([alexa, jarvis], "new", "old").splitlines()
    assert table[2].endswith("| new misses less |")
    assert table[3].endswith("| may be luck |")


def test_records_of_other_recordings_are_not_compared():
    a, b = record(("ann", "alexa", True)), record(("ann", "alexa", True), condition="10 dB")
    with pytest.raises(DataError, match="did not hear the same recordings"):
        compare(a, b, ("alexa",), SETTINGS)
    assert Path(a.trials[0].clip.path).name == "0.wav"
