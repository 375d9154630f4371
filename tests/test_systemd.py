"""What the daemon tells systemd and the journal, received on real datagram sockets."""

import logging
import os
import socket
import struct
import subprocess
import sys

import pytest
from conftest import program_environment

from kws.daemon import journal, systemd


@pytest.fixture
def receiver(tmp_path):
    """A datagram socket such as systemd and journald own; `path` is where it is."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "socket"))
        server.settimeout(5)
        yield server


@pytest.fixture
def manager(receiver, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", receiver.getsockname())
    return receiver


def test_ready_carries_the_status_as_one_line(manager):
    assert systemd.ready("listening on kwsmic\nMAINPID=1")
    assert manager.recv(4096) == b"READY=1\nSTATUS=listening on kwsmic MAINPID=1"


def test_reload_is_stamped_with_the_monotonic_clock(manager):
    assert systemd.reloading()
    first, stamp = manager.recv(4096).decode().split("\n")
    assert first == "RELOADING=1"
    assert systemd.status("reloaded")
    assert manager.recv(4096) == b"STATUS=reloaded"
    name, microseconds = stamp.split("=")
    assert name == "MONOTONIC_USEC"
    systemd.reloading()
    assert int(manager.recv(4096).rsplit(b"=")[-1]) > int(microseconds)


def test_signs_of_life_and_of_the_end(manager):
    assert systemd.alive()
    assert systemd.stopping("asked to")
    assert [manager.recv(4096) for _ in range(2)] == [b"WATCHDOG=1", b"STOPPING=1\nSTATUS=asked to"]


def test_abstract_socket(monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        name = f"kws-test-{os.getpid()}"
        server.bind("\0" + name)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
        assert systemd.alive()
        assert server.recv(100) == b"WATCHDOG=1"


@pytest.mark.parametrize("path", ["", "/nowhere/at/all", "vsock:2:1234"])
def test_nobody_to_tell_is_no_error(path, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    assert not systemd.alive()


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "2500000", "WATCHDOG_PID": str(os.getpid())}, 2.5),
        ({"WATCHDOG_USEC": "2500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_watchdog_interval_is_the_one_set_for_this_process(environment, seconds, monkeypatch):
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert systemd.watchdog_seconds() == seconds


LOG = """
import logging, sys
from pathlib import Path
from kws.daemon import journal
journal.set_up(journal=Path(sys.argv[1]))
log = logging.getLogger("kws.test")
log.debug("not shown")
log.info("heard %s", "computer", extra=journal.fields(event="detection", keyword="computer", score=0.97))
try:
    1 / 0
except ZeroDivisionError:
    log.exception("hook failed")
log.warning("too few arguments %s %s", 1)
"""


def run(home, stderr, journal_path, **environment):
    subprocess.run(
        [sys.executable, "-c", LOG, str(journal_path)],
        stderr=stderr,
        timeout=30,
        check=True,
        env=program_environment(home) | environment,
    )


@pytest.fixture
def stderr(tmp_path):
    """A file in place of the stream that systemd connects, and the variable by which it says so."""
    with (tmp_path / "stderr").open("w+") as file:
        info = os.fstat(file.fileno())
        yield file, {"JOURNAL_STREAM": f"{info.st_dev}:{info.st_ino}"}


def parsed(datagram):
    """Fields of one entry, by the description of the native protocol."""
    values = {}
    while datagram:
        line, datagram = datagram.split(b"\n", 1)
        name, equals, value = line.partition(b"=")
        if not equals:
            (size,) = struct.unpack_from("<Q", datagram)
            value, datagram = datagram[8 : 8 + size], datagram[8 + size + 1 :]
        values[name.decode()] = value.decode()
    return values


def test_journal_gets_fields_priorities_and_whole_tracebacks(tmp_path, receiver, stderr):
    file, environment = stderr
    run(tmp_path, file, receiver.getsockname(), **environment)
    heard, failed = (parsed(receiver.recv(65536)) for _ in range(2))
    assert heard == {
        "MESSAGE": "heard computer",
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "kws",
        "CODE_FUNC": "<module>",
        "LOGGER": "kws.test",
        "KWS_EVENT": "detection",
        "KWS_KEYWORD": "computer",
        "KWS_SCORE": "0.97",
    }
    assert failed["PRIORITY"] == "3"
    lines = failed["MESSAGE"].splitlines()
    assert (lines[0], lines[-1]) == ("hook failed", "ZeroDivisionError: division by zero")
    file.seek(0)
    assert "not enough arguments" in file.read()  # of the log call that was wrong; the program went on


def test_without_journald_every_line_has_its_priority(tmp_path, stderr):
    file, environment = stderr
    run(tmp_path, file, tmp_path / "no-such-socket", **environment)
    file.seek(0)
    lines = file.read().splitlines()
    assert lines[:2] == ["<6>heard computer", "<3>hook failed"]
    assert "<3>ZeroDivisionError: division by zero" in lines


def test_elsewhere_lines_are_plain(tmp_path, receiver, stderr):
    file, _ = stderr
    run(tmp_path, file, receiver.getsockname(), JOURNAL_STREAM="1:2")  # another process's
    file.seek(0)
    first = file.read().splitlines()[0]
    assert first[8:] == " INFO heard computer"
    receiver.setblocking(False)
    with pytest.raises(BlockingIOError):
        receiver.recv(100)


def test_busy_journal_is_not_waited_for(tmp_path, receiver):
    handler = journal.Journal(tmp_path / "socket", fallback=logging.NullHandler())
    try:
        for number in range(5000):  # nobody reads
            handler.emit(logging.makeLogRecord({"msg": f"{number} " + 1000 * "x", "levelno": logging.INFO}))
    finally:
        handler.close()
    assert parsed(receiver.recv(65536))["MESSAGE"].startswith("0 ")
