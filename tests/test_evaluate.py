"""An evaluation of the toy model on a toy corpus, in which everything can be counted by hand.

Its words are two notes. Ann says "low note", in two copies of one recording, and "high note"; what Bob says
is silence: a sure miss. The ambient audio holds the low note once: a sure false accept.
"""

import argparse
import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import RATE_HZ, noise_band, quiet

from kws import config
from kws.cli import main
from kws.commands.evaluate import run
from kws.corpus import COLUMNS
from kws.errors import ConfigError, DataError, ModelError
from kws.evaluate.card import between_markers, render_card
from kws.evaluate.playlist import EvaluationSettings, Mixer, make_playlist, read_clips
from kws.evaluate.stream import Trial
from kws.manifest import read_manifest

LOW, HIGH = (100, 1600), (2200, 7500)
CLIPS = [
    # path, label, kind, speaker, seconds, split, recording, note
    ("words/a1.wav", "low note", "keyword", "ann", "dev", "r1", LOW),
    ("words/a1_copy.wav", "low note", "keyword", "ann", "dev", "r1", LOW),
    ("words/b1.wav", "hey low note", "keyword", "bob", "dev", "", None),
    ("words/a2.wav", "high note", "keyword", "ann", "dev", "", HIGH),
    ("words/a3.wav", "low note", "keyword", "cy", "train", "", LOW),
    ("words/other.wav", "other", "keyword", "ann", "dev", "", HIGH),
    ("tts/low.wav", "low note", "synthetic", "robot", "dev", "", LOW),
    ("tts/near.wav", "slow boat", "synthetic", "robot", "dev", "", None),
    ("talk/long.wav", "", "speech", "dan", "dev", "", None),
    ("talk/with_note.wav", "nothing of interest", "speech", "eve", "dev", "", LOW),
    ("talk/says_it.wav", "play a low note now", "speech", "eve", "dev", "", LOW),
    ("hum/hum.wav", "", "noise", "", "train", "", None),
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    rows = []
    for seed, (path, label, kind, speaker, split, recording, note) in enumerate(CLIPS):
        middle = quiet(0.5, seed) if note is None else noise_band(*note, 0.5, seed)
        samples = np.concatenate([quiet(0.6, seed + 50), middle, quiet(0.6, seed + 100)])
        if path == "hum/hum.wav":
            samples = 0.05 * np.sin(2 * np.pi * 50 / RATE_HZ * np.arange(10 * RATE_HZ))
        (folder / path).parent.mkdir(exist_ok=True)
        soundfile.write(folder / path, samples, RATE_HZ)
        seconds = len(samples) / RATE_HZ
        rows.append([path, label, kind, speaker, seconds, split, "en", "CC0-1.0", "", "", recording])
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    return folder


@pytest.fixture
def model(toy_folder: Path, tmp_path: Path) -> Path:
    """A copy of the toy model that a test may update, in a folder of models beside a README."""
    folder = tmp_path / "models" / "notes"
    folder.mkdir(parents=True)
    for path in toy_folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


CONFIG = "noise_sources: [hum]\nmixes: 2\n"


def evaluate(model: Path, corpus: Path, tmp_path: Path, config_file: str = CONFIG, **options) -> dict:
    settings, out = tmp_path / "settings.yaml", tmp_path / "out"
    settings.write_text(config_file)
    flags = dict.fromkeys(("json", "float", "update", "robustness", "gate"), False)
    defaults = flags | {"split": "dev", "fold": None, "against": None, "snr": None, "jobs": 1}
    paths = {"model": str(model), "data": corpus, "config": settings, "out": out}
    assert run(argparse.Namespace(**defaults | paths | options)) == 0
    return json.loads((out / "results.json").read_text())


def test_evaluate_counts_what_was_planted(model, corpus, tmp_path):
    report = evaluate(model, corpus, tmp_path)
    summary = report["networks"]["int8"]
    low = summary["keywords"]["low note"]
    clean, noisy = low["false_rejects"]["real"]["clean"], low["false_rejects"]["real"]["10 dB"]
    assert (clean["trials"], clean["recordings"], clean["speakers"]) == (3, 2, 2)
    assert (noisy["trials"], noisy["recordings"], noisy["speakers"]) == (6, 2, 2)
    assert low["false_rejects"]["synthetic"]["clean"]["trials"] == 1
    # 3.4 s of ambient audio (the sentence that says the words is left out) allow no false accept at all, so
    # the threshold is above the planted note, and every note that is no louder is missed with it.
    assert summary["ambient"]["hours"] == pytest.approx(3.4 / 3600, abs=1e-4)
    assert low["operating_points"]["0.5"]["false_accepts"] == 0
    assert low["operating_points"]["0.5"]["threshold"] > 0.5
    assert summary["loudest"][0]["clip"] == "talk/with_note.wav"
    assert summary["loudest"][0]["keyword"] == "low note"
    assert summary["loudest"][0]["time_s"] == pytest.approx(1.0, abs=0.3)


def test_evaluate_judges_every_condition_at_a_given_threshold(model, corpus, tmp_path):
    """The high note is in no ambient clip, so its threshold is low: Ann is heard and "other" accepted."""
    report = evaluate(model, corpus, tmp_path, snr=[20.0])
    summary = report["networks"]["int8"]
    high = summary["keywords"]["high note"]
    heard = high["false_rejects"]["real"]["clean"]["at"]["0.5"]
    assert heard["rate"] == 0.0
    assert -600 < heard["latency_ms"]["p50"] < 0  # the toy hears a note from its start
    assert set(high["false_rejects"]["real"]) == {"clean", "20 dB"}
    assert summary["phrases"]["words"]["accepts"] == {"low note": 0, "high note": 1}
    assert summary["phrases"]["words"]["per_1000"] == 1000.0
    assert summary["phrases"]["tts"]["accepts"] == {"low note": 0, "high note": 0}


def test_keyword_with_a_lead_in_is_tested_on_what_says_it(model, corpus, tmp_path):
    """The low note is now called "hey low note": Bob says it, "low note" alone is counted apart."""
    text = (model / "manifest.yaml").read_text()
    (model / "manifest.yaml").write_text(text.replace("low note", "hey low note"))
    robot = tmp_path / "robot"
    shutil.copytree(corpus, robot)
    rows = (robot / "manifest.csv").read_text()
    rows = rows.replace("hey low note,keyword", "hey low note,synthetic").replace(",bob,", ",robot,")
    (robot / "manifest.csv").write_text(rows)
    real = evaluate(model, corpus, tmp_path)["networks"]["int8"]
    figures = real["keywords"]["hey low note"]
    assert (figures["tested_on"], list(figures["false_rejects"])) == ("real", ["real"])
    assert real["phrases"]['words, "low note"']["phrases"] == 2
    assert real["phrases"]["words"]["phrases"] == 1
    report = evaluate(model, robot, tmp_path, update=True)
    synthetic = report["networks"]["int8"]
    assert [f["tested_on"] for f in synthetic["keywords"].values()] == ["synthetic", "real"]
    assert set(synthetic["mean"]) == {"tested"}  # neither group has both keywords
    assert synthetic["mean"]["tested"]["clean"]["0.5"]["keywords"] == 2
    # The robot's silence is missed, Ann's high note heard.
    assert synthetic["mean"]["tested"]["clean"]["0.5"]["rate"] == 0.5
    card = (model / "CARD.md").read_text()
    assert 'No real recording says "hey low note"' in card
    assert "| int8 | hey low note | clean | 1 synthetic / 1 speakers |" in card
    assert card.startswith('# notes\n\nHears "hey low note" and "high note".\n')
    assert read_manifest(model).operating_curve["hey low note"][0].false_reject_rate == 1.0


@pytest.mark.train
def test_robustness_plays_every_channel_at_the_same_thresholds(model, corpus, tmp_path):
    pytest.importorskip("pyroomacoustics", reason="needs the train extra")
    config_file = "noise_sources: [hum]\nmixes: 1\nchannels: {reverberation_s: [0.3], rooms: 1}\n"
    report = evaluate(model, corpus, tmp_path, config_file=config_file, robustness=True, update=True)
    summary = report["networks"]["int8"]
    rows = {(row["channel"], row["condition"]): row for row in summary["robustness"]}
    names = ["as recorded", "far field, T60 0.3 s", "telephone band", "level -45 dBFS", "clipped +12 dB"]
    assert list(rows) == [(n, c) for n in [*names, "48 kHz microphone"] for c in ("clean", "10 dB")]
    recorded = summary["keywords"]["high note"]["false_rejects"]["real"]["clean"]["at"]["0.5"]
    assert rows["as recorded", "clean"]["keywords"]["high note"] == recorded
    # The high note lies above 2.2 kHz and mostly above a telephone's band; a fast microphone passes it.
    heard = {
        name: rows[name, "clean"]["keywords"]["high note"]["rate"] for name in (*names, "48 kHz microphone")
    }
    assert heard["48 kHz microphone"] == heard["as recorded"] == 0.0
    assert "| telephone band | clean |" in (model / "CARD.md").read_text()
    plain = evaluate(model, corpus, tmp_path)["networks"]["int8"]
    assert plain["robustness"] == []
    assert "telephone" not in (tmp_path / "out" / "results.md").read_text()


def test_readme_lists_every_measured_model_and_keeps_the_others(model, corpus, tmp_path):
    """Measuring one model again rewrites its rows only; a model that was never measured has none."""
    readme = tmp_path / "README.md"
    readme.write_text("<!-- results -->\n<!-- /results -->\n")
    for name in ("second", "third"):
        shutil.copytree(model, model.parent / name)
        path = model.parent / name / "manifest.yaml"
        path.write_text(path.read_text().replace("name: notes", f"name: {name}"))
    evaluate(model, corpus, tmp_path, update=True)
    evaluate(model.parent / "second", corpus, tmp_path, update=True)
    first = readme.read_text()
    rows = re.findall(r"^\| (\w+) \| (?!keyword)([^|]+) \|", first, re.MULTILINE)
    assert rows == [
        (name, keyword) for name in ("notes", "second") for keyword in ("low note", "high note", "**mean**")
    ]
    assert "clean, 0.5 FA/h | 10 dB, 0.5 FA/h | 0 dB, 0.5 FA/h | clean, 0.1 FA/h" in first
    assert "| notes | low note | 2 real / 2 |" in first
    assert len(re.findall(r"^- (notes|second): 432 parameters.* commit .*, sha256", first, re.MULTILINE)) == 2
    evaluate(model.parent / "second", corpus, tmp_path, update=True)
    assert readme.read_text() == first


def test_evaluate_gives_the_same_figures_with_any_number_of_jobs(model, corpus, tmp_path):
    alone = evaluate(model, corpus, tmp_path)["networks"]
    assert evaluate(model, corpus, tmp_path, jobs=2)["networks"] == alone


def test_update_writes_thresholds_curve_card_and_readme(model, corpus, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("# before\n<!-- results -->\nstale\n<!-- /results -->\nafter\n")
    before = read_manifest(model)
    report = evaluate(model, corpus, tmp_path, update=True)
    manifest = read_manifest(model)
    points = {k: v["operating_points"]["0.5"] for k, v in report["networks"]["int8"]["keywords"].items()}
    assert manifest.detector.thresholds == {k: point["threshold"] for k, point in points.items()}
    assert set(manifest.operating_curve) == {"low note", "high note"}
    assert manifest.evaluation["ambient_hours"] == report["networks"]["int8"]["ambient"]["hours"]
    assert manifest.model == before.model
    card = (model / "CARD.md").read_text()
    assert "FRR at 0.5 FA/h" in card
    assert "1 real / 1 speakers" in card
    assert "| low note | 0.5 |" in card  # false accepts by kind
    assert "| words | 1 | high note 1 | 1000.0 (" in card
    text = readme.read_text()
    assert text.startswith("# before\n<!-- results -->\nFRR is")
    assert text.endswith("<!-- /results -->\nafter\n")
    assert "stale" not in text
    assert (tmp_path / "out" / "det.svg").read_text().startswith("<?xml")
    assert "## int8" in (tmp_path / "out" / "results.md").read_text()


def test_unreadable_clip_is_reported_and_the_rest_is_played(model, corpus, tmp_path):
    rows = (corpus / "manifest.csv").read_text()
    damaged = tmp_path / "damaged"
    for row in csv.DictReader(rows.splitlines()):
        (damaged / row["path"]).parent.mkdir(parents=True, exist_ok=True)
        (damaged / row["path"]).write_bytes((corpus / row["path"]).read_bytes())
    (damaged / "manifest.csv").write_text(rows)
    (damaged / "words/a1.wav").write_bytes(b"not audio")
    (damaged / "talk/long.wav").unlink()
    summary = evaluate(model, damaged, tmp_path)["networks"]["int8"]
    assert len(summary["unreadable"]) == 2
    assert summary["keywords"]["low note"]["false_rejects"]["real"]["clean"]["trials"] == 2


def playlist_of(corpus, keywords, settings):
    return make_playlist(read_clips(corpus, keywords, settings), keywords, settings)


def test_playlist_keeps_apart_what_must_not_be_mixed(corpus):
    playlist = playlist_of(corpus, ("low note", "high note"), EvaluationSettings(noise_sources=("hum",)))
    assert sorted(c.path.stem for c in playlist.positives) == ["a1", "a1_copy", "a2", "b1", "low"]
    assert sorted(c.path.stem for c in playlist.phrases) == ["near", "other"]
    assert [[c.path.stem for c in stream] for stream in playlist.ambient] == [["long", "with_note"]]
    assert [c.path.stem for c in playlist.noise] == ["hum"]


def test_playlist_takes_no_running_speech_for_a_keyword(corpus):
    """Its label may be a translation: a corpus of Arabic words calls one of them "up"."""
    settings = EvaluationSettings(noise_sources=("hum",))
    clips = [
        replace(clip, kind="speech") if clip.path.stem == "b1" else clip
        for clip in read_clips(corpus, ("low note",), settings)
    ]
    playlist = make_playlist(clips, ("low note",), settings)
    assert "b1" not in {clip.path.stem for clip in playlist.positives}
    assert "b1" not in {clip.path.stem for stream in playlist.ambient for clip in stream}


@pytest.mark.parametrize(
    ("keywords", "changes", "message"),
    [
        (("green hat",), {}, "no dev clip says green hat"),
        (("low note",), {"split": "test"}, "no test clip says low note"),
        (("low note",), {"noise_sources": ()}, "no dev noise"),
    ],
)
def test_playlist_refuses_a_corpus_that_measures_nothing(corpus, keywords, changes, message):
    with pytest.raises(DataError, match=message):
        playlist_of(corpus, keywords, EvaluationSettings(**changes))


def test_mixer_sets_the_ratio_of_word_and_noise(corpus):
    settings = EvaluationSettings(noise_sources=("hum",), lead_in_seconds=1.0, tail_seconds=1.0)
    noise = playlist_of(corpus, ("low note",), settings).noise
    word = np.full(8000, 0.1, np.float32)
    samples = np.concatenate([np.zeros(4000, np.float32), word])
    mixer = Mixer(noise, RATE_HZ, settings)
    clean = mixer.track(samples, (4000, 12000), None, seed=3)
    noisy = mixer.track(samples, (4000, 12000), 10.0, seed=3)
    assert len(clean) == RATE_HZ + 12000 + RATE_HZ
    assert np.array_equal(clean[RATE_HZ:-RATE_HZ], samples)
    assert 20 * np.log10(np.std(clean[:RATE_HZ])) == pytest.approx(-66, abs=0.5)
    added = noisy - clean
    assert 20 * np.log10(0.1 / np.sqrt(np.mean(added**2))) == pytest.approx(10, abs=0.05)
    assert np.array_equal(mixer.track(samples, (4000, 12000), 10.0, seed=3), noisy)


def test_latency_is_the_first_score_at_the_threshold_after_the_end_of_the_word():
    window = np.array([0.1, 0.2, 0.5, 0.9, 0.7], np.float32)
    trial = Trial(None, "low note", "clean", 0.9, window, window_start_s=-0.03, row_seconds=0.02)
    assert trial.latency_s(0.5) == pytest.approx(0.01)
    assert trial.latency_s(0.9) == pytest.approx(0.03)
    assert trial.latency_s(0.15) == pytest.approx(-0.01)
    assert trial.latency_s(0.95) is None


def test_fold_plays_speakers_that_training_would_otherwise_hear(corpus):
    """Cy is in the training split, and in dev in the fold that holds Cy out."""
    said = {}
    for fold in ("1/2", "2/2"):
        settings = EvaluationSettings(noise_sources=("hum",), fold=fold)
        positives = playlist_of(corpus, ("low note", "high note"), settings).positives
        said[fold] = {c.speaker for c in positives if c.kind == "keyword"}
    assert said["1/2"] | said["2/2"] == {"ann", "bob", "cy"}
    assert not said["1/2"] & said["2/2"]


def test_model_against_itself_differs_by_nothing(model, corpus, tmp_path, capsys):
    second = Path(shutil.copytree(model, model.parent / "second"))
    manifest = (second / "manifest.yaml").read_text().replace("high note", "another note")
    (second / "manifest.yaml").write_text(manifest)
    settings = tmp_path / "settings.yaml"
    settings.write_text(CONFIG)
    arguments = ["evaluate", "--model", model, "--against", second, "--data", corpus, "--config", settings]
    assert main([*map(str, arguments), "--snr", "10"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"| FRR of {model} | FRR of {second} | difference" in lines[0]  # both are called "notes"
    assert [line.split(" | ")[2] for line in lines[2:]] == ["low note", "mean"] * 6  # the keyword in common
    assert all("+0.0 (+0.0 to +0.0) | 0 | 0 | may be luck" in line for line in lines[2:])
    assert main([*map(str, arguments), "--update"]) == 2


def test_gate_is_measured_on_the_same_recordings(model, corpus, tmp_path, capsys):
    settings, out = tmp_path / "settings.yaml", tmp_path / "out"
    settings.write_text("noise_sources: [hum]\nmixes: 1\ngate: {background_seconds: 3}\n")
    paths = ["--model", model, "--data", corpus, "--config", settings, "--out", out]
    arguments = ["evaluate", "--gate", *map(str, paths)]
    assert main([*arguments, "--snr", "10"]) == 0
    table = capsys.readouterr().out
    costs = json.loads((out / "gate.json").read_text())["gate"]
    names = ["as recorded", "level -45 dBFS", "level -45 dBFS, room -60 dBFS"]
    played = [(row["channel"], row["condition"]) for row in costs["misses"]]
    assert played == [(name, noise) for name in names for noise in ("clean", "10 dB")]
    assert all((row["trials"], row["lost"]) == (4, 0) for row in costs["misses"])
    assert costs["misses"][0]["keywords"]["high note"] == {"without": 0.0, "gated": 0.0, "difference": 0.0}
    assert "| as recorded | clean | 4 |" in table
    # A hum is no reason to compute anything, and a room is quiet; the ambient audio is short and has notes.
    assert costs["skipped"]["hum"] > 0.8
    assert costs["skipped"]["simulated room, -60 dBFS"] > 0.9
    assert costs["skipped"]["all"] == costs["skipped"]["speech"] < 0.5
    assert main([*arguments, "--update"]) == 2


def test_settings_file_documents_the_defaults():
    path = Path(__file__).parent.parent / "configs" / "evaluate.yaml"
    assert config.load(path, EvaluationSettings) == EvaluationSettings()
    assert set(config.read_yaml(path)) == set(config.dump(EvaluationSettings()))


def test_settings_refuse_a_calibration_that_is_not_measured():
    with pytest.raises(ConfigError, match="calibrated_at"):
        EvaluationSettings(calibrated_at=0.3)


def test_card_of_a_model_that_was_never_measured_says_so(toy_folder):
    card = render_card(read_manifest(toy_folder))
    assert 'Hears "low note" and "high note"' in card
    assert "Not measured yet. Run: `kws evaluate --model notes" in card


def test_between_markers_needs_both():
    with pytest.raises(ModelError, match="add that line"):
        between_markers("<!-- results -->\nold", "new")
