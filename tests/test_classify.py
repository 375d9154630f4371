"""One decision for each clip, by the toy model with its high note called "other speech"."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from conftest import RATE_HZ, noise_band, quiet

from kws.classifier import Classifier, decide
from kws.errors import ModelError
from kws.manifest import MANIFEST_FILE, SILENCE, UNKNOWN, read_manifest
from kws.model import load_model
from kws.pipeline import Pipeline, score_recording

ROOT = Path(__file__).parent.parent
LABELS = ["low note", UNKNOWN, SILENCE]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, toy_folder):
    folder = tmp_path_factory.mktemp("model") / "notes"
    shutil.copytree(toy_folder, folder)
    data = yaml.safe_load((folder / MANIFEST_FILE).read_text())
    data |= {"keywords": ["low note", UNKNOWN], "operating_curve": {}}
    data["detector"]["thresholds"] = {"low note": 0.5}
    (folder / MANIFEST_FILE).write_text(yaml.safe_dump(data))
    return folder


def clip(low_hz, high_hz):
    """A second of faint noise with half a second of a note in it."""
    return np.concatenate([quiet(0.25), noise_band(low_hz, high_hz, 0.5), quiet(0.25, 1)])


@pytest.fixture(scope="module")
def clips():
    return {"low note": clip(100, 1600), UNKNOWN: clip(2200, 7500), SILENCE: quiet(1.0)}


@pytest.fixture
def files(tmp_path, clips):
    """WAV files relative to the working directory of `run_kws`, by right answer."""
    names = {"low note": "low.wav", UNKNOWN: "high.wav", SILENCE: "quiet.wav"}
    for label, name in names.items():
        soundfile.write(tmp_path / name, clips[label], RATE_HZ)
    return names


def test_json_holds_file_label_and_the_probability_of_every_label(run_kws, folder, files):
    done = run_kws("classify", "--model", folder, "--json", *files.values())
    assert (done.returncode, done.stderr) == (0, "")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(line["file"], line["label"]) for line in lines] == [(n, label) for label, n in files.items()]
    for line in lines:
        assert list(line) == ["file", "label", "scores"]
        assert list(line["scores"]) == LABELS
        assert sum(line["scores"].values()) == pytest.approx(1, abs=1e-5)
        assert max(line["scores"], key=line["scores"].get) == line["label"]


def test_people_get_a_line_per_file(run_kws, folder, files):
    done = run_kws("classify", "--model", folder, *files.values())
    assert [line.split(" (")[0] for line in done.stdout.splitlines()] == [
        f"{name}: {label}" for label, name in files.items()
    ]


@pytest.mark.parametrize("source", ["list.txt", "-"])
def test_list_names_files_and_a_bad_one_does_not_stop_the_others(run_kws, folder, files, tmp_path, source):
    (tmp_path / "bad.wav").write_text("not audio")
    names = ["low.wav", "bad.wav", "missing.wav", "high.wav"]
    text = "\n".join(names) + "\n\n"
    (tmp_path / "list.txt").write_text(text)
    done = run_kws("classify", "--model", folder, "--json", "--list", source, stdin=text.encode())
    assert done.returncode == 4
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["file"] for line in lines] == names
    assert ["error" in line for line in lines] == [False, True, True, False]
    assert len(done.stderr.splitlines()) == 2
    assert all(name in done.stderr for name in ("bad.wav", "missing.wav"))
    assert [line["label"] for line in lines if "label" in line] == ["low note", UNKNOWN]


def test_no_file_is_a_mistake(run_kws, folder):
    done = run_kws("classify", "--model", folder)
    assert done.returncode == 2
    assert "--list" in done.stderr


def test_model_of_wake_words_is_refused(run_kws, toy_folder, files):
    done = run_kws("classify", "--model", toy_folder, "low.wav")
    assert done.returncode == 3
    assert "no classifier" in done.stderr


def test_decision_is_that_of_the_highest_score_for_any_cut(folder, clips):
    model = load_model(folder)
    classifier = Classifier(model)
    for label, samples in clips.items():
        whole = classifier.classify([samples])
        cuts = np.sort(np.random.default_rng(7).integers(0, len(samples), 25))
        assert classifier.classify(np.split(samples, cuts)) == whole
        assert whole.label == label
        # Scores are sigmoids of the same averages: their maxima, against even odds for silence, must agree.
        stream = model.stream()
        heard = np.concatenate((stream.feed(samples), stream.flush()))
        assert LABELS[int(np.append(heard.max(axis=0), 0.5).argmax())] == label


def test_nothing_at_all_is_silence(folder):
    assert Classifier(load_model(folder)).classify([]).label == SILENCE


def test_scores_are_the_softmax_with_silence_at_zero():
    decision = decide(np.log([6.0, 3.0]), ("yes", UNKNOWN, SILENCE))
    assert decision.label == "yes"
    assert decision.scores == pytest.approx({"yes": 0.6, UNKNOWN: 0.3, SILENCE: 0.1})


def test_detection_reports_words_only_and_not_while_other_speech_is_surer(folder, notes):
    model = load_model(folder)
    _, detections, _ = score_recording(Pipeline(model), [notes])  # a low note, then a high one
    assert [d.keyword for d in detections] == ["low note"]


def test_detect_lists_no_class(run_kws, folder, notes_wav):
    (line,) = run_kws("detect", "--model", folder, "--json", notes_wav).stdout.splitlines()
    assert list(json.loads(line)["max"]) == list(json.loads(line)["peaks"]) == ["low note"]


def test_wake_word_model_has_no_classifier(toy_model):
    with pytest.raises(ModelError, match="commands"):
        Classifier(toy_model)


@pytest.mark.corpus
def test_shipped_networks_agree_with_each_other_and_with_people():
    pytest.importorskip("torch", reason="needs the train extra")
    from kws.audio import read_audio  # noqa: PLC0415
    from kws.commands.evaluate import float_logits  # noqa: PLC0415
    from kws.scores import averaged  # noqa: PLC0415

    shipped, corpus = ROOT / "models" / "commands", ROOT.parent / "shared" / "data" / "gsc"
    if not (shipped / MANIFEST_FILE).is_file() or not corpus.is_dir():
        pytest.skip("needs models/commands and ../shared/data")
    manifest, classifier = read_manifest(shipped), Classifier(load_model(shipped))
    logits = float_logits(shipped)
    right = 0
    for word in ("yes", "down", "stop"):
        samples = read_audio(sorted((corpus / word).iterdir())[0], RATE_HZ)
        highest = averaged(logits(samples), manifest.detector.smoothing_steps).max(axis=0)
        int8 = classifier.classify([samples]).label
        assert decide(highest, classifier.labels).label == int8
        right += int8 == word
    assert right >= 2
