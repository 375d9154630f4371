"""Captures: what is kept, what never is, and disks that are full, read-only, slow or damaged."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import RATE_HZ, program_environment
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kws.cli import main
from kws.corpus import problems, read_corpus
from kws.daemon.archive import FOLDER, Capture, export, read_archive, remove
from kws.daemon.captures import Captures, CaptureSettings
from kws.errors import ConfigError, DataError
from kws.folders import find_state

KEEP = CaptureSettings(enabled=True)
RunKws = Callable[..., subprocess.CompletedProcess[str]]


def noise(seconds: float = 3.5, seed: int = 0) -> NDArray[np.int16]:
    """Loud, so that a second takes about 24 kB of FLAC."""
    return np.random.default_rng(seed).normal(0, 1000, round(seconds * RATE_HZ)).astype(np.int16)


def event(number: int = 1, kind: str = "detection", **changes: object) -> dict[str, Any]:
    return {
        "version": 1,
        "event": kind,
        "id": f"e{number}",
        "keyword": "hey jarvis",
        "score": 0.93,
        "time_s": 12.5,
        "wall_time": "2026-11-23T21:15:32.123Z",
    } | changes


def keep(folder: Path, *events: dict[str, Any], settings: CaptureSettings = KEEP) -> list[Capture]:
    """Store a second for each of these events; what is in the archive then."""
    captures = Captures(folder, settings)
    for each in events:
        captures.store(noise(1.0), each, 0.8)
        while captures._jobs.qsize() > 10:  # as rare as events are
            threading.Event().wait(0.001)
    captures.close()
    return read_archive(folder)


def test_capture_is_the_samples_and_why_they_were_kept(tmp_path: Path) -> None:
    samples = noise()
    captures = Captures(tmp_path / "a" / "b", KEEP)
    captures.store(samples, event(), 3.0)
    expected = samples.copy()
    samples[:] = 0  # the ring goes on while the disk is busy
    captures.close()
    (capture,) = read_archive(tmp_path / "a" / "b")
    kept, rate_hz = soundfile.read(capture.path, dtype="int16")
    assert rate_hz == RATE_HZ
    assert (kept == expected).all()
    assert capture.path.name == "000001-2026-11-23T21-15-32-detection-hey-jarvis.flac"
    assert (capture.number, capture.event, capture.event_at_s, capture.label) == (1, event(), 3.0, None)
    assert capture.bytes == sum(path.stat().st_size for path in capture.path.parent.iterdir())
    assert (captures.files, captures.bytes) == (1, capture.bytes)


def test_nothing_touches_the_disk_and_no_thread_starts_unless_enabled(tmp_path: Path) -> None:
    before = threading.active_count()
    captures = Captures(tmp_path / FOLDER, CaptureSettings())
    captures.store(noise(), event(), 3.0)
    captures.label("e1", "false")
    assert threading.active_count() == before
    captures.close()
    assert list(tmp_path.iterdir()) == []


def test_only_the_owner_can_read_captures(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER
    folder.mkdir(mode=0o755)
    old = os.umask(0)
    try:
        keep(folder, event())
    finally:
        os.umask(old)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_numbers_go_on_after_a_restart_and_the_clock_may_jump(tmp_path: Path) -> None:
    keep(
        tmp_path,
        event(1, wall_time="2026-11-23T21:15:32.123Z"),
        event(2, wall_time="1970-01-01T00:00:09.000Z"),
    )
    kept = keep(tmp_path, event(3, wall_time="2099-01-01T00:00:00.000Z"), event(4))
    assert [(c.number, c.event["id"]) for c in kept] == [(1, "e1"), (2, "e2"), (3, "e3"), (4, "e4")]


def test_oldest_go_first_when_the_size_is_reached_whatever_the_clock_says(tmp_path: Path) -> None:
    times = ("2099-01-01T00:00:00.000Z", "1970-01-01T00:00:00.000Z", "2026-11-23T21:15:32.123Z")
    events = [event(n, wall_time=times[n % 3]) for n in range(60)]
    settings = CaptureSettings(enabled=True, max_mb=1)
    kept = keep(tmp_path, *events, settings=settings)
    total = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert 900_000 < total <= 1_000_000
    assert [c.number for c in kept] == list(range(61 - len(kept), 61))


def test_smaller_size_holds_from_the_next_capture_on(tmp_path: Path) -> None:
    assert len(keep(tmp_path, *map(event, range(60)))) == 60
    kept = keep(tmp_path, event(60), settings=CaptureSettings(enabled=True, max_mb=1))
    assert kept[-1].number == 61
    assert sum(c.bytes for c in kept) <= 1_000_000


def test_label_reaches_the_capture_before_and_after_it_is_written(tmp_path: Path) -> None:
    captures = Captures(tmp_path, KEEP)
    captures.label("e1", "false")
    captures.store(noise(0.1), event(1), 0.1)
    captures.store(noise(0.1), event(2, "near-miss"), 0.1)
    captures.store(noise(0.1), event(3), 0.1)
    captures.label("e2", "missed")
    captures.label("never", "missed")
    captures.close()
    assert [c.label for c in read_archive(tmp_path)] == ["false", "missed", None]


def test_label_of_a_deleted_capture_is_dropped(tmp_path: Path) -> None:
    captures = Captures(tmp_path, KEEP)
    captures.store(noise(0.1), event(1), 0.1)
    while not read_archive(tmp_path):
        threading.Event().wait(0.005)
    remove(tmp_path, [1])
    captures.label("e1", "false")
    captures.close()
    assert list(tmp_path.iterdir()) == []


HARDENED = """
import ctypes, errno, sys
from pathlib import Path
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0):  # PR_SET_MDWE: no memory becomes executable
    sys.exit("unknown to this kernel")
import numpy as np
from kws.daemon.captures import Captures, CaptureSettings
captures = Captures(Path(sys.argv[1]), CaptureSettings(enabled=True))
captures.store(np.arange(16000, dtype=np.int16), {"id": "e1"}, 0.5)
captures.close()
"""


def test_captures_need_no_executable_memory(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HARDENED, str(tmp_path / FOLDER)],
        capture_output=True,
        text=True,
        check=False,
        env=program_environment(tmp_path),
    )
    if "unknown to this kernel" in done.stderr:
        pytest.skip("needs Linux 6.3")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(read_archive(tmp_path / FOLDER)) == 1


CROWDED = """
import os, resource, sys
from pathlib import Path
import numpy as np
from kws.daemon.captures import Captures, CaptureSettings
os.setuid(65534)  # root may start as many as it likes
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
captures = Captures(Path(sys.argv[1]), CaptureSettings(enabled=True))
captures.store(np.arange(16000, dtype=np.int16), {"id": "e1"}, 0.5)
captures.close()
"""


@pytest.mark.system
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
def test_no_room_for_a_thread_costs_captures(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CROWDED, str(tmp_path / FOLDER)],
        capture_output=True,
        text=True,
        check=True,
        env=program_environment(tmp_path),
    )
    assert done.stderr == "captures: not kept (can't start new thread); raise TasksMax, then reload\n"


@pytest.mark.system
def test_full_disk_costs_captures_and_one_warning(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    captures = Captures(small_disk / FOLDER, KEEP)
    for number in range(5):
        captures.store(noise(3.5), event(number), 3.0)  # 85 kB on a disk of 64
    captures.store(noise(0.5), event(9), 0.5)
    captures.close()
    assert [c.event["id"] for c in read_archive(small_disk / FOLDER)] == ["e9"]
    assert len(list((small_disk / FOLDER).iterdir())) == 2
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert len(warnings) == 1
    assert "No space left on device" in warnings[0]


def test_read_only_folder_costs_captures_and_one_warning(
    read_only: Path, caplog: pytest.LogCaptureFixture
) -> None:
    captures = Captures(read_only / FOLDER, KEEP)
    for number in range(5):
        captures.store(noise(0.1), event(number), 0.1)
    captures.label("e1", "false")
    captures.close()
    assert len(caplog.messages) == 1
    assert str(read_only) in caplog.messages[0]


def test_file_in_the_place_of_the_folder_costs_captures(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FOLDER).touch()
    captures = Captures(tmp_path / FOLDER, KEEP)
    captures.store(noise(0.1), event(), 0.1)
    captures.close()
    assert len(caplog.messages) == 1


def test_disk_that_comes_back_is_used_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    (tmp_path / FOLDER).touch()
    captures = Captures(tmp_path / FOLDER, KEEP)
    while not caplog.messages:  # it has looked for earlier captures
        threading.Event().wait(0.005)
    (tmp_path / FOLDER).unlink()
    captures.store(noise(0.1), event(2), 0.1)
    captures.close()
    assert [c.event["id"] for c in read_archive(tmp_path / FOLDER)] == ["e2"]
    assert [r.levelname for r in caplog.records] == ["WARNING", "INFO"]


def test_disk_too_slow_leaves_captures_out_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    captures, disk, hangs = Captures(tmp_path / FOLDER, KEEP), threading.Event(), threading.Event()
    captures._put(lambda: hangs.set() or disk.wait())
    assert hangs.wait(10)
    for number in range(40):
        captures.store(noise(0.1), event(number), 0.1)
    assert len(caplog.messages) == 1
    assert "too slow" in caplog.messages[0]
    disk.set()
    captures.close()
    assert 10 < len(read_archive(tmp_path / FOLDER)) < 20


def test_files_of_a_killed_run_are_cleared_and_strangers_are_left_alone(tmp_path: Path) -> None:
    keep(tmp_path, event(1))
    (tmp_path / "000007-x.flac.4711.part").write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("mine")
    kept = keep(tmp_path, event(2))
    assert [c.event["id"] for c in kept] == ["e1", "e2"]
    assert not list(tmp_path.glob("*.part"))
    assert (tmp_path / "notes.txt").exists()


@pytest.mark.parametrize(
    "damage", [b"", b"\x00" * 50, b"[1, 2]", b"null", b'{"event": 5, "label": []}', b"[" * 100_000]
)
def test_damaged_description_leaves_a_capture_of_unknown_origin(
    damage: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (capture,) = keep(tmp_path / FOLDER, event())
    capture.path.with_suffix(".json").write_bytes(damage)
    (damaged,) = read_archive(tmp_path / FOLDER)
    assert (damaged.kind, damaged.keyword, damaged.label, damaged.event_at_s) == ("unknown", "", None, None)
    _, counts = export([damaged], tmp_path / "corpus")
    assert counts == {"spoken": 0, "false": 0, "unknown": 1, "damaged": 0}
    assert main(["captures", "--folder", str(tmp_path / FOLDER)]) == 0
    assert "unknown" in capsys.readouterr().out


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
descriptions = st.fixed_dictionaries(
    {},
    optional={
        "event_at_s": json_values,
        "label": json_values,
        "event": json_values
        | st.fixed_dictionaries(
            {}, optional=dict.fromkeys(("event", "keyword", "score", "wall_time", "id"), json_values)
        ),
    },
)


@hypothesis_settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(descriptions | json_values)
def test_any_description_can_be_listed_and_exported(tmp_path: Path, description: object) -> None:
    folder = tmp_path / FOLDER
    folder.mkdir(exist_ok=True)
    soundfile.write(folder / "000001-x.flac", noise(0.1), RATE_HZ)
    (folder / "000001-x.json").write_text(json.dumps(description))
    assert main(["captures", "--folder", str(folder)]) == 0
    (capture,) = read_archive(folder)
    json.dumps(capture.fields())
    export([capture], tmp_path / "corpus")
    read_corpus(tmp_path / "corpus")


def test_export_is_a_sound_corpus(tmp_path: Path) -> None:
    captures = Captures(tmp_path / FOLDER, KEEP)
    samples = noise(3.5)
    said = [
        ("detection", None),
        ("detection", "false"),
        ("near-miss", None),
        ("near-miss", "missed"),
        ("missed", "missed"),
    ]
    for number, (kind, label) in enumerate(said):
        captures.store(samples, event(number, kind), None if kind == "missed" else 3.0)
        if label:
            captures.label(f"e{number}", label)
    captures.close()
    manifest, counts = export(read_archive(tmp_path / FOLDER), tmp_path / "corpus")
    assert manifest == tmp_path / "corpus" / "manifest.csv"
    assert counts == {"spoken": 3, "false": 1, "unknown": 1, "damaged": 0}
    clips = read_corpus(tmp_path / "corpus")
    assert not problems(clips)
    assert [(c.kind, c.label, c.split, c.seconds) for c in clips] == [
        ("keyword", "hey jarvis", "train", 1.95),
        ("speech", "", "train", 3.5),
        ("keyword", "hey jarvis", "train", 1.95),
        ("keyword", "hey jarvis", "train", 3.5),
    ]
    word, _ = soundfile.read(clips[0].path, dtype="int16")
    assert (word == samples[round(1.35 * RATE_HZ) : round(3.3 * RATE_HZ)]).all()


def test_export_again_adds_what_is_new_and_knows_what_was_said_since(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "manifest.csv").write_text(
        "path,label,kind,speaker,seconds,split\nmine/a.wav,hey jarvis,keyword,anna,1.0,dev\n"
    )
    first = keep(tmp_path / FOLDER, event(1), event(2))
    export(first, corpus)
    remove(tmp_path / FOLDER, [1])
    captures = Captures(tmp_path / FOLDER, KEEP)
    captures.store(noise(1.0), event(3), 0.8)
    captures.close()
    path = first[1].path.with_suffix(".json")
    path.write_text(path.read_text().replace('"label": null', '"label": "false"'))
    export(read_archive(tmp_path / FOLDER), corpus)
    clips = {c.path.name[:6]: (c.kind, c.split) for c in read_corpus(corpus)}
    assert clips == {
        "a.wav": ("keyword", "dev"),
        "000001": ("keyword", "train"),  # deleted from the archive, kept in the corpus
        "000002": ("speech", "train"),
        "000003": ("keyword", "train"),
    }


@pytest.mark.parametrize(
    "manifest", [b"a,b\n1,2\n", b"path,label\nx,y,z\n", b"path\n\xff\n", b"path,mood\nx,good\n"]
)
def test_table_that_is_no_corpus_is_not_written_over(manifest: bytes, tmp_path: Path) -> None:
    captures = keep(tmp_path / FOLDER, event())
    (tmp_path / "manifest.csv").write_bytes(manifest)
    with pytest.raises(DataError, match=r"see docs/corpus\.md"):
        export(captures, tmp_path)
    assert (tmp_path / "manifest.csv").read_bytes() == manifest


@pytest.mark.system
def test_export_to_a_full_disk_says_so(
    small_disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    captures = Captures(tmp_path / FOLDER, KEEP)
    captures.store(noise(3.5), event(1), None)
    captures.close()
    assert main(["captures", "export", str(small_disk), "--folder", str(tmp_path / FOLDER)]) == 1
    assert "No space left on device; make room" in capsys.readouterr().err
    assert not (small_disk / "manifest.csv").exists()
    assert list((small_disk / FOLDER).iterdir()) == []


def test_nothing_heard_is_no_capture(tmp_path: Path) -> None:
    captures = Captures(tmp_path / FOLDER, KEEP)
    captures.store(noise(0), event(1), None)
    captures.close()
    assert read_archive(tmp_path / FOLDER) == []


def test_capture_that_is_no_audio_is_left_out(tmp_path: Path) -> None:
    (capture,) = keep(tmp_path / FOLDER, event())
    for damage in (b"", b"fLaC", b"\x00" * 5000):  # power was lost
        capture.path.write_bytes(damage)
        _, counts = export([capture], tmp_path / "corpus")
        assert counts == {"spoken": 0, "false": 0, "unknown": 0, "damaged": 1}
    assert read_corpus(tmp_path / "corpus") == []


def test_command_lists_deletes_and_exports(run_kws: RunKws, tmp_path: Path) -> None:
    folder = tmp_path / "state" / "kws" / FOLDER
    keep(folder, event(1), event(2, "near-miss", score=0.61))
    service = {"STATE_DIRECTORY": str(folder.parent)}
    listed = run_kws("captures", **service)
    assert listed.returncode == 0
    assert [line.split() for line in listed.stdout.splitlines()[1:3]] == [
        ["1", "2026-11-23", "21:15:32", "detection", "0.93", "25", "hey", "jarvis"],
        ["2", "2026-11-23", "21:15:32", "near-miss", "0.61", "25", "hey", "jarvis"],
    ]
    objects = [json.loads(line) for line in run_kws("captures", "--json", **service).stdout.splitlines()]
    assert [(o["number"], o["event"]["id"], o["label"]) for o in objects] == [
        (1, "e1", None),
        (2, "e2", None),
    ]
    exported = run_kws("captures", "export", tmp_path / "corpus", **service)
    assert "1 spoken keywords, 0 false detections" in exported.stdout
    checked = run_kws("corpus", "check", "--strict", tmp_path / "corpus")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert run_kws("captures", "delete", 1, "--folder", folder).returncode == 0
    assert [c.number for c in read_archive(folder)] == [2]
    assert run_kws("captures", "delete", "--all", "--folder", folder).returncode == 0
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["delete"], "by number, or give --all"),
        (["delete", "1", "--all"], "by number, or give --all"),
        (["delete", "1", "7"], "there is no capture 7; list them: kws captures"),
    ],
)
def test_command_deletes_nothing_when_asked_wrongly(
    arguments: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(tmp_path, event())
    assert main(["captures", *arguments, "--folder", str(tmp_path)]) == ConfigError.exit_code
    assert complaint in capsys.readouterr().err
    assert len(read_archive(tmp_path)) == 1


def test_command_without_captures_says_how_to_have_some(run_kws: RunKws, tmp_path: Path) -> None:
    done = run_kws("captures", "--folder", tmp_path / "nowhere")
    assert done.returncode == 0
    assert "enabled: true" in done.stdout


@pytest.mark.system
def test_folder_of_the_service_asks_for_sudo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if os.geteuid():
        pytest.skip("needs root, to become somebody else")
    keep(tmp_path / FOLDER, event())
    tmp_path.chmod(0o755)
    os.seteuid(65534)
    try:
        code = main(["captures", "--folder", str(tmp_path / FOLDER)])
    finally:
        os.seteuid(0)
    assert code == 1
    assert "Permission denied; run it with sudo" in capsys.readouterr().err


def test_users_own_folder_is_found_before_the_services(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state" / "kws"))
    assert find_state(FOLDER) == Path("/var/lib/kws/captures")
    assert find_state(FOLDER, "kitchen") == Path("/var/lib/kws-kitchen/captures")
    for parent in ("config", "state"):  # systemd before 254 has the user's state with the configuration
        (tmp_path / parent / "kws" / FOLDER).mkdir(parents=True)
        assert find_state(FOLDER) == tmp_path / parent / "kws" / FOLDER
    (tmp_path / "state" / "kws-kitchen" / FOLDER).mkdir(parents=True)
    assert find_state(FOLDER, "kitchen") == tmp_path / "state" / "kws-kitchen" / FOLDER


@pytest.mark.parametrize(
    "wrong",
    [
        {"before_seconds": 0.1},
        {"before_seconds": 60.0},
        {"after_seconds": -1.0},
        {"after_seconds": float("nan")},
        {"max_mb": 0},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        CaptureSettings(**wrong)
