"""Two processes train the network that one trains: torchrun with gloo, on the toy corpus of noises."""

import itertools
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml
from conftest import RATE_HZ, noise_band, program_environment, quiet
from numpy.typing import NDArray

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from kws.corpus import COLUMNS  # noqa: E402
from kws.train.processes import Processes  # noqa: E402

pytestmark = [
    pytest.mark.train,
    pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs torch with gloo"),
]
RECIPE: dict[str, Any] = {
    "name": "two",
    "keywords": ["low", "high"],
    "features": {"n_mels": 16},
    "network": {"channels": 8, "kernel": 3, "dilations": [1, 2], "stem_kernel": 3, "dropout": 0.0},
    "data": {"window_frames": 100, "positives": 256, "negatives": 256},
    "augmentation": {"simulated_rooms": 0},
    "training": {
        "steps": 12,
        "positives_per_batch": 31,  # odd: one process has a row more
        "negatives_per_batch": 64,
        "learning_rate": 0.01,
        "average_decay": 0.5,
        "validate_every_steps": 6,
    },
    "quantisation": {"steps": 8, "calibration_windows": 64},
}
ALONE = (sys.executable, "-m", "kws")
TOGETHER = (
    sys.executable,
    "-m",
    "torch.distributed.run",
    "--standalone",
    "--nproc-per-node=2",
    "-m",
    "--",
    "kws",
)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a corpus, a recipe, and a run of one process in `alone`."""
    work = tmp_path_factory.mktemp("work")
    rows = [",".join(COLUMNS)]
    bands = {"low": (100, 1600), "high": (2200, 7500), "talk": (1000, 3000)}
    for split, (label, band), take in itertools.product(("train", "dev"), bands.items(), range(4)):
        samples = np.concatenate([quiet(0.3), noise_band(*band, 0.5, take), quiet(0.3)])
        path = f"words/{split}_{label}_{take}.wav"
        if label == "talk":
            rows.append(row(work, path, np.tile(samples, 4), "speech"))
        else:
            rows.append(row(work, path, samples, "keyword", label))
    rows += [row(work, f"hum/{split}_.wav", quiet(5), "noise") for split in ("train", "dev")]
    (work / "manifest.csv").write_text("\n".join(rows) + "\n")
    (work / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    train(work, ALONE, "alone")
    return work


def row(folder: Path, path: str, samples: NDArray[np.float32], kind: str, label: str = "") -> str:
    """Write a clip; its row of the manifest. Its name begins with its split."""
    (folder / path).parent.mkdir(exist_ok=True)
    soundfile.write(folder / path, samples, RATE_HZ)
    split = Path(path).name.partition("_")[0]
    return f"{path},{label},{kind},{split},{len(samples) / RATE_HZ:.3f},{split},,CC0-1.0,,,"


def start(work: Path, program: tuple[str, ...], run: str, *options: str) -> subprocess.Popen[str]:
    command = [*program, "train", "recipe.yaml", "--data", ".", "--run", run, *options]
    environment = program_environment(work) | {
        "KWS_CACHE": str(work / "cache"),
        "PYTHONWARNINGS": "default",
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen(
        command, cwd=work, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def train(work: Path, program: tuple[str, ...], run: str, *options: str) -> str:
    """Standard output of a run that must end well."""
    process = start(work, program, run, *options)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return out


def rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]


def test_two_processes_train_what_one_trains(work: Path) -> None:
    out = train(work, TOGETHER, "together")
    one, two = rows(work / "alone"), rows(work / "together")
    assert [(r["phase"], r["step"]) for r in two] == [
        ("float", 6),
        ("float", 12),
        ("float", 12),  # the mean of both
        ("qat", 6),
        ("qat", 8),
        ("qat", 8),
    ]
    assert out.count("kept:") == out.count("qat 8/8  loss") == 1  # one of them speaks
    files = sorted(path.name for path in (work / "together").iterdir())
    assert files == sorted(path.name for path in (work / "alone").iterdir())
    for mine, other in zip(one, two, strict=True):  # batch norms see other rows, hence not the same
        assert mine["loss"] == pytest.approx(other["loss"], rel=0.1)


def test_fine_tuning_is_the_same_with_any_number_of_processes(work: Path) -> None:
    """It has no batch norm: rows, gathered losses and gradients of the processes add up to those of one."""
    only = (
        "--set",
        "start=alone",
        "training.steps=0",
        "training.validate_every_steps=1",
        "training.averaged_checkpoints=1",
    )
    train(work, ALONE, "tuned-alone", *only)
    train(work, TOGETHER, "tuned-together", *only)
    one, two = rows(work / "tuned-alone"), rows(work / "tuned-together")
    assert len(one) == 1 + 8
    assert one[0]["loss"] is None
    assert [r["loss"] for r in two[1:]] == pytest.approx([r["loss"] for r in one[1:]], rel=2e-3)
    mined = [
        torch.load(work / run / "checkpoint.pt", weights_only=True)["batches"]["loss"]
        for run in ("tuned-alone", "tuned-together")
    ]
    assert torch.allclose(*mined, rtol=0.02, atol=1e-3)
    assert (mined[0] > 0).sum() > 128  # of 256 negatives, so both processes' rows are remembered


def test_stopped_processes_go_on_with_the_same_steps(work: Path) -> None:
    longer = (
        "--set",
        "training.steps=150",
        "training.validate_every_steps=25",
        "training.averaged_checkpoints=1",
    )
    process = start(work, TOGETHER, "again", *longer)
    end = time.monotonic() + 400
    while not (work / "again/history.jsonl").exists() and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    stopped = torch.load(work / "again/checkpoint.pt", weights_only=True)
    assert 25 <= stopped["learner"]["step"] < 150
    before = rows(work / "again")
    train(work, TOGETHER, "again", *longer, "--resume")
    after = rows(work / "again")
    assert after[: len(before)] == before
    assert [(r["phase"], r["step"]) for r in after] == [
        *(("float", step) for step in range(25, 151, 25)),
        ("qat", 8),
    ]


def test_shares_of_the_processes_are_every_row_once() -> None:
    numbers = list(range(11))
    shares = [numbers[Processes(rank, 3).share] for rank in range(3)]
    assert sorted(itertools.chain(*shares)) == numbers
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_process_alone_asks_nobody() -> None:
    alone = Processes()
    part = torch.arange(3.0)
    assert alone.gather(part, 3) is part
    assert (alone.any(True), alone.any(False), alone.told("x")) == (True, False, "x")
