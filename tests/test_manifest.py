"""Manifest: written, read back, found, and every kind of damage."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from kws import files as files_module
from kws.errors import ConfigError, KwsError, ModelError
from kws.manifest import (
    MANIFEST_FILE,
    MODEL_FILE,
    ModelFile,
    find_model,
    installed_models,
    read_manifest,
    write_manifest,
)


@pytest.fixture
def folder(tmp_path, toy_folder):
    """A copy of the toy model that a test may damage."""
    return Path(shutil.copytree(toy_folder, tmp_path / "toy"))


def edit(folder, change):
    """Change the manifest's plain data."""
    path = folder / MANIFEST_FILE
    data = yaml.safe_load(path.read_text())
    change(data)
    path.write_text(yaml.safe_dump(data))


def test_manifest_reads_back_as_written(folder):
    manifest = read_manifest(folder)
    changed = replace(
        manifest, evaluation={"hours": 1.5, "by": [{"snr_db": 10, "missed": None}]}, name="größe"
    )
    write_manifest(changed, folder / MANIFEST_FILE)
    assert read_manifest(folder) == changed
    assert sorted(path.name for path in folder.iterdir()) == [MANIFEST_FILE, MODEL_FILE]


def test_unknown_makes_a_classifier_without_a_threshold_of_its_own(folder):
    def change(data):
        data["keywords"], data["operating_curve"] = ["low note", "_unknown_"], {}
        data["detector"]["thresholds"] = {"low note": 0.5}

    assert not read_manifest(folder).is_classifier
    edit(folder, change)
    manifest = read_manifest(folder)
    assert manifest.is_classifier
    assert manifest.words == ("low note",)


@pytest.mark.parametrize("keywords", [["_unknown_", "low note"], ["_unknown_"]])
def test_unknown_stands_after_at_least_one_word(folder, keywords):
    def change(data):
        data["keywords"] = keywords
        data["detector"]["thresholds"] = {"low note": 0.5} if keywords[1:] else {}

    edit(folder, change)
    with pytest.raises(ConfigError, match=r"correct|add"):
        read_manifest(folder)


def test_times_of_scores_are_counted_in_samples(folder):
    manifest = read_manifest(folder)
    assert manifest.score_hop_samples == 320
    assert manifest.score_sample(0) == manifest.first_score_samples == 400 + 160
    assert manifest.score_sample(3) == 400 + 7 * 160  # the last frame of the first step of eight
    assert manifest.score_time_s(50) == pytest.approx(1 + manifest.score_time_s(0))
    assert manifest.score_rows(1.0) == 50


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (shutil.rmtree, ModelError, "is not a model folder .*; run: kws models"),
        (lambda f: (f / MANIFEST_FILE).unlink(), ModelError, "is not a model folder"),
        (
            lambda f: (f / MODEL_FILE).unlink(),
            ModelError,
            "cannot read .*model.onnx: No such file.*; install",
        ),
        (lambda f: (f / MODEL_FILE).write_bytes(b"x" * 9), ModelError, "has 9 bytes, .* truncated"),
        (lambda f: flip_a_bit(f / MODEL_FILE), ModelError, "does not match the sha256"),
        (lambda f: edit(f, lambda m: m.update(schema=2)), ModelError, "schema 2, .* another kws version"),
        (lambda f: edit(f, lambda m: m.pop("schema")), ModelError, "schema None"),
        (lambda f: (f / MANIFEST_FILE).write_text("- a list"), ModelError, "has schema None"),
        (lambda f: (f / MANIFEST_FILE).write_text("a: ["), ConfigError, "is not valid YAML .*; fix the file"),
        (
            lambda f: edit(f, lambda m: m["features"].update(sample_rate_hz=44100)),
            ModelError,
            "44100 Hz audio, but kws listens at 16000 Hz",
        ),
        (
            lambda f: edit(f, lambda m: m["model"].update(sha265="x")),
            ConfigError,
            re.escape("unknown key model.sha265; did you mean 'sha256'?"),
        ),
        (lambda f: edit(f, lambda m: m.pop("licence")), ConfigError, "licence is missing; add it"),
        (lambda f: edit(f, lambda m: m.update(keywords=["low note"])), ConfigError, "exactly the keywords"),
        (lambda f: edit(f, lambda m: m.update(keywords=[])), ConfigError, "one or more different phrases"),
        (
            lambda f: edit(f, lambda m: m["model"].update(frames_per_score=3)),
            ConfigError,
            "model.frames_per_step must be a multiple",
        ),
        (
            lambda f: edit(f, lambda m: m["detector"]["thresholds"].update({"low note": 2})),
            ConfigError,
            "detector.thresholds.low note must lie in",
        ),
    ],
)
def test_damaged_folder_gives_one_sentence(folder, damage, error, message):
    damage(folder)
    with pytest.raises(error, match=message) as caught:
        read_manifest(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_manifest_that_cannot_be_written_leaves_nothing_behind(folder):
    manifest = read_manifest(folder)
    before = (folder / MANIFEST_FILE).read_bytes()
    (folder / "taken").mkdir()
    with pytest.raises(ModelError, match="cannot write"):
        write_manifest(manifest, folder / "taken")
    assert (folder / MANIFEST_FILE).read_bytes() == before
    assert not list(folder.glob("*.partial"))


def test_step_must_hold_whole_scores(toy_model):
    with pytest.raises(ConfigError):
        replace(toy_model.manifest.model, frames_per_step=0)
    assert isinstance(replace(toy_model.manifest.model, frames_per_step=6), ModelFile)


def test_model_is_found_by_path_and_by_name(folder, monkeypatch, tmp_path):
    package = tmp_path / "site" / "kws"
    shutil.copytree(folder, package / "_models" / "notes")
    (package / "_models" / "unfinished").mkdir()
    monkeypatch.setattr(files_module, "__file__", str(package / "files.py"))
    assert installed_models() == [package / "_models" / "notes"]
    assert find_model("notes") == package / "_models" / "notes"
    assert find_model(folder) == find_model(str(folder)) == folder
    with pytest.raises(ModelError, match=r"there is no model 'nodes'; did you mean 'notes'\?"):
        find_model("nodes")
    with pytest.raises(ModelError, match="there is no model 'xyz'; installed: notes"):
        find_model("xyz")


def test_every_installed_model_is_whole():
    for folder in installed_models():
        manifest = read_manifest(folder)
        assert manifest.name == folder.name
        assert (folder / "CARD.md").is_file()
        assert all(source.licence for source in manifest.training.sources)


def test_errors_are_one_family():
    assert issubclass(ModelError, KwsError)
    assert issubclass(ModelError, ValueError)


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
