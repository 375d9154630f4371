"""A classifier on the toy corpus, as a user makes it: train, export, evaluate, classify."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import soundfile
import yaml
from conftest import RATE_HZ
from test_train_smoke import RECIPE, clips, program, rows

from kws.corpus import COLUMNS
from kws.manifest import read_manifest

pytest.importorskip("torch", reason="needs the train extra")
pytestmark = pytest.mark.train

LABELS = ["sweep up", "_unknown_", "_silence_"]
CLASSIFIER: dict[str, Any] = RECIPE | {
    "name": "sweeps",
    "keywords": LABELS[:2],
    "data": {
        "window_frames": 140,
        "positives": 512,
        "negatives": 512,
        "negative_shares": {"words": 0.5, "ambient": 0.5},
    },
    "augmentation": RECIPE["augmentation"] | {"cut_probability": 0.5, "time_masks": 0, "mel_masks": 0},
    "training": {
        "steps": 200,
        "positives_per_batch": 24,
        "negatives_per_batch": 40,
        "learning_rate": 0.006,
        "average_decay": 0.95,
        "validate_every_steps": 100,
        "smoothing_steps": 4,
    },
    "quantisation": {"steps": 60, "calibration_windows": 128},
}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the corpus, a finished run and the exported, evaluated model."""
    work = tmp_path_factory.mktemp("classifier")
    lines = []
    for path, label, kind, speaker, split, samples in clips():
        (work / "corpus" / path).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(work / "corpus" / path, samples, RATE_HZ)
        seconds = f"{len(samples) / RATE_HZ:.3f}"
        lines.append([path, label, kind, speaker, seconds, split, "", "CC0-1.0", "", "", ""])
    with (work / "corpus" / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *lines])
    (work / "recipe.yaml").write_text(yaml.safe_dump(CLASSIFIER))
    evaluate = ("evaluate", "--model", "models/sweeps", "--data", "corpus")
    for command in (
        ("train", "recipe.yaml", "--data", "corpus", "--run", "run"),
        ("export", "run", "--models", "models"),
        (*evaluate, "--float", "--update", "--out", "report"),
    ):
        done = program(*command, cwd=work)
        assert done.returncode == 0, done.stderr
    return work


@pytest.fixture(scope="module")
def report(work: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((work / "report/results.json").read_text())
    return loaded


def test_dev_clips_get_their_labels(report: dict[str, Any]) -> None:
    assert report["labels"] == LABELS
    assert [f["clips"] for f in report["networks"]["int8"]["recall"].values()] == [12, 12, 12]
    assert report["networks"]["int8"]["accuracy"]["all"]["share"] > 0.9
    assert report["networks"]["float"]["accuracy"]["all"]["share"] > 0.9


def test_whole_clips_in_training_and_the_integer_stream_are_labelled_alike(
    work: Path, report: dict[str, Any]
) -> None:
    validated = [row for row in rows(work / "run") if row["phase"] == "qat"][-1]["false_reject_rate"]
    streamed = {k: 1 - f["share"] for k, f in report["networks"]["int8"]["recall"].items()}
    assert streamed == pytest.approx(validated)


def test_classify_answers_as_the_evaluation_did(work: Path, report: dict[str, Any]) -> None:
    files = sorted((work / "corpus/words").glob("up_0_*.wav"))
    done = program("classify", "--model", "models/sweeps", "--json", *files, cwd=work)
    answers = {Path(line["file"]).name: line["label"] for line in map(json.loads, done.stdout.splitlines())}
    wrong = {Path(w["clip"]).name: w["answer"] for w in report["networks"]["int8"]["wrong"]}
    assert answers == {file.name: wrong.get(file.name, "sweep up") for file in files}


def test_model_knows_what_was_measured(work: Path, report: dict[str, Any]) -> None:
    manifest = read_manifest(work / "models/sweeps")
    accuracy = report["networks"]["int8"]["accuracy"]["all"]
    assert manifest.evaluation is not None
    assert manifest.evaluation["accuracy"]["int8"]["all"] == pytest.approx(accuracy["share"], abs=1e-4)
    assert set(manifest.detector.thresholds) == {"sweep up"}
    card = (work / "models/sweeps/CARD.md").read_text()
    assert f"{100 * accuracy['share']:.1f} % (" in card
    assert "| _silence_ | 12 |" in card
    assert (work / "report/confusion.svg").stat().st_size > 1000
    assert "heard as" in (work / "report/results.md").read_text() or accuracy["share"] == 1
