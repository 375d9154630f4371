"""The daemon's sockets under all that clients do to them, over real sockets and with real processes."""

import json
import os
import resource
import signal
import socket
import stat
import subprocess
import sys
import threading
import time

import pytest
from conftest import program_environment
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sockets import Running, everything, request

from kws import client
from kws.daemon import server as server_module
from kws.daemon.server import QUEUE_BYTES_MAX, SUBSCRIBERS_MAX, Server
from kws.errors import KwsError
from kws.protocol import CONTROL, STATUS

# A daemon in a process of its own; it says that it is open, or why it is not.
DAEMON = """
import sys
from pathlib import Path
from kws.daemon.server import Server
server = Server(Path(sys.argv[1]), lambda request, may_control: {"state": "listening"})
try:
    server.open()
except Exception as error:
    print("no:", error, flush=True)
else:
    print("open", flush=True)
    while True:
        server.serve(None)
"""


def echo(asked, may_control):
    if asked["request"] == "refused":
        raise KwsError("no; ask for something else")
    if asked["request"] == "broken":
        return {}["nothing"]
    if asked["request"] == "long":
        return {"long": "x" * 1_000_000}
    return {"asked": asked, "may_control": may_control}


@pytest.fixture
def running(tmp_path):
    with Running(tmp_path / "kws", echo) as running:
        yield running


@pytest.fixture
def daemon(tmp_path):
    """Starts daemons in processes; they are killed in the end."""
    processes = []

    def start(folder, prefix=()):
        process = subprocess.Popen(
            [*prefix, sys.executable, "-c", DAEMON, str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=program_environment(tmp_path),
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_a_request_is_answered_with_one_line(running):
    sent = {"version": 1, "request": "status", "word": "ä"}
    assert running.exchange(request("status", word="ä")) == [
        {"version": 1, "asked": sent, "may_control": False}
    ]
    assert running.exchange(request("mute"), may_control=True)[0]["may_control"] is True


def test_a_request_may_arrive_in_pieces_or_without_its_newline(running):
    text = request("status")
    with running.connect() as connection:
        for byte in text[:-1]:
            connection.sendall(bytes([byte]))
        connection.shutdown(socket.SHUT_WR)
        assert json.loads(everything(connection))["asked"]["request"] == "status"


def test_a_failure_becomes_a_sentence_and_the_server_goes_on(running, caplog):
    assert running.exchange(request("refused")) == [{"version": 1, "error": "no; ask for something else"}]
    assert "could not answer" in running.exchange(request("broken"))[0]["error"]
    assert "KeyError" in caplog.text
    assert "not JSON" in running.exchange(b"GET / HTTP/1.1\r\n\r\n")[0]["error"]
    assert running.exchange(request("status"))[0]["asked"]


@pytest.mark.parametrize("length", [4_095, 4_096, 4_097, 300_000])
def test_a_request_longer_than_4096_bytes_is_refused(running, length):
    text = request("status", padding="")[:-3]
    text += b"x" * (length - len(text) - 3) + b'"}\n'
    assert len(text) == length
    answer = running.exchange(text)
    assert len(answer) == 1
    assert ("error" in answer[0]) is (length > 4_096)


@hypothesis_settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=60), max_size=5), st.booleans())
def test_no_bytes_disturb_the_server(running, pieces, shuts):
    with running.connect() as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
            if shuts:
                connection.shutdown(socket.SHUT_WR)
        except BrokenPipeError:
            pass
    assert running.exchange(request("status"))[0]["asked"]


def test_a_client_that_says_nothing_is_let_go(running, monkeypatch):
    monkeypatch.setattr(server_module, "TIMEOUT_S", 0.2)
    start = time.monotonic()
    with running.connect() as silent:
        silent.sendall(b'{"version":1')
        assert everything(silent) == b""
    assert 0.2 <= time.monotonic() - start < 5


def test_a_slow_reader_gets_a_long_answer_while_others_are_served(running):
    with running.connect() as slow:
        slow.sendall(request("long"))
        assert running.exchange(request("status"))[0]["asked"]
        assert len(json.loads(everything(slow))["long"]) == 1_000_000


def test_a_reader_that_never_takes_its_answer_is_let_go(running, monkeypatch):
    monkeypatch.setattr(server_module, "TIMEOUT_S", 0.2)
    with running.connect() as stuck:
        stuck.sendall(request("long"))
        time.sleep(0.5)
        assert running.exchange(request("status"))[0]["asked"]
        assert len(everything(stuck)) < 1_000_000


def test_every_subscriber_gets_every_event_in_order(running):
    subscribers = [running.subscribe() for _ in range(3)]
    running.wait_for_subscribers(3)
    for number in range(100):
        running.publish({"event": "detection", "id": number})
    for subscriber in subscribers:
        assert events(subscriber, 100) == [
            {"version": 1, "event": "detection", "id": number} for number in range(100)
        ]
        subscriber.close()
    running.wait_for_subscribers(0)


def test_a_slow_subscriber_is_told_and_dropped_and_the_others_miss_nothing(running):
    slow, quick = running.subscribe(), running.subscribe()
    running.wait_for_subscribers(2)
    received = []
    reader = threading.Thread(target=lambda: received.extend(events(quick, 300)))
    reader.start()
    for number in range(300):
        running.publish({"event": "detection", "id": number, "padding": "x" * 1000})
        time.sleep(0.001)
    reader.join(10)
    assert [event["id"] for event in received] == list(range(300))
    running.wait_for_subscribers(1)
    told = [json.loads(line) for line in everything(slow).splitlines()]
    count = len(told) - 1
    assert [event["id"] for event in told[:-1]] == list(range(count))
    assert QUEUE_BYTES_MAX / 1100 < count < 200  # what waited for it was bounded
    assert told[-1]["event"] == "dropped"
    assert "read faster" in told[-1]["reason"]
    running.publish({"event": "detection", "id": 300})
    assert events(quick, 1)[0]["id"] == 300
    slow.close()
    quick.close()


def test_a_subscriber_that_half_closes_or_chatters_costs_no_turns(running):
    half, chatty = running.subscribe(), running.subscribe()
    half.shutdown(socket.SHUT_WR)
    running.wait_for_subscribers(2)
    chatty.sendall(b"x" * 10_000)
    before = running.turns
    time.sleep(0.3)
    assert running.turns - before <= 2
    running.publish({"event": "state"})
    assert events(half, 1) == events(chatty, 1) == [{"version": 1, "event": "state"}]
    half.close()
    running.wait_for_subscribers(1)
    chatty.close()
    running.wait_for_subscribers(0)


def test_a_thousand_subscribers_are_served_or_told_that_there_are_too_many(running):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 4000), hard), hard))
    crowd = [running.subscribe() for _ in range(1000)]
    running.wait_for_subscribers(SUBSCRIBERS_MAX)
    assert running.exchange(request("status"))[0]["asked"]
    assert running.exchange(request("mute"), may_control=True)[0]["asked"]
    running.publish({"event": "detection"})
    heard = [events(connection, 1)[0] for connection in crowd]
    assert sum(message.get("event") == "detection" for message in heard) == SUBSCRIBERS_MAX
    refused = [message["error"] for message in heard if "error" in message]
    assert len(refused) == 1000 - SUBSCRIBERS_MAX
    assert all("; " in sentence for sentence in refused)
    for connection in crowd:
        connection.close()
    running.wait_for_subscribers(0)
    with running.subscribe():
        running.wait_for_subscribers(1)


def test_who_may_only_read_cannot_keep_out_who_may_control(running):
    crowd = [running.connect() for _ in range(server_module.CLIENTS_MAX)]
    assert "too many clients" in running.exchange(request("status"))[0]["error"]
    assert running.exchange(request("unmute"), may_control=True)[0]["may_control"] is True
    for connection in crowd:
        connection.close()
    assert running.exchange(request("status"))[0]["asked"]


def test_out_of_file_descriptors_the_daemon_sleeps_and_then_goes_on(daemon, tmp_path):
    process = daemon(tmp_path / "kws", ["prlimit", "--nofile=24"])
    assert process.stdout.readline() == "open\n"
    crowd = []
    for _ in range(40):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(tmp_path / "kws" / STATUS))
        crowd.append(connection)
    time.sleep(0.2)
    before = cpu_seconds(process.pid)
    time.sleep(1.5)
    assert cpu_seconds(process.pid) - before < 0.3
    assert process.poll() is None
    for connection in crowd[1:]:
        connection.close()
    crowd[0].close()
    with socket.socket(socket.AF_UNIX) as late:
        late.settimeout(10)
        late.connect(str(tmp_path / "kws" / STATUS))
        late.sendall(request("status"))
        assert json.loads(everything(late))["state"] == "listening"


def test_sockets_are_for_everybody_and_for_a_group(tmp_path):
    before = os.umask(0o077)
    try:
        with Running(tmp_path / "run" / "kws", echo) as running:
            assert mode(running.folder) == 0o755
            assert mode(running.folder / STATUS) == 0o666
            assert mode(running.folder / CONTROL) == 0o660
    finally:
        os.umask(before)
    assert not (tmp_path / "run" / "kws" / STATUS).exists()
    assert not (tmp_path / "run" / "kws" / CONTROL).exists()


def test_a_socket_that_a_killed_daemon_left_is_taken_over(daemon, tmp_path):
    process = daemon(tmp_path / "kws")
    assert process.stdout.readline() == "open\n"
    process.kill()
    process.wait(10)
    assert (tmp_path / "kws" / STATUS).is_socket()
    with Running(tmp_path / "kws", echo) as running:
        assert running.exchange(request("status"))[0]["asked"]


def test_a_second_daemon_is_refused_and_the_first_goes_on(running, daemon):
    process = daemon(running.folder)
    assert process.stdout.readline().startswith(
        f"no: process {os.getpid()} serves {running.folder} already; "
    )
    assert running.exchange(request("status"))[0]["asked"]
    assert running.exchange(request("status"), may_control=True)[0]["asked"]


def test_of_daemons_that_start_at_once_one_wins(daemon, tmp_path):
    processes = [daemon(tmp_path / "kws") for _ in range(4)]
    said = [process.stdout.readline() for process in processes]
    assert sum(line == "open\n" for line in said) == 1
    assert sum(" serves " in line for line in said) == 3


def test_a_stopped_daemon_is_still_there(daemon, tmp_path):
    process = daemon(tmp_path / "kws")
    assert process.stdout.readline() == "open\n"
    process.send_signal(signal.SIGSTOP)
    with pytest.raises(KwsError, match=f"process {process.pid} serves"):
        Server(tmp_path / "kws", echo).open()


def test_what_is_not_ours_stays(tmp_path):
    (tmp_path / STATUS).write_text("mine")
    with pytest.raises(KwsError, match="no socket of kws; remove it"):
        Server(tmp_path, echo).open()
    assert (tmp_path / STATUS).read_text() == "mine"
    (tmp_path / STATUS).unlink()
    with socket.socket(socket.AF_UNIX) as foreign:
        foreign.bind(str(tmp_path / CONTROL))
        foreign.listen()
        with pytest.raises(KwsError, match=f"process {os.getpid()} serves"):
            Server(tmp_path, echo).open()
    assert (tmp_path / CONTROL).is_socket()
    assert not (tmp_path / STATUS).exists()


def test_a_folder_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(KwsError, match=r"cannot open sockets in .*/file/kws"):
        Server(tmp_path / "file" / "kws", echo).open()
    long = tmp_path / ("x" * 100)
    with pytest.raises(KwsError, match="too long for a socket"):
        Server(long, echo).open()


def test_a_server_that_failed_to_open_can_open_later(tmp_path):
    (tmp_path / CONTROL).write_text("")
    server = Server(tmp_path, echo)
    with pytest.raises(KwsError):
        server.open()
    (tmp_path / CONTROL).unlink()
    server.open()
    server.close()


def test_serve_returns_in_time_and_when_it_is_woken(tmp_path):
    server = Server(tmp_path, echo)
    server.open()
    start = time.monotonic()
    server.serve(0.1)
    assert 0.1 <= time.monotonic() - start < 5
    for _ in range(200_000):  # more than a pipe holds
        server.wake()
    server.serve(None)
    timer = threading.Timer(0.1, server.wake)
    timer.start()
    server.serve(None)
    timer.join()
    server.close()
    server.wake()  # too late, and harmless


def test_a_signal_just_before_the_sleep_is_not_slept_through(tmp_path):
    server = Server(tmp_path, echo)
    caught = []
    before = signal.signal(signal.SIGUSR1, lambda *_: caught.append(True))
    signal.set_wakeup_fd(server.wake_fd, warn_on_full_buffer=False)
    try:
        signal.raise_signal(signal.SIGUSR1)
        server.serve(None)
    finally:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGUSR1, before)
        server.close()
    assert caught


def test_a_watched_descriptor_calls_back_until_it_is_unwatched(tmp_path):
    server = Server(tmp_path, echo)
    reader, writer = os.pipe()
    heard = []
    server.watch(reader, lambda: heard.append(os.read(reader, 100)))
    os.write(writer, b"word")
    server.serve(None)
    os.close(writer)
    server.serve(None)
    assert heard == [b"word", b""]
    server.unwatch(reader)
    server.serve(0.05)
    assert heard == [b"word", b""]
    os.close(reader)
    server.close()


def test_event_that_tells_of_no_error_is_none(running):
    following = client.events(running.folder)
    running.wait_for_subscribers(1)
    for reason in (None, "there is no model 'x'"):
        running.publish({"event": "config", "error": reason})
        assert next(following) == {"version": 1, "event": "config", "error": reason}
    following.close()


def events(connection, count):
    """The next lines; none is read beyond them."""
    received = b""
    while received.count(b"\n") < count:
        waiting = connection.recv(65_536, socket.MSG_PEEK)
        assert waiting, f"ended after {received!r}"
        wanted = waiting.split(b"\n", count - received.count(b"\n"))
        complete = len(waiting) - (len(wanted[-1]) if len(wanted) > count - received.count(b"\n") else 0)
        received += connection.recv(complete)
    return [json.loads(line) for line in received.splitlines()]


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)
