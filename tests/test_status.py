"""What a user sees of a running daemon: commands in processes of their own, and a real server's sockets."""

import contextlib
import copy
import fcntl
import itertools
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from conftest import program_environment
from hypothesis import given
from hypothesis import strategies as st
from sockets import Running

from kws.cli import main
from kws.client import ask, events, find_runtime
from kws.daemon import server
from kws.errors import KwsError
from kws.live_view import View
from kws.prometheus import exposition
from kws.protocol import REQUEST_BYTES_MAX, STATUS
from kws.status_view import clock, duration, text, watts

SNAPSHOT = json.loads((Path(__file__).parent / "data" / "status.json").read_text())
HEARD = SNAPSHOT["last_events"][-1]


class Daemon:
    """Answers as the appliance does, from a recorded snapshot."""

    def __init__(self):
        self.snapshot = copy.deepcopy(SNAPSHOT)
        self.asked = []

    def answer(self, request, may_control):
        self.asked.append(request)
        if request["request"] == "status":
            return self.snapshot
        if not may_control:
            raise KwsError("this is not for everybody; use the other socket")
        if request["request"] == "mute":
            return {"muted_until": request["seconds"] and "2026-11-23T21:34:00+00:00"}
        return {"keyword": request.get("keyword") or "computer"}


@pytest.fixture
def daemon():
    return Daemon()


@pytest.fixture
def running(daemon, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    with Running(tmp_path / "kws", daemon.answer) as running:
        yield running


def paths(value, at=()):
    """Ways to every value of every dictionary."""
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(value, dict):
            yield (*at, key)
        if isinstance(item, (dict, list)):
            yield from paths(item, (*at, key))


def without(snapshot, at, is_null):
    """The snapshot without one value, or with null there."""
    snapshot = copy.deepcopy(snapshot)
    section = snapshot
    for key in at[:-1]:
        section = section[key]
    if is_null:
        section[at[-1]] = None
    else:
        del section[at[-1]]
    return snapshot


def test_the_document_has_every_key_and_the_bounds():
    document = (Path(__file__).parent.parent / "docs" / "status.md").read_text()
    keys = SNAPSHOT.keys() | {key for event in SNAPSHOT["last_events"] for key in event}
    assert [key for key in sorted(keys) if f"`{key}`" not in document and key != "version"] == []
    for bound in (
        f"at most {REQUEST_BYTES_MAX} bytes and {server.TIMEOUT_S:.0f} seconds",
        f"{server.CLIENTS_MAX} requests may be open",
        f"{server.SUBSCRIBERS_MAX} programs may subscribe",
        f"{server.QUEUE_BYTES_MAX} bytes of events may wait",
    ):
        assert bound in document.replace("\n", " ")


def test_status_shows_what_matters(running, run_kws):
    done = run_kws("status")
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= 90
    shown = " ".join(done.stdout.split())
    for words in (
        "kws listening: on ReSpeaker 4 Mic Array (UAC1.0)",
        "running for 3 h 15 min",
        "rate 48000 Hz, channel 0 of 6",
        "level -42 dBFS, background -62 dBFS",
        "lost 160 ms, gaps 1, overflows 0, reopens 1",
        "gate open 8.3 %",
        "this program 4.5 mW (estimated: CPU time and the table of boards)",
        "machine 2.09 W (measured-board: INA219 at hwmon3)",
        "CPU 9.4 ms a second",
        "total 81.6 84.0 87.1 102.2 81.6 84.9 89.0 262.9",
        "throttled: under-voltage since boot",
        "computer 14 3 1 0 4.30",
        "computer 0.98",
        "jarvis 0.71 near miss",
        "thresholds: alexa 0.912",
        "thresholds for 1 false accept a day",
        "off: no audio is kept",
    ):
        assert words in shown


def test_status_of_a_state_that_is_not_well_fails(running, daemon, run_kws):
    for state, code in [("muted", 0), ("lost", 1), ("silent", 1), ("opening", 1)]:
        daemon.snapshot |= {"state": state, "reason": "for a test"}
        done = run_kws("status")
        assert (done.returncode, done.stderr) == (code, "")
        assert f"{state}: for a test" in done.stdout


def test_status_as_json_is_what_the_daemon_said(running, run_kws):
    assert json.loads(run_kws("status", "--json").stdout) == SNAPSHOT


def test_status_for_prometheus_goes_to_standard_output(running, run_kws):
    done = run_kws("status", "--prometheus")
    assert (done.returncode, done.stdout, done.stderr) == (0, exposition(SNAPSHOT), "")


@pytest.mark.parametrize("is_null", [True, False])
def test_whatever_is_missing_the_rest_is_shown(is_null):
    for at in paths(SNAPSHOT):
        snapshot = without(SNAPSHOT, at, is_null)
        for lines in (text(snapshot), "\n".join(View().lines(snapshot, 0.0))):
            assert "None" not in lines, at
            assert lines.count("\n") > 10, at


def test_nothing_at_all_is_still_a_status():
    assert "unavailable" in text({})
    assert all("None" not in line for line in View().lines({}, 0.0))
    unknown = dict.fromkeys(SNAPSHOT) | {"version": 1}
    assert text(unknown).count("unavailable") >= len(unknown) - 10


@given(
    st.none() | st.floats(0, 1e4),
    st.sampled_from(["measured-board", "measured-package", "estimated", "unavailable", None]),
    st.none() | st.just("a basis"),
)
def test_a_watt_never_goes_without_its_kind(value, kind, basis):
    shown = watts({"watts": value, "kind": kind, "basis": basis})
    assert (kind or "unavailable") in shown or value is None
    assert ("unavailable" in shown) is (value is None or kind in (None, "unavailable"))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "unavailable"),
        (0.0, "0 s"),
        (8.24, "8.2 s"),
        (119.4, "119 s"),
        (120, "2 min"),
        (7199, "119 min"),
        (7200, "2 h 0 min"),
        (11721.4, "3 h 15 min"),
        (172_800, "2 d 0 h"),
        (20_000_000, "231 d 11 h"),
    ],
)
def test_durations(seconds, words):
    assert duration(seconds) == words


def test_a_clock_shows_local_time_and_the_date_of_another_day(monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    assert clock("2020-01-01T20:00:00Z") == "2020-01-02 01:30:00"
    today = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + "Z"
    assert clock(today) == time.strftime("%H:%M:%S")
    assert clock("yesterday") == "yesterday"


def test_events_come_as_json_lines_and_end_after_enough(running, tmp_path):
    program = [sys.executable, "-m", "kws", "events", "--count", "2"]
    with subprocess.Popen(
        program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=program_environment(tmp_path)
    ) as process:
        running.wait_for_subscribers(1)
        running.publish(HEARD)
        assert json.loads(process.stdout.readline()) == HEARD  # at once, not when a buffer is full
        running.publish(HEARD | {"id": 4, "keyword": "ä"})
        assert process.wait(10) == 0
        assert '"ä"' in process.stdout.read()
        assert process.stderr.read() == ""


def test_events_end_with_a_sentence_when_the_daemon_ends_and_with_ctrl_c(daemon, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    endings = []
    for ends_first in (True, False):
        with Running(tmp_path / "kws", daemon.answer) as running:
            process = subprocess.Popen(
                [sys.executable, "-m", "kws", "events"],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=program_environment(tmp_path),
            )
            running.wait_for_subscribers(1)
            if not ends_first:
                process.send_signal(signal.SIGINT)
                process.wait(10)
        output, error = process.communicate(timeout=10)
        endings.append((process.returncode, output, error))
    assert endings[0] == (1, "", "kws: kws has ended; look at its log: journalctl -u kws\n")
    assert endings[1] == (130, "", "")


def test_mute_unmute_and_feedback_say_what_they_did(running, daemon, run_kws):
    assert run_kws("mute").stdout == "muted until: kws unmute\n"
    assert re.fullmatch(r"muted until .*21:34:00\n", run_kws("mute", "--for", "30m").stdout)
    assert run_kws("unmute").stdout == "unmuted\n"
    assert run_kws("feedback", "false").stdout == "noted: computer was a false accept\n"
    assert run_kws("feedback", "missed", "alexa").stdout == "noted: alexa was missed\n"
    assert [{k: v for k, v in asked.items() if k != "version"} for asked in daemon.asked] == [
        {"request": "mute", "seconds": None},
        {"request": "mute", "seconds": 1800},
        {"request": "unmute"},
        {"request": "feedback", "kind": "false", "keyword": None},
        {"request": "feedback", "kind": "missed", "keyword": "alexa"},
    ]


@pytest.mark.parametrize("time", ["30", "m", "-5m", "1.5h", "0m", "5w", ""])
def test_a_time_needs_a_number_and_a_unit(time, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["mute", f"--for={time}"])
    assert ended.value.code == 2
    assert "90s, 30m, 2h or 1d" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["status"], ["events"], ["mute"], ["unmute"], ["feedback", "false"]])
def test_without_a_daemon_there_is_the_next_step(run_kws, arguments, tmp_path):
    done = run_kws(*arguments, "--instance", "kitchen", XDG_RUNTIME_DIR=str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("kws: kws is not running (nobody answers in ")
    assert done.stderr.endswith("start it: sudo systemctl start kws@kitchen, or kws run\n")


def test_an_instance_is_asked_by_its_name(daemon, tmp_path, run_kws):
    with Running(tmp_path / "kws-kitchen", daemon.answer):
        done = run_kws("status", "--instance", "kitchen", XDG_RUNTIME_DIR=str(tmp_path))
    assert done.returncode == 0


def test_a_folder_that_a_daemon_left_behind_does_not_hide_another(daemon, tmp_path, monkeypatch):
    monkeypatch.setattr("kws.client.MACHINE_PARENT", str(tmp_path / "machine"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "own"))
    (tmp_path / "own" / "kws").mkdir(parents=True)
    with Running(tmp_path / "machine" / "kws", daemon.answer) as machine:
        assert find_runtime() == str(machine.folder)
        with Running(tmp_path / "own" / "kws", daemon.answer) as own:
            assert find_runtime() == str(own.folder)
        assert find_runtime() == str(machine.folder)


def test_watch_wants_a_terminal(running, run_kws):
    done = run_kws("status", "--watch")
    assert done.returncode == 2
    assert "--watch draws on a terminal" in done.stderr


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_watch_draws_and_gives_the_terminal_back(running, daemon, tmp_path, end):
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, b"\x1e\x00\x64\x00\x00\x00\x00\x00")  # 30 rows of 100 cells
    process = subprocess.Popen(
        [sys.executable, "-m", "kws", "status", "--watch"],
        stdout=follower,
        stdin=follower,
        stderr=subprocess.PIPE,
        env=program_environment(tmp_path),
    )
    os.close(follower)
    screen = read_until(leader, b"0.31, threshold 0.87")
    assert screen.startswith(b"\x1b[?1049h")
    daemon.snapshot["last_events"].append(HEARD | {"id": 4, "keyword": "alexa"})
    read_until(leader, b"\x1b[1;7m")  # what is new stands out
    process.send_signal(end)
    rest = read_until(leader, b"\x1b[?1049l")
    assert rest.endswith(b"\x1b[?7h\x1b[?25h\x1b[?1049l")
    assert process.wait(10) == {signal.SIGINT: 130, signal.SIGTERM: 143}[end]
    assert process.stderr.read() == b""
    process.stderr.close()
    os.close(leader)


def read_until(terminal, wanted):
    shown, end = b"", time.monotonic() + 10
    while wanted not in shown:
        assert time.monotonic() < end, shown
        shown += os.read(terminal, 65_536)
    return shown


def test_watch_holds_a_peak_for_a_second():
    view = View(is_coloured=False)
    shown = []
    for now_s, score in [(0.0, 0.1), (0.2, 0.97), (0.4, 0.0), (1.1, 0.0), (1.3, 0.0)]:
        lines = view.lines({"scores": {"alexa": score}}, now_s)
        shown += [line.split()[-1] for line in lines if line.startswith("alexa")]
    assert shown == ["0.10", "0.97", "0.97", "0.97", "0.00"]


def test_who_may_not_control_is_told_the_group(running):
    if os.geteuid() != 0:
        pytest.skip("needs root, to become somebody else")
    for folder in (running.folder, *running.folder.parents[:3]):
        folder.chmod(0o755)
    os.seteuid(65534)
    try:
        if not os.access(running.folder, os.X_OK, effective_ids=True):
            pytest.skip("the folder of the tests is closed to others")
        assert ask({"request": "status"}, running.folder)["state"] == "listening"
        with pytest.raises(KwsError, match=r"join group audio .* or use sudo"):
            ask({"request": "mute", "seconds": None}, running.folder, control=True)
    finally:
        os.seteuid(0)


def test_a_daemon_of_another_version_or_without_an_answer_is_named(tmp_path):
    answers = iter([{"version": 2}, {"error": "no; not today"}])
    with Running(tmp_path / "kws", lambda *_: next(answers)) as running:
        with pytest.raises(KwsError, match=r"it speaks 2, this one 1.*restart kws"):
            ask({"request": "status"}, running.folder)
        with pytest.raises(KwsError, match="no; not today"):
            ask({"request": "status"}, running.folder)


def test_a_daemon_that_hangs_is_not_waited_for_forever(tmp_path, monkeypatch):
    monkeypatch.setattr("kws.client.TIMEOUT_S", 1)
    with socket.socket(socket.AF_UNIX) as hanging, contextlib.ExitStack() as crowd:
        hanging.bind(str(tmp_path / STATUS))
        hanging.listen(1)
        for _ in range(2):  # the second cannot even connect
            start = time.monotonic()
            with pytest.raises(KwsError, match="runs but does not answer; look at its log"):
                ask({"request": "status"}, tmp_path)
            assert 0.9 < time.monotonic() - start < 5
            for _ in range(3):
                client = crowd.enter_context(socket.socket(socket.AF_UNIX))
                client.setblocking(False)
                client.connect_ex(str(tmp_path / STATUS))


def test_a_slow_reader_of_events_learns_why_it_was_dropped(running):
    stream = events(running.folder)
    running.wait_for_subscribers(1)
    for number in range(300):
        running.publish({"event": "detection", "id": number, "padding": "x" * 1000})
    received = itertools.takewhile(lambda event: event["event"] != "dropped", stream)
    ids = [event["id"] for event in received]
    assert ids == list(range(len(ids)))
    with pytest.raises(KwsError, match=r"no more events to this program: .*read faster"):
        next(stream)
