"""The whole path on a toy corpus, as a user runs it: train, export, evaluate, detect; then resume and refuse.

The keyword is a rising sweep, everything else is falling sweeps, noise and hum. It is learned in a minute.
"""

import csv
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml
from conftest import RATE_HZ, program_environment, quiet
from numpy.typing import NDArray

from kws.corpus import COLUMNS
from kws.manifest import read_manifest

torch = pytest.importorskip("torch", reason="needs the train extra")
onnx = pytest.importorskip("onnx")
from onnx import numpy_helper  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

pytestmark = pytest.mark.train

RECIPE = {
    "name": "sweep",
    "keywords": ["sweep up"],
    "features": {"n_mels": 24, "gain": {"frames": 32}},
    "network": {"channels": 16, "kernel": 3, "dilations": [1, 2, 4], "stem_kernel": 3},
    "data": {"window_frames": 100, "positives": 1024, "negatives": 1024, "context_share": 0.1},
    "augmentation": {"simulated_rooms": 2, "snr_db": [5, 25], "level_db": [-30, -10]},
    "training": {
        "steps": 160,
        "positives_per_batch": 32,
        "negatives_per_batch": 64,
        "learning_rate": 0.01,
        "average_decay": 0.95,
        "validate_every_steps": 80,
        "mining_rounds": 1,
        "mined_windows": 256,
    },
    "quantisation": {"steps": 40, "calibration_windows": 128},
}


def sweep(rising: bool, speaker: int, take: int) -> NDArray[np.float32]:
    """Half a second from one frequency to another, each speaker at a pitch of its own."""
    rng = np.random.default_rng([speaker, take])
    low = 300 + 40 * speaker + rng.uniform(-20, 20)
    hz = np.linspace(low, 6 * low, RATE_HZ // 2)
    wave = 0.3 * np.sin(2 * np.pi * np.cumsum(hz if rising else hz[::-1]) / RATE_HZ)
    return np.concatenate([quiet(0.3), wave.astype(np.float32), quiet(0.3)])


def clips() -> Iterator[tuple[str, str, str, str, str, NDArray[np.float32]]]:
    """Path, label, kind, speaker, split, samples."""
    for speaker in range(12):
        split = "dev" if speaker % 3 == 0 else "train"
        for take in range(3):
            name = f"words/{{}}_{speaker}_{take}.wav"
            up, down = sweep(True, speaker, take), sweep(False, speaker, take)
            yield name.format("up"), "sweep up", "keyword", f"s{speaker}", split, up
            yield name.format("down"), "sweep down", "keyword", f"s{speaker}", split, down
            talk = np.concatenate([down, sweep(False, speaker + 1, take)[::2], down])
            yield f"talk/{speaker}_{take}.wav", "", "speech", f"s{speaker}", split, talk
    for split in ("train", "dev"):
        rumble = 0.05 * np.random.default_rng(len(split)).standard_normal(20 * RATE_HZ).astype(np.float32)
        yield f"hum/{split}.wav", "", "noise", "", split, rumble


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    rows = []
    for path, label, kind, speaker, split, samples in clips():
        (folder / path).parent.mkdir(exist_ok=True)
        soundfile.write(folder / path, samples, RATE_HZ)
        seconds = f"{len(samples) / RATE_HZ:.3f}"
        rows.append([path, label, kind, speaker, seconds, split, "", "CC0-1.0", "", "", ""])
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    return folder


def program(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run `kws` with its cache in `cwd`."""
    environment = program_environment(cwd) | {"KWS_CACHE": str(cwd / "cache"), "PYTHONWARNINGS": "default"}
    return subprocess.run(
        [sys.executable, "-m", "kws", *map(str, arguments)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def rows(run: Path) -> list[dict[str, Any]]:
    """The validations of a run."""
    return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def work(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with recipe.yaml, a finished run and the exported, evaluated model."""
    work = tmp_path_factory.mktemp("work")
    (work / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    for command in (
        ("train", "recipe.yaml", "--data", corpus, "--run", "run"),
        ("export", "run", "--models", "models"),
        ("evaluate", "--model", "models/sweep", "--data", corpus, "--float", "--update", "--out", "report"),
    ):
        done = program(*command, cwd=work)
        assert done.returncode == 0, done.stderr
    return work


def test_trained_model_hears_the_keyword_and_nothing_else(work: Path, corpus: Path) -> None:
    files = sorted((corpus / "words").glob("*_0_*.wav"))  # a dev speaker
    done = program("detect", "--model", work / "models/sweep", "--json", *files, cwd=work)
    heard = {
        Path(line["file"]).name: line["max"]["sweep up"] for line in map(json.loads, done.stdout.splitlines())
    }
    up, down = ([s for name, s in heard.items() if name.startswith(word)] for word in ("up", "down"))
    assert min(up) > max(down)


def test_manifest_tells_where_the_model_comes_from(work: Path) -> None:
    manifest = read_manifest(work / "models/sweep")
    assert [s.name for s in manifest.training.sources] == ["hum", "talk", "words"]
    assert {s.licence for s in manifest.training.sources} == {"CC0-1.0"}
    assert manifest.training.minutes is not None
    assert manifest.training.minutes > 0
    effort = f"It took {manifest.training.minutes:.0f} minutes on {manifest.training.machine}."
    assert effort in (work / "models/sweep/CARD.md").read_text()
    assert manifest.operating_curve["sweep up"]
    assert 0 < manifest.detector.thresholds["sweep up"] <= 1


def test_report_holds_float_beside_int8(work: Path) -> None:
    report = json.loads((work / "report/results.json").read_text())
    assert "float" in json.dumps(list(report["networks"]))
    assert (work / "report/det.svg").stat().st_size > 1000
    assert "sweep up" in (work / "report/results.md").read_text()


def test_history_has_a_line_for_each_network_that_was_validated(work: Path) -> None:
    assert [(r["phase"], r["step"], r["checkpoints"]) for r in rows(work / "run")] == [
        ("float", 80, 1),
        ("float", 160, 1),
        ("float", 160, 2),  # the mean of both
        ("qat", 40, 1),
    ]
    assert (work / "run/history.png").stat().st_size > 1000


def test_interrupted_run_goes_on_as_if_nothing_had_happened(work: Path, corpus: Path) -> None:
    arguments = ["train", "recipe.yaml", "--data", str(corpus), "--run", "again", "--resume"]
    process = subprocess.Popen(
        [sys.executable, "-m", "kws", *arguments],
        cwd=work,
        env=program_environment(work) | {"KWS_CACHE": str(work / "cache"), "PYTHONWARNINGS": "default"},
    )
    end = time.monotonic() + 300
    while not (work / "again/checkpoint.pt").exists() and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 130
    assert len(rows(work / "again")) < 4
    done = program(*arguments, cwd=work)
    assert done.returncode == 0, done.stderr
    straight, resumed = (
        [(r["phase"], r["step"], r["loss"], r["objective"]) for r in rows(work / run)]
        for run in ("run", "again")
    )
    assert resumed == straight


def test_ablation_starts_from_the_float_network_and_only_calibrates(work: Path, corpus: Path) -> None:
    kept = ("start=run", "training.steps=0", "quantisation.steps=0", "quantisation.weight_bits=4")
    done = program("train", "recipe.yaml", "--data", corpus, "--run", "ptq", "--set", *kept, cwd=work)
    assert done.returncode == 0, done.stderr
    assert [(r["phase"], r["step"], r["loss"]) for r in rows(work / "ptq")] == [
        ("float", 0, None),
        ("qat", 0, None),
    ]
    best = min(r["objective"] for r in rows(work / "run") if r["phase"] == "float")
    assert rows(work / "ptq")[0]["objective"] == best
    weights, copy = (load_file(work / run / "float.safetensors") for run in ("run", "ptq"))
    assert all(torch.equal(copy[name], tensor) for name, tensor in weights.items())
    done = program("export", "ptq", "--models", "ablation", cwd=work)
    assert done.returncode == 0, done.stderr
    graph = onnx.load(work / "ablation/sweep/model.onnx").graph
    codes = [numpy_helper.to_array(c) for c in graph.initializer if c.name.endswith(".weight")]
    assert {int(np.abs(c).max()) for c in codes} == {7}
    assert {c.dtype for c in codes} == {np.dtype(np.int8)}
    assert not list((work / "ptq").glob("mined-*"))  # for nothing that learns


def test_fine_tuning_alone_learns_from_mined_windows_too(work: Path, corpus: Path) -> None:
    kept = ("start=run", "training.steps=0", "quantisation.steps=2", "seed=3")
    done = program("train", "recipe.yaml", "--data", corpus, "--run", "tuned", "--set", *kept, cwd=work)
    assert done.returncode == 0, done.stderr
    saved = torch.load(work / "tuned/checkpoint.pt", weights_only=True)
    drawn, mined = RECIPE["data"]["negatives"], RECIPE["training"]["mined_windows"]
    assert saved["phase"] == "qat"
    assert len(saved["batches"]["loss"]) == drawn + mined


def test_finished_run_is_not_overwritten(work: Path, corpus: Path) -> None:
    done = program("train", "recipe.yaml", "--data", corpus, "--run", "run", cwd=work)
    assert done.returncode == 2
    assert "--resume" in done.stderr


def test_resuming_with_other_settings_is_refused(work: Path, corpus: Path) -> None:
    (work / "other.yaml").write_text(yaml.safe_dump({**RECIPE, "seed": 5}))
    arguments = ("train", "other.yaml", "--data", corpus, "--run", "run", "--resume")
    done = program(*arguments, cwd=work)
    assert done.returncode == 2
    assert "other settings" in done.stderr


def test_leaking_speaker_stops_training_before_it_starts(work: Path, corpus: Path) -> None:
    text = (corpus / "manifest.csv").read_text()
    leaky = work / "leaky"
    leaky.mkdir()
    for source in ("words", "talk", "hum"):
        (leaky / source).symlink_to(corpus / source)
    (leaky / "manifest.csv").write_text(text.replace(",s1,", ",s0,"))
    done = program("train", "recipe.yaml", "--data", leaky, "--run", "leak", cwd=work)
    assert done.returncode == 5
    assert "error: 2 speakers are in more than one split: words/s0, talk/s0" in done.stdout
    assert not (work / "leak").exists()


def test_start_that_is_not_there_stops_training_before_it_starts(work: Path, corpus: Path) -> None:
    arguments = ("train", "recipe.yaml", "--data", corpus, "--run", "later", "--set", "start=runs/gone")
    for done in (program(*arguments, cwd=work), program(*arguments, "--dry-run", cwd=work)):
        assert done.returncode == 3
        assert "start: there is no model 'runs/gone'" in done.stderr
        assert not (work / "later").exists()


def test_dry_run_writes_nothing(work: Path, corpus: Path) -> None:
    done = program("train", "recipe.yaml", "--data", corpus, "--run", "dry", "--dry-run", cwd=work)
    assert done.returncode == 0
    assert not (work / "dry").exists()
