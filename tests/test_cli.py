"""The program as its user meets it: commands, exit codes, and one sentence per mistake."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from conftest import RATE_HZ, program_environment

from kws import files
from kws.cli import main

COMMANDS = (
    "listen",
    "detect",
    "classify",
    "devices",
    "status",
    "events",
    "mute",
    "unmute",
    "feedback",
    "models",
    "evaluate",
    "bench",
    "train",
    "export",
    "corpus",
)


@pytest.fixture
def bad_wav(tmp_path):
    path = tmp_path / "bad.wav"
    path.write_text("not audio")
    return path


def test_help_names_every_command(run_kws):
    done = run_kws("--help")
    assert done.returncode == 0
    assert all(f"\n    {command}" in done.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(run_kws, command):
    done = run_kws(command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: kws {command}")


def test_version_is_printed(run_kws):
    assert run_kws("--version").stdout.startswith("kws 0")


def test_listen_to_a_file_prints_detections_as_text_and_json(run_kws, toy_folder, notes_wav):
    text = run_kws("listen", "--model", toy_folder, "--source", notes_wav)
    assert (text.returncode, text.stderr) == (0, "")
    assert [line.split(" s  ")[1].split("  ")[0] for line in text.stdout.splitlines()] == [
        "low note",
        "high note",
    ]
    done = run_kws("listen", "--model", toy_folder, "--source", notes_wav, "--json")
    heard = [json.loads(line) for line in done.stdout.splitlines()]
    assert [set(h) for h in heard] == [{"keyword", "time_s", "score"}] * 2
    assert 1.0 < heard[0]["time_s"] < 1.4
    assert 2.5 < heard[1]["time_s"] < 2.9


def test_file_stdin_and_detect_hear_the_same(run_kws, toy_folder, notes, tmp_path):
    samples = (notes * 32767).astype("<i2")
    soundfile.write(tmp_path / "a.wav", samples, RATE_HZ)
    model = ("--model", toy_folder, "--json")
    from_file = run_kws("listen", *model, "--source", "a.wav")
    # An odd byte at the end is no sample.
    from_stdin = run_kws("listen", *model, "--source", "-", stdin=samples.tobytes() + b"\0")
    detected = json.loads(run_kws("detect", *model, "a.wav").stdout)
    heard = [json.loads(line) for line in from_file.stdout.splitlines()]
    assert len(heard) == 2
    assert from_stdin.stdout == from_file.stdout
    assert detected["detections"] == heard


def test_realtime_takes_as_long_as_the_recording(run_kws, toy_folder, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(RATE_HZ // 2), RATE_HZ)
    start = time.monotonic()
    assert run_kws("listen", "--model", toy_folder, "--source", "a.wav", "--realtime").returncode == 0
    assert time.monotonic() - start >= 0.5


def test_detect_json_has_the_documented_fields(run_kws, toy_folder, notes_wav):
    done = run_kws("detect", "--model", toy_folder, "--json", notes_wav)
    result = json.loads(done.stdout)
    assert done.returncode == 0
    assert list(result) == ["file", "seconds", "model", "detections", "max", "peaks"]
    assert (result["file"], result["seconds"], result["model"]) == (str(notes_wav), 4.0, "notes")
    assert set(result["max"]) == set(result["peaks"]) == {"low note", "high note"}
    for keyword, highest in result["max"].items():
        ((time_s, score),) = result["peaks"][keyword]
        (heard,) = (d for d in result["detections"] if d["keyword"] == keyword)
        assert score == highest > heard["score"] >= 0.5
        assert heard["time_s"] < time_s < heard["time_s"] + 0.3


def test_detect_reports_a_bad_file_and_goes_on(run_kws, toy_folder, notes_wav, bad_wav):
    files = (notes_wav, bad_wav, "missing.wav", notes_wav)
    text = run_kws("detect", "--model", toy_folder, *files)
    assert text.returncode == 4
    assert len(text.stdout.splitlines()) == 2
    assert [line[:5] for line in text.stderr.splitlines()] == ["kws: "] * 2
    done = run_kws("detect", "--model", toy_folder, "--json", *files)
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, done.stderr) == (4, "")
    assert [set(r) == {"file", "error"} for r in results] == [False, True, True, False]
    assert results[0] == results[3]


def test_detect_gives_the_same_lines_in_any_number_of_processes(
    run_kws, toy_folder, notes_wav, bad_wav, tmp_path
):
    names = [str(notes_wav), str(bad_wav)] * 3
    (tmp_path / "files.txt").write_text("\n".join([*names, "", ""]))
    one = run_kws("detect", "--model", toy_folder, "--json", *names)
    three = run_kws("detect", "--model", toy_folder, "--json", "--jobs", 3, "--list", "files.txt")
    assert three.returncode == one.returncode == 4
    assert three.stdout == one.stdout
    assert three.stderr == ""


def test_detect_says_how_close_a_silent_file_came(run_kws, toy_folder, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(100), RATE_HZ)
    done = run_kws("detect", "--model", toy_folder, "a.wav")
    assert done.stdout.startswith("a.wav: nothing (at most ")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("listen --model nowhere", 3, "there is no model 'nowhere'; "),
        ("listen --model .", 3, ". is not a model folder (no manifest.yaml); run: kws models"),
        ("listen --model TOY --source missing.wav", 4, "there is no audio file missing.wav; check the path"),
        ("listen --model TOY --source -", 4, "standard input holds no audio; "),
        ("listen --model TOY --source x.wav --device 1", 2, "--device chooses a microphone; "),
        ("listen --model TOY --device nowhere", 4, "; plug one in, or choose one of: kws devices"),
        ("detect --model TOY", 2, "no files to score; name some, or use --list FILES.txt"),
        ("detect --model TOY --list missing.txt", 2, "cannot read the list missing.txt"),
        ("detect --model TOY --false-accepts-per-day few a.wav", 2, "'few' is no number of false accepts"),
        ("listen --model TOY --false-accepts-per-day 1", 2, "no operating curve of 'high note'; run kws"),
        ("detect --jobs 0 a.wav", 2, "argument --jobs: must be at least 1"),
        ("service uninstall --pur --dry-run", 2, "unrecognized arguments: --pur"),
        ("sing", 2, "invalid choice: 'sing'"),
        ("", 2, "the following arguments are required: COMMAND"),
    ],
)
def test_mistake_gives_one_sentence_and_its_exit_code(run_kws, toy_folder, arguments, code, message):
    done = run_kws(*(str(toy_folder) if word == "TOY" else word for word in arguments.split()))
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith(("kws: ", "usage: "))


def test_debug_shows_the_traceback(run_kws):
    for done in (
        run_kws("--debug", "listen", "--model", "nowhere"),
        run_kws("listen", "--debug", "--model", "nowhere"),
        run_kws("listen", "--model", "nowhere", KWS_DEBUG="1"),
    ):
        assert "Traceback" in done.stderr
        assert done.stderr.splitlines()[-1].startswith("kws: there is no model 'nowhere'")
    assert "Traceback" in run_kws("corpus", "check", "--debug", "nowhere").stderr


def test_models_lists_figures_and_names_a_damaged_one(monkeypatch, capsys, tmp_path, toy_folder):
    for name in ("broken", "notes"):
        shutil.copytree(toy_folder, tmp_path / "_models" / name)
    (tmp_path / "_models" / "broken" / "model.onnx").write_bytes(b"")
    monkeypatch.setattr(files, "__file__", str(tmp_path / "files.py"))
    assert main(["models"]) == 3
    broken, headline, low, point, high = capsys.readouterr().out.splitlines()
    assert broken.startswith("broken  damaged: ")
    assert headline.startswith("notes  2 kB, 432 parameters, Apache-2.0  ")
    assert low == "  low note: threshold 0.500; false accepts, and misses (in noise), of other choices:"
    assert point == "    low note: 9.6 a day -> threshold 0.50, misses 3 %"  # the curve has this point only
    assert high == "  high note: threshold 0.500, not measured yet"


@pytest.mark.parametrize("command", ["listen --source", "detect --jobs 2"])
def test_wanted_false_accepts_per_day_choose_the_threshold(run_kws, toy_folder, notes_wav, command, tmp_path):
    folder = shutil.copytree(toy_folder, tmp_path / "notes")
    path = folder / "manifest.yaml"
    strict = "{threshold: 0.999999, false_accepts_per_hour: 0.01, false_reject_rate: 0.5}"
    text = path.read_text()
    assert text.count("  low note:\n  - ") == 1
    path.write_text(text.replace("  low note:\n  - ", f"  low note:\n  - {strict}\n  - "))
    done = run_kws(*command.split(), notes_wav, "--model", folder, "--false-accepts-per-day", "low note=0.24")
    assert done.returncode == 0
    assert done.stderr == "low note: 0.24 a day -> threshold 0.9999990, misses 50 %\n"
    assert "high note" in done.stdout
    assert "low note" not in done.stdout


def test_missing_package_names_its_extra(run_kws, tmp_path):
    for package in ("torch", "safetensors"):
        missing = f"raise ModuleNotFoundError(name={package!r})"
        (tmp_path / f"{package}.py").write_text(missing)
    search = os.pathsep.join([str(tmp_path), program_environment(tmp_path)["PYTHONPATH"]])
    done = run_kws("export", "run", PYTHONPATH=search)
    assert done.returncode == 6
    assert done.stderr.endswith("is not installed; run: pip install 'kws[train]'\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.ENOSPC, "kws: run/last: No space left on device; make room\n"),
        (errno.EACCES, "kws: run/last: Permission denied; check the path and its permissions\n"),
    ],
)
def test_full_or_forbidden_disk_gives_one_sentence(monkeypatch, capsys, number, sentence):
    def run(_options):
        raise OSError(number, os.strerror(number), "run/last")

    monkeypatch.setitem(sys.modules, "kws.commands.models", SimpleNamespace(run=run))
    assert main(["models"]) == 1
    assert capsys.readouterr().err == sentence


def test_ctrl_c_ends_listening_quietly(toy_folder, notes, tmp_path):
    arguments = [sys.executable, "-m", "kws", "listen", "--model", str(toy_folder), "--source", "-"]
    environment = program_environment(tmp_path)
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        process.stdin.write((notes * 32767).astype("<i2").tobytes())
        process.stdin.flush()
        assert b"low note" in process.stdout.readline()  # printed at once, though the pipe stays open
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert process.stderr.read() == b""


def test_reader_that_goes_away_is_no_error(toy_folder, notes_wav, tmp_path):
    arguments = [sys.executable, "-m", "kws", "detect", "--model", str(toy_folder), "--json", str(notes_wav)]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        arguments, stdout=writer, stderr=subprocess.PIPE, check=False, env=program_environment(tmp_path)
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_live_line_shows_level_and_scores_on_a_terminal(toy_folder, notes_wav, tmp_path):
    terminal, end = os.openpty()
    arguments = [
        sys.executable,
        "-m",
        "kws",
        "listen",
        "--model",
        str(toy_folder),
        "--source",
        str(notes_wav),
    ]
    done = subprocess.run(
        arguments, stdout=subprocess.PIPE, stderr=end, check=True, env=program_environment(tmp_path)
    )
    os.close(end)
    live = os.read(terminal, 100_000).decode()
    os.close(terminal)
    assert "dB" in live
    assert "low note" in live
    assert done.stdout.count(b"note") == 2
