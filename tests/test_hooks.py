"""Hooks: real programs, the well-behaved ones and those that do all they can to hold up the daemon."""

import logging
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import is_alive, until

from kws import config
from kws.daemon.hooks import AT_ONCE, Hooks, HookSettings
from kws.errors import ConfigError

EVENT = {
    "version": 1,
    "event": "detection",
    "id": "17",
    "keyword": "hey jarvis",
    "score": 0.93,
    "time_s": 12.5,
    "wall_time": "2026-11-23T21:15:32.123Z",
    "latency_ms": None,
}
Start = Callable[..., Hooks]


@pytest.fixture
def start() -> Iterator[Start]:
    """Hooks that have been told of EVENT; ended after the test."""
    made: list[Hooks] = []

    def start(*command: str, **settings: object) -> Hooks:
        hooks = Hooks((HookSettings(command, **settings),))  # type: ignore[arg-type]
        made.append(hooks)
        hooks.start(EVENT)
        return hooks

    yield start
    for hooks in made:
        hooks.close()


def finish(hooks: Hooks, within_s: float = 20) -> float:
    """Poll as the daemon does until nothing runs; returns the seconds that took."""
    begin = time.monotonic()
    while (wait_s := hooks.poll()) is not None:
        assert wait_s > 0  # or the daemon would spin
        assert time.monotonic() - begin < within_s
        time.sleep(wait_s)
    return time.monotonic() - begin


def number_in(path: Path) -> int:
    until(lambda: path.exists() and path.read_text().endswith("\n"))
    return int(path.read_text())


def test_fields_reach_arguments_and_environment(start: Start, tmp_path: Path) -> None:
    out = tmp_path / "out"
    script = 'printf "%s|" "$@" "$KWS_EVENT" "$KWS_KEYWORD" "$KWS_SCORE" "[$KWS_LATENCY_MS]" "$PWD" > ' + str(
        out
    )
    finish(start("sh", "-c", script, "name", "{keyword} at {time_s} s", '{"a": {nothing}}', "$(id) {id}"))
    assert out.read_text() == (
        'hey jarvis at 12.5 s|{"a": {nothing}}|$(id) 17|detection|hey jarvis|0.93|[]|/|'
    )


def test_environment_holds_nothing_of_the_daemons_secrets(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY", "STATE_DIRECTORY", "MQTT_PASSWORD", "PYTHONPATH"):
        monkeypatch.setenv(name, "secret")
    finish(
        start(sys.executable, "-c", f"import os; open('{tmp_path}/out', 'w').write(str(dict(os.environ)))")
    )
    environment = (tmp_path / "out").read_text()
    assert "secret" not in environment
    assert "'PATH'" in environment


def test_hook_gets_no_descriptor_and_gives_way_to_the_audio(start: Start, tmp_path: Path) -> None:
    secret = os.open("/etc/hostname", os.O_RDONLY)
    os.set_inheritable(secret, True)
    script = (
        "import os; fds = sorted(os.listdir('/proc/self/fd')); "
        f"open('{tmp_path}/out', 'w').write(f'{{fds}} {{os.getsid(0) == os.getpid()}}')"
    )
    hooks = start(sys.executable, "-c", script)
    (running,) = hooks._running
    assert os.getpriority(os.PRIO_PROCESS, running._process.pid) == 5
    finish(hooks)
    os.close(secret)
    assert (tmp_path / "out").read_text() == "['0', '1', '2', '3'] True"


def test_good_hook_is_silent(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    finish(start("sh", "-c", "echo all is well; echo really >&2"))
    assert not caplog.messages


def test_failed_hook_is_told_with_the_end_of_what_it_said(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    finish(start("sh", "-c", r"seq 1 10000; printf 'no \033[31m\000light\n<0>fake'; exit 3"))
    (message,) = caplog.messages
    assert message.startswith("hook sh -c seq 1 10000; printf 'no")
    assert ": failed with code 3; it said: " in message
    assert message.endswith(" 10000 no [31mlight <0>fake")  # one line, nothing for the terminal to obey
    assert len(message) < 2200


def test_hook_that_crashes_is_told_by_its_signal(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    finish(start("sh", "-c", "kill -SEGV $$"))
    assert caplog.messages == ["hook sh -c kill -SEGV $$: failed with signal 11; it said: nothing"]


def test_signal_without_a_name_is_survived(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    finish(start("sh", "-c", "kill -40 $$"))
    assert caplog.messages == ["hook sh -c kill -40 $$: failed with signal 40; it said: nothing"]


def test_daemon_that_ignores_its_children_can_have_hooks(start: Start, tmp_path: Path) -> None:
    old = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert finish(start("touch", str(tmp_path / "out"))) < 5
    finally:
        signal.signal(signal.SIGCHLD, old)
    assert (tmp_path / "out").exists()


def test_hook_that_prints_megabytes_ends_and_costs_no_memory(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    hooks = start("sh", "-c", "head -c 5000000 /dev/zero; echo done; exit 1")
    (running,) = hooks._running
    largest = 0
    while (wait_s := hooks.poll()) is not None:
        largest = max(largest, len(running._tail))
        time.sleep(wait_s)
    assert largest == 2048
    assert caplog.messages[0].endswith("done")


def test_hook_that_prints_for_ever_is_ended_and_hardly_costs(start: Start) -> None:
    before = time.process_time()
    assert finish(start("yes", timeout_seconds=0.5)) < 5
    assert time.process_time() - before < 0.4  # of half a second


def test_hook_that_hangs_and_ignores_term_is_killed_with_all_it_started(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    child = tmp_path / "child"
    hooks = start(
        "sh", "-c", f"trap '' TERM; sleep 1000 & echo $! > {child}; sleep 1000", timeout_seconds=0.3
    )
    pid = number_in(child)
    took_s = finish(hooks)
    assert 2 < took_s < 8  # the grace between TERM and KILL
    (message,) = caplog.messages
    assert re.search(r"\.\.\.: ended by force after [2-7]\.\d s; it said: nothing$", message)
    until(lambda: not is_alive(pid))


def test_hook_that_obeys_term_can_tidy_up(start: Start, tmp_path: Path) -> None:
    ready, tidy = tmp_path / "ready", tmp_path / "tidy"
    hooks = start(
        "sh",
        "-c",
        f"trap 'echo x > {tidy}; exit' TERM; echo x > {ready}; sleep 1000 & wait",
        timeout_seconds=1,
    )
    until(ready.exists)
    assert finish(hooks) < 2.5
    assert tidy.exists()


def test_what_a_hook_leaves_behind_ends_with_it(start: Start, tmp_path: Path) -> None:
    child = tmp_path / "child"
    assert finish(start("sh", "-c", f"sleep 1000 & echo $! > {child}")) < 5  # though it holds the pipe
    pid = number_in(child)
    until(lambda: not is_alive(pid))


def test_process_that_left_the_group_and_prints_on_holds_nothing_up(start: Start, tmp_path: Path) -> None:
    child = tmp_path / "child"
    hooks = start(
        "sh", "-c", f"setsid sh -c 'echo $$ > {child}; exec yes' & while ! test -s {child}; do :; done"
    )
    assert finish(hooks) < 5
    pid = number_in(child)
    until(lambda: not is_alive(pid))  # nobody reads its pipe any more


def test_more_hooks_than_allowed_are_left_out_and_told(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    script = f"echo x >> {tmp_path}/ran; sleep 1000"
    hooks = Hooks((HookSettings(("sh", "-c", script)),) * (AT_ONCE + 2))
    begin = time.monotonic()
    hooks.start(EVENT)
    assert time.monotonic() - begin < 5  # it does not wait for them
    assert len(hooks._running) == AT_ONCE
    assert len(caplog.messages) == 2
    assert "left out" in caplog.messages[0]
    until(lambda: (tmp_path / "ran").exists() and (tmp_path / "ran").read_text() == "x\n" * AT_ONCE)
    begin = time.monotonic()
    hooks.close()
    assert time.monotonic() - begin < 10
    assert not hooks._running


def test_ended_hooks_make_room_without_a_poll(start: Start, tmp_path: Path) -> None:
    out = tmp_path / "out"
    hooks = start("sh", "-c", f"echo x >> {out}")
    for count in range(2, 3 * AT_ONCE):
        until(lambda: out.exists() and out.read_text() == "x\n" * (count - 1))  # noqa: B023
        time.sleep(0.05)  # for the shell to end
        hooks.start(EVENT)
    until(lambda: out.read_text() == "x\n" * (3 * AT_ONCE - 1))


def test_close_kills_what_ignores_it(tmp_path: Path, start: Start) -> None:
    child = tmp_path / "child"
    hooks = start("sh", "-c", f"trap '' TERM; echo $$ > {child}; while :; do sleep 1; done")
    pid = number_in(child)
    begin = time.monotonic()
    hooks.close(timeout_s=0.3)
    assert time.monotonic() - begin < 10
    assert not is_alive(pid)
    assert hooks.poll() is None


@pytest.mark.parametrize("program", ["there-is-no-such-program", "/etc/passwd", "/nowhere/x", "/"])
def test_program_that_cannot_run_is_told_at_once_and_when_it_is_wanted(
    program: str, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    hooks = start(program)
    assert hooks.poll() is None
    assert [m.split(" (")[0] for m in caplog.messages] == [
        f"hook {program}: there is no such program; install it or correct hooks",
        f"hook {program}: cannot start",
    ]


def test_fields_that_no_program_could_take_are_survived(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    hooks = Hooks((HookSettings(("touch", f"{tmp_path}/{{keyword}}")),))
    for keyword in ("zero\0byte", "\ud800", "x" * 3_000_000):
        hooks.start(EVENT | {"keyword": keyword})
        finish(hooks)
    assert [path.name for path in tmp_path.iterdir()] == ["zerobyte"]
    assert len(caplog.messages) == 2
    assert all(m.startswith("hook touch /") and ": cannot start (" in m for m in caplog.messages)


def test_out_of_processes_is_a_warning(start: Start, tmp_path: Path) -> None:
    """The service limits its tasks; here the limit is that of descriptors, which a pipe needs too."""
    script = f"""
import logging, resource, sys
logging.basicConfig(stream=sys.stdout, format="%(message)s")
from kws.daemon.hooks import Hooks, HookSettings
hooks = Hooks((HookSettings(("true",)),))
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
hooks.start({EVENT!r})
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
hooks.start({EVENT!r})
while hooks.poll() is not None: pass
print("alive")
"""
    import subprocess  # noqa: PLC0415

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    first, last = done.stdout.splitlines()
    assert first.startswith("hook true: cannot start (Too many open files")
    assert last == "alive"


def test_daemon_that_ignores_signals_does_not_teach_it_to_its_hooks(start: Start, tmp_path: Path) -> None:
    old = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        finish(start("sh", "-c", f"yes | head -1 > {tmp_path}/out"))
    finally:
        signal.signal(signal.SIGPIPE, old)
    assert (tmp_path / "out").read_text() == "y\n"


def test_hook_runs_on_its_events_and_keywords_only() -> None:
    near = EVENT | {"event": "near-miss"}
    state = {"version": 1, "event": "state", "state": "lost", "reason": "unplugged"}
    every = HookSettings(("x",))
    assert [every.wants(e) for e in (EVENT, near, state)] == [True, False, False]
    some = HookSettings(("x",), events=("detection", "near-miss"), keywords=("alexa",))
    assert [some.wants(e) for e in (EVENT, near, EVENT | {"keyword": "alexa"})] == [False, False, True]
    states = HookSettings(("x",), events=("state",))
    assert [states.wants(e) for e in (EVENT, state)] == [False, True]


def test_new_settings_hold_from_now_on(start: Start, tmp_path: Path) -> None:
    hooks = start("sh", "-c", f"while ! test -e {tmp_path}/go; do sleep 0.01; done; touch {tmp_path}/old")
    hooks.configure((HookSettings(("touch", f"{tmp_path}/new")),))
    hooks.start(EVENT)
    (tmp_path / "go").touch()
    finish(hooks)
    assert {path.name for path in tmp_path.iterdir()} == {"go", "old", "new"}


def test_without_hooks_nothing_wants_attention() -> None:
    hooks = Hooks()
    hooks.start(EVENT)
    assert hooks.poll() is None
    hooks.close()


@pytest.mark.parametrize(
    ("hook", "complaint"),
    [
        ({"command": []}, "command is empty"),
        ({"command": [""]}, "command is empty"),
        ({"command": ["./mine.sh"]}, "depends on a folder"),
        ({"command": ["a\0b"]}, "zero byte"),
        ({"command": "rm -rf /"}, "must be a list"),
        ({"command": ["x"], "timeout_seconds": 0}, "timeout_seconds"),
        ({"command": ["x"], "timeout_seconds": float("nan")}, "timeout_seconds"),
        ({"command": ["x"], "events": ["detected"]}, "events"),
        ({}, "command is missing"),
    ],
)
def test_settings_that_could_not_run_are_refused(hook: object, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        config.parse([hook], tuple[HookSettings, ...])


def test_settings_come_from_yaml() -> None:
    (hook,) = config.parse(
        [{"command": ["aplay", "/x.wav"], "keywords": ["alexa"]}], tuple[HookSettings, ...]
    )
    assert hook == HookSettings(("aplay", "/x.wav"), keywords=("alexa",))


def test_log_is_the_modules(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    finish(start("false"))
    assert [(r.name, r.levelno) for r in caplog.records] == [("kws.daemon.hooks", logging.WARNING)]


def test_file_that_is_no_program_is_told(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "hook"
    path.write_text("aplay x.wav\n")  # without #!/bin/sh
    path.chmod(0o755)
    start(str(path))
    assert caplog.messages == [f"hook {path}: cannot start (Exec format error); correct hooks"]
