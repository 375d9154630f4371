"""`kws evaluate` of a classifier: one decision for each clip of a corpus, float beside INT8 if wanted."""

import argparse
import dataclasses
import datetime
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import kws
from kws import config
from kws.classifier import Classifier, decide
from kws.errors import AudioError
from kws.evaluate.card import SHIPPED
from kws.evaluate.clip_card import update_classifier
from kws.evaluate.clip_tables import clip_results, full_clip_report
from kws.evaluate.clips import Question, make_questions
from kws.evaluate.confusion import summarise
from kws.evaluate.playlist import Audio, EvaluationSettings, read_clips
from kws.evaluate.plot import plot_confusion
from kws.evaluate.report import commit
from kws.files import write_text
from kws.manifest import SILENCE, Manifest
from kws.model import Model
from kws.scores import Scores, averaged

Answer = Callable[[Audio], str]
"""Samples to a label."""


def run(
    options: argparse.Namespace,
    folder: Path,
    manifest: Manifest,
    settings: EvaluationSettings,
    float_logits: Callable[[Path], Callable[[Audio], Scores]],
) -> int:
    """Ask each network about every clip, then print, write and update what was asked for."""
    labels = (*manifest.keywords, SILENCE)
    clips = read_clips(options.data, manifest.words, settings)
    questions = make_questions(clips, manifest.words, settings)
    networks: dict[str, Answer] = {SHIPPED: _int8(folder)}
    if options.float:
        networks["float"] = _float(float_logits(folder), manifest, labels)
    answers = _ask(networks, questions, manifest.features.sample_rate_hz)
    report = {
        "model": {"name": manifest.name} | _facts(manifest),
        "kws": kws.__version__,
        "commit": commit(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "split": settings.split,
        "settings": config.dump(settings),
        "labels": list(labels),
        "networks": {name: summarise(questions, answers[name], labels) for name in networks},
    }
    if options.out:
        out: Path = options.out
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / "results.json", json.dumps(report, indent=1) + "\n")
        write_text(out / "results.md", full_clip_report(report))
        title = f"{manifest.name}, {settings.split} split"
        plot_confusion(report["networks"][SHIPPED]["confusion"], labels, out / "confusion.svg", title)
    if options.update:
        update_classifier(folder, report)
    print(json.dumps(report) if options.json else clip_results(report))
    return 0


def _ask(
    networks: dict[str, Answer], questions: Sequence[Question], rate_hz: int
) -> dict[str, list[str | None]]:
    """Every network's label of every clip, None where it cannot be read."""
    answers: dict[str, list[str | None]] = {name: [] for name in networks}
    for number, question in enumerate(questions, start=1):
        try:
            samples = question.samples(rate_hz)
        except AudioError:
            samples = None
        for name, answer in networks.items():
            answers[name].append(None if samples is None else answer(samples))
        if sys.stderr.isatty():
            end = "\n" if number == len(questions) else ""
            print(f"\rclassified {number} of {len(questions)}", end=end, file=sys.stderr, flush=True)
    return answers


def _int8(folder: Path) -> Answer:
    classifier = Classifier(Model(folder))
    return lambda samples: classifier.classify([samples]).label


def _float(logits: Callable[[Audio], Scores], manifest: Manifest, labels: tuple[str, ...]) -> Answer:
    steps = manifest.detector.smoothing_steps
    return lambda samples: decide(averaged(logits(samples), steps).max(axis=0), labels).label


def _facts(manifest: Manifest) -> dict[str, Any]:
    model = dataclasses.asdict(manifest.model)
    return {name: model[name] for name in ("sha256", "parameters", "bytes")}
