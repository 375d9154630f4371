"""Bad recordings are found before training starts: each sort as a real file, in one list."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from conftest import RATE_HZ, noise_band, program_environment, quiet
from numpy.typing import NDArray

pytest.importorskip("torch", reason="needs the train extra")

from kws.commands.corpus import report
from kws.corpus import Problem, lacks, read_corpus, write_manifest
from kws.errors import DataError
from kws.manifest import UNKNOWN
from kws.train.library import Library
from kws.train.material import decode, heard_problems, read_material
from kws.train.recipe import Data, NetworkSettings, Recipe

pytestmark = pytest.mark.train
RECIPE = Recipe("low", ("low",), network=NetworkSettings(dilations=(1, 2)), data=Data(window_frames=240))
WORD = noise_band(100, 1600, 0.5)


def said(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.concatenate([quiet(0.3), samples, quiet(0.3)])


SOUND = {  # name: kind, label, samples
    "good_dev": ("keyword", "low", said(WORD)),
    "good_train": ("keyword", "low", said(WORD)),
    "talk_train": ("speech", "", said(np.tile(WORD, 4))),
    "tap_train": ("noise", "", quiet(3)),
    "tap_dev": ("noise", "", quiet(3)),
}
UNSOUND = {
    "silent_train": ("speech", "", 1e-4 * said(WORD)),
    "flat_train": ("keyword", "low", noise_band(100, 7000, 1.0)),
    "brief_train": ("keyword", "low", said(WORD[:800])),
    "long_train": ("keyword", "low", said(np.tile(WORD, 4))),
    "short_train": ("noise", "", quiet(0.2)),
    "length_dev": ("keyword", "low", said(WORD)),
    "broken_dev": ("keyword", "low", said(WORD)),
}


def corpus(folder: Path, clips: dict[str, tuple[str, str, NDArray[np.float32]]]) -> Path:
    """A corpus in which the name tells the split, and every clip is somebody else's."""
    rows = []
    (folder / "a").mkdir(parents=True)
    for name, (kind, label, samples) in clips.items():
        path = f"a/{name}.wav"
        soundfile.write(folder / path, samples, RATE_HZ)
        seconds = len(samples) / RATE_HZ + ("length" in name)
        fields = {"kind": kind, "label": label, "speaker": name, "split": name.split("_")[1]}
        rows.append({"path": path, "seconds": f"{seconds:.3f}", **fields})
        if "broken" in name:
            (folder / path).write_bytes(b"RIFF, but that is all")
    write_manifest(folder, rows)
    return folder


def program(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """`kws` with its cache in `folder`."""
    return subprocess.run(
        [sys.executable, "-m", "kws", *map(str, arguments)],
        cwd=folder,
        env=program_environment(folder) | {"KWS_CACHE": str(folder / "cache"), "PYTHONWARNINGS": "default"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture(scope="module")
def unsound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpus(tmp_path_factory.mktemp("unsound") / "corpus", SOUND | UNSOUND)


def test_each_sort_of_bad_recording_is_named_once(unsound: Path, tmp_path: Path) -> None:
    material = read_material(unsound, RECIPE)
    assert material.problems == []  # nothing of it can be seen in the manifest
    known, held_out, found = decode(material, RECIPE, tmp_path)
    names = {p.what.split(" than ")[0]: [Path(n.split(" ")[0]).stem for n in p.names] for p in found}
    assert names == {
        "files cannot be read": ["broken_dev"],
        "files are not as long as their manifest says": ["length_dev"],
        "spoken clips are silent": ["silent_train"],
        "keyword clips hold no word above their noise": ["flat_train"],
        "keywords sound for less": ["brief_train"],
        "keywords sound for more": ["long_train"],
        "noise clips are shorter": ["short_train"],
    }
    assert not any(problem.is_fatal for problem in found)
    assert "broken_dev" not in {clip.path.stem for clip in held_out.readable()}
    assert known.readable() == known.clips


def test_a_classifier_has_room_for_a_word_as_long_as_its_window(tmp_path: Path) -> None:
    long = {"wide_train": ("keyword", "low", said(noise_band(100, 1600, 0.9)))}
    folder = corpus(tmp_path / "corpus", SOUND | long)
    short_windows = replace(RECIPE, data=Data(window_frames=160))
    for keywords, named in ((("low",), ["wide_train"]), (("low", UNKNOWN), [])):
        recipe = replace(short_windows, keywords=keywords)
        found = decode(read_material(folder, recipe), recipe, tmp_path / "cache")[2]
        too_long = [n for p in found if p.what.startswith("keywords sound for more") for n in p.names]
        assert [Path(name.split(" ")[0]).stem for name in too_long] == named


def test_a_sound_corpus_has_no_problem(tmp_path: Path) -> None:
    folder = corpus(tmp_path / "corpus", SOUND)
    assert heard_problems(read_corpus(folder), tmp_path / "cache") == []
    assert not list((tmp_path / "cache").iterdir())
    assert decode(read_material(folder, RECIPE), RECIPE, tmp_path / "cache")[2] == []


def test_training_without_a_readable_dev_clip_or_with_many_broken_files_is_refused(tmp_path: Path) -> None:
    broken = {name.replace("good_dev", "broken_dev"): clip for name, clip in SOUND.items()}
    folder = corpus(tmp_path / "corpus", broken)
    found = decode(read_material(folder, RECIPE), RECIPE, tmp_path / "cache")[2]
    assert {p.what for p in found if p.is_fatal} == {"keywords have no dev clip", "files cannot be read"}


def test_a_repaired_file_is_decoded_again(tmp_path: Path) -> None:
    folder = corpus(tmp_path / "corpus", {"broken_train": ("speech", "", said(WORD))})
    clips = read_corpus(folder)
    assert Library(clips, tmp_path / "cache", RATE_HZ).readable() == []
    soundfile.write(clips[0].path, said(WORD), RATE_HZ)
    assert Library(clips, tmp_path / "cache", RATE_HZ).readable() == clips


def test_what_a_model_lacks_is_fatal_and_a_wrong_kind_is_not(tmp_path: Path) -> None:
    clips = {name: clip for name, clip in SOUND.items() if name.startswith("good")}
    folder = corpus(tmp_path / "corpus", {**clips, "odd_train": ("speech", "hey low", said(WORD))})
    found = {problem.what: problem for problem in lacks(read_corpus(folder), ("low", "high"), "dev")}
    assert found["keywords have no train clip"].names == found["keywords have no dev clip"].names == ("high",)
    assert found["sorts of sound have no train clip"].names == ("noise or music",)
    odd = found["clips say a keyword but are neither of kind keyword nor synthetic"]
    assert len(odd.names) == 1
    assert [problem.is_fatal for problem in found.values()] == [True, True, True, False]


def test_report_lists_errors_first_and_strict_refuses_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    names = tuple("abcde")
    warning, error = Problem("clips hum", names, "rest"), Problem("clips lie", ("f",), "ask", is_fatal=True)
    report([warning], Path("c"), strict=False)
    assert capsys.readouterr().out == "warning: 5 clips hum: a, b, c and 2 more; rest\n"
    with pytest.raises(DataError, match="c cannot be used"):
        report([warning], Path("c"), strict=True)
    with pytest.raises(DataError):
        report([warning, error], Path("c"), strict=False)
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "error: 1 clips lie: f; ask",
        "warning: 5 clips hum: a, b, c and 2 more; rest",
    ]


def test_commands_warn_and_with_strict_refuse(unsound: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(
        yaml.safe_dump({"name": "low", "keywords": ["low"], "network": {"dilations": [1, 2]}})
    )
    train = ("train", tmp_path / "recipe.yaml", "--data", unsound, "--dry-run")
    easy, strict = program(tmp_path, *train), program(tmp_path, *train, "--strict")
    assert (easy.returncode, strict.returncode) == (0, 5), easy.stderr
    assert easy.stdout.count("warning: ") == strict.stdout.count("warning: ") == 7
    assert "would train" in easy.stdout
    assert "would train" not in strict.stdout
    check = ("corpus", "check", unsound)
    manifest, content = program(tmp_path, *check, "--strict"), program(tmp_path, *check, "--content")
    assert (manifest.returncode, content.returncode) == (0, 0), content.stderr
    assert "no problem found" in manifest.stdout
    assert "1 files cannot be read" in content.stdout
    assert program(tmp_path, *check, "--content", "--strict").returncode == 5
