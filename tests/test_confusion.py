"""Accuracy, recall and confusion of hand-made answers; and which clips of a corpus are asked."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import RATE_HZ

from kws.corpus import COLUMNS, Clip, read_corpus
from kws.errors import DataError
from kws.evaluate.clips import Question, make_questions
from kws.evaluate.confusion import summarise
from kws.evaluate.playlist import EvaluationSettings
from kws.manifest import SILENCE, UNKNOWN

LABELS = ("yes", "on", UNKNOWN, SILENCE)
CLIP = Clip(Path("a.wav"), "gsc", "yes", "keyword", "s", 1.0, "dev", "en", "", None, None, "")


def question(label: str, kind: str = "keyword") -> Question:
    return Question(replace(CLIP, label=label, kind=kind), label)


def test_figures_are_counted_with_and_without_words_that_only_synthesizers_say() -> None:
    questions = [question("yes"), question("yes"), question("on", "synthetic"), question(SILENCE, "noise")]
    summary = summarise(questions, ["yes", "on", UNKNOWN, SILENCE], LABELS)
    assert summary["scarce"] == ["on"]
    shares = {group: (f["correct"], f["clips"]) for group, f in summary["accuracy"].items()}
    assert shares == {"recorded": (2, 3), "all": (2, 4)}
    assert summary["confusion"] == [[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1]]
    assert summary["recall"]["yes"]["share"] == 0.5
    assert [(w["label"], w["answer"]) for w in summary["wrong"]] == [("yes", "on"), ("on", UNKNOWN)]


def test_interval_is_wilsons() -> None:
    figures = summarise([question("yes")] * 10, ["yes"] * 9 + [SILENCE], LABELS)["accuracy"]["all"]
    assert (figures["low"], figures["high"]) == pytest.approx((0.5958, 0.9821), abs=1e-4)


def test_clip_that_cannot_be_read_counts_nowhere() -> None:
    summary = summarise([question("yes"), question("yes")], ["yes", None], LABELS)
    assert summary["accuracy"]["all"]["clips"] == 1
    assert len(summary["unreadable"]) == 1


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Twelve real "yes" and "no", one "on" and three synthetic ones, other words, and two noises."""
    rows = [("gsc", word, "keyword", f"{word}{i}") for word in ("yes", "no") for i in range(12)]
    rows += [("gsc", "on", "keyword", "on0"), ("gsc", "yesterday", "keyword", "long")]
    rows += [("tts", "on", "synthetic", f"on{i}") for i in range(3)]
    rows += [("tts", "yes", "synthetic", "yes")]
    rows += [("gsc", "bird", "keyword", f"bird{i}") for i in range(20)]
    rows += [("wwb", "alexa", "keyword", "alexa"), ("hum", "", "noise", "hum"), ("band", "", "music", "band")]
    lines = []
    for source, label, kind, name in rows:
        path = tmp_path / source / f"{name}.wav"
        path.parent.mkdir(exist_ok=True)
        seconds = 5.0 if kind in ("noise", "music") else 2.0 if name == "long" else 1.0
        soundfile.write(path, np.zeros(round(seconds * RATE_HZ)), RATE_HZ)
        lines.append([f"{source}/{name}.wav", label, kind, name, seconds, "dev", "en", "CC0-1.0", "", "", ""])
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *lines])
    return tmp_path


def test_unknown_and_silence_are_asked_as_often_as_a_word(corpus: Path) -> None:
    questions = make_questions(read_corpus(corpus), ("yes", "no", "on"), EvaluationSettings())
    asked = {
        label: [q for q in questions if q.label == label] for label in ("yes", "no", "on", UNKNOWN, SILENCE)
    }
    # "yes" has enough recordings to leave its synthetic one out; "on" does not pull the mean of a word down.
    assert {label: len(those) for label, those in asked.items()} == {
        "yes": 12, "no": 12, "on": 4, UNKNOWN: 12, SILENCE: 12,
    }  # fmt: skip
    assert {q.clip.label for q in asked[UNKNOWN]} == {"bird"}  # not of other sources, not longer than a word
    assert {q.clip.source for q in asked[SILENCE]} == {"hum", "band"}
    assert all(len(q.samples(RATE_HZ)) == RATE_HZ for q in asked[SILENCE])
    assert questions == make_questions(read_corpus(corpus), ("yes", "no", "on"), EvaluationSettings())


def test_word_that_nobody_says_is_named(corpus: Path) -> None:
    with pytest.raises(DataError, match="maybe"):
        make_questions(read_corpus(corpus), ("yes", "maybe"), EvaluationSettings())
