"""The Wyoming server, as a program of its own, with clients of the package that Home Assistant uses."""

import asyncio
import signal
import socket
import struct
import subprocess
import sys
import time
from contextlib import AsyncExitStack

import numpy as np
import pytest
import soxr
from conftest import ROOT, program_environment, quiet, run_python
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.event import async_read_event, async_write_event
from wyoming.info import Describe, Info
from wyoming.ping import Ping
from wyoming.wake import Detect
from wyoming_server import ANSWER_SECONDS, RATE_HZ, Serving, chunks, names, read, say, told

import kws
from kws.errors import MissingExtra


@pytest.fixture(scope="module")
def server(tmp_path_factory, toy_folder):
    """One that offers the toy model's notes, and the words of the shipped one."""
    with Serving(
        tmp_path_factory.mktemp("wyoming"), "--model", toy_folder, "--model", ROOT / "models" / "default"
    ) as serving:
        yield serving


@pytest.fixture(scope="module")
def melody(notes):
    """The low note at 1.0 s, the high note at 3.5 s: further apart than the refractory period."""
    return np.concatenate([notes[: 2 * RATE_HZ], quiet(1.0), notes[2 * RATE_HZ :]])


def talk(server, *what):
    """What one client is told that says all this."""

    async def conversation():
        async with server.client() as client:
            await say(client, *what)
            return await told(client)

    return asyncio.run(conversation())


def test_describe_lists_one_service_and_every_word(server):
    (event,) = talk(server, Describe())
    (service,) = Info.from_event(event).wake
    assert (service.name, service.installed, service.version) == ("kws", True, kws.__version__)
    assert {model.name: model.phrase for model in service.models} == {
        "low_note": "low note",
        "high_note": "high note",
        "alexa": "alexa",
        "computer": "computer",
        "jarvis": "jarvis",
    }
    assert all(model.installed and model.description == model.phrase for model in service.models)


def test_ping_is_answered_with_its_text(server):
    async def conversation():
        async with server.client() as client:
            await say(client, Ping("hello"))
            return await read(client)

    event = asyncio.run(conversation())
    assert (event.type, event.data) == ("pong", {"text": "hello"})


@pytest.mark.parametrize(
    ("wanted", "heard"),
    [
        (None, ["low_note", "high_note"]),
        ([], ["low_note", "high_note"]),
        (["low_note"], ["low_note"]),
        (["High Note"], ["high_note"]),
        (["jarvis"], ["not-detected"]),
        (["jarvis", "low_note"], ["low_note"]),
        (["snowboy", "low_note"], ["low_note"]),
        (["snowboy"], ["low_note", "high_note"]),
    ],
)
def test_words_asked_for_are_heard(server, melody, wanted, heard):
    assert names(talk(server, Detect(wanted), *chunks(melody), AudioStop())) == heard


def test_unknown_name_is_warned_of_and_harmless_to_the_log(server):
    talk(server, Detect(["snowboy\n\x1b[31m" + 9999 * "x"]))
    line = next(line for line in server.logged.splitlines() if r"snowboy\n\x1b" in line)
    assert "is not installed; it hears low_note, high_note" in line
    assert len(line) < 200


def test_audio_may_come_without_any_other_event(server, melody):
    assert names(talk(server, *chunks(melody))) == ["low_note", "high_note"]


def test_detection_has_the_time_stamp_of_its_chunk(server, melody):
    stamps = [event.data["timestamp"] for event in talk(server, *chunks(melody))]
    assert 1000 < stamps[0] < 2000
    assert 3500 < stamps[1] < 4500


def test_start_forgets_and_stop_ends(server, melody):
    start = AudioStart(rate=RATE_HZ, width=2, channels=1)
    half = list(chunks(melody[: 2 * RATE_HZ]))
    quiet = chunks(np.zeros(RATE_HZ, np.float32))
    said = [start, *half, start, *half, AudioStop(), start, *quiet, AudioStop(), AudioStop()]
    assert names(talk(server, *said)) == ["low_note", "low_note", "not-detected", "not-detected"]


def test_word_at_the_very_end_is_heard_with_the_stop(server, melody):
    """The score rises only after the last sample."""
    cut = melody[: round(1.1 * RATE_HZ)]
    assert names(talk(server, *chunks(cut))) == []
    assert names(talk(server, *chunks(cut), AudioStop())) == ["low_note"]


@pytest.mark.parametrize("rate_hz", [8000, 16_000, 44_100, 48_000])
@pytest.mark.parametrize(("width", "channels"), [(1, 1), (2, 2), (3, 1), (4, 8)])
def test_any_format_is_heard(server, melody, rate_hz, width, channels):
    samples = soxr.resample(melody, RATE_HZ, rate_hz)
    wanted = ["low_note", "high_note"] if rate_hz > 8000 else ["low_note"]  # the other is above 4 kHz
    assert names(talk(server, Detect(wanted), *chunks(samples, rate_hz, width, channels))) == wanted


def test_refractory_period_is_time_of_the_audio(server, melody):
    """Played as fast as it goes: the same note is heard again after 2 s of audio, and not after 1.5 s."""
    note = melody[RATE_HZ // 2 : 2 * RATE_HZ]
    pause = quiet(1.0)
    assert names(talk(server, *chunks(np.concatenate([note, note])))) == ["low_note"]
    assert names(talk(server, *chunks(np.concatenate([note, pause, note])))) == ["low_note", "low_note"]


def test_clients_at_once_each_have_their_own_stream(server, melody):
    """Chunks of six clients, interleaved, each at another place of its own recording."""

    async def conversation():
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(server.client()) for _ in range(6)]
            for i, client in enumerate(clients):
                await say(client, Detect([["low_note"], ["high_note"], ["jarvis"]][i % 3]))
            streams = [list(chunks(melody[1600 * i :])) for i in range(6)]
            for turn in range(max(map(len, streams))):
                for client, stream in zip(clients, streams, strict=True):
                    await say(client, *stream[turn : turn + 1])
            return [names(await told(client)) for client in clients]

    assert asyncio.run(conversation()) == 2 * [["low_note"], ["high_note"], []]


MALFORMED = {
    "no JSON": b"hello\n",
    "no object": b"[1, 2]\n",
    "not UTF-8": b'{"type": "\xff\xfe"}\n',
    "no type": b"{}\n",
    "deeply nested": b'{"type": ' + 30_000 * b"[" + b"\n",
    "header of a megabyte": b'{"type": "' + 1_000_000 * b"x" + b'"}\n',
    "header without end": 1_000_000 * b"x",
    "data of a terabyte": b'{"type": "detect", "data_length": 1000000000000}\n',
    "payload of a terabyte": b'{"type": "audio-chunk", "payload_length": 1000000000000}\n',
    "negative length": b'{"type": "audio-chunk", "payload_length": -1}\n',
    "length no number": b'{"type": "audio-chunk", "payload_length": "1"}\n',
    "data no object": b'{"type": "detect", "data": 5}\n',
    "names no list": b'{"type": "detect", "data": {"names": "alexa"}}\n',
    "names no text": b'{"type": "detect", "data": {"names": [{}]}}\n',
    "chunk without rate": b'{"type": "audio-chunk", "data": {"width": 2, "channels": 1}}\n',
    "rate of 0": b'{"type": "audio-chunk", "data": {"rate": 0, "width": 2, "channels": 1}}\n',
    "width no number": b'{"type": "audio-chunk", "data": {"rate": 16000, "width": [], "channels": 1}}\n',
    "many channels": b'{"type": "audio-chunk", "data": {"rate": 16000, "width": 2, "channels": 999999}}\n',
}


@pytest.mark.parametrize("sent", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_event_ends_its_connection_only(server, sent):
    with socket.create_connection(("127.0.0.1", server.port), ANSWER_SECONDS) as client:
        try:
            client.sendall(sent)
            answer = client.makefile("rb").read()
        except ConnectionError:  # it had heard enough
            answer = b'"error"'
    assert b'"error"' in answer
    assert names(talk(server, Describe())) == ["info"]


@pytest.mark.parametrize("sent", [b"", b'{"type": "pi', b'{"type": "ping", "data_length": 9}\n{"te'])
def test_client_that_goes_in_the_middle_is_let_go(server, sent):
    with socket.create_connection(("127.0.0.1", server.port), ANSWER_SECONDS) as client:
        client.sendall(sent)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
    assert names(talk(server, Describe())) == ["info"]


def test_events_of_unknown_types_mean_nothing(server):
    header = b'{"type": "from-the-future", "data_length": 2, "payload_length": 3}\n{}abc{"type": "ping"}\n'
    with socket.create_connection(("127.0.0.1", server.port), ANSWER_SECONDS) as client:
        client.sendall(header)
        assert b'"pong"' in client.makefile("rb").readline()


def test_client_that_stops_reading_takes_neither_memory_nor_turns(server, melody):
    """It asks for descriptions until the server takes no more; another client is served meanwhile."""
    before_mb = server.memory_mb
    with socket.create_connection(("127.0.0.1", server.port), ANSWER_SECONDS) as client:
        client.setblocking(False)
        sent, deadline = 0, time.monotonic() + 3
        request = 1000 * b'{"type": "describe"}\n'
        while time.monotonic() < deadline:
            try:
                sent += client.send(request)
            except BlockingIOError:
                time.sleep(0.05)
        assert names(talk(server, *chunks(melody))) == ["low_note", "high_note"]
        assert sent > 100_000
        assert server.memory_mb - before_mb < 20


def test_two_hundred_connections(tmp_path, toy_folder, melody):
    """128 are served, the others are told so; when they have gone there is room again."""
    with Serving(tmp_path, "--model", toy_folder) as server:

        async def crowd():
            async with AsyncExitStack() as stack:
                clients = [await stack.enter_async_context(server.client()) for _ in range(200)]
                answers = []
                for client in clients:
                    try:
                        await say(client, Describe())
                        event = await read(client)
                    except ConnectionError:
                        event = None
                    answers.append(event.type if event else "closed")
                assert answers.count("info") == 128
                assert set(answers[128:]) <= {"error", "closed"}
                speaking = clients[:128:16]
                for part in chunks(melody):
                    await asyncio.gather(*(say(client, part) for client in speaking))
                assert [names(await told(client)) for client in speaking] == 8 * [["low_note", "high_note"]]

        asyncio.run(crowd())
        assert server.memory_mb < 250
        assert names(talk(server, Describe())) == ["info"]


def test_flood_of_audio_leaves_turns_to_others(server):
    """One client sends ten minutes of noise at once; another has 300 answers before these are heard."""
    noise = np.random.default_rng(0).integers(-(2**12), 2**12, (8, RATE_HZ), "<i2")
    noise[:, : RATE_HZ // 2] = 0  # the gate would make short work of silence, and of noise without an end
    seconds = AudioChunk(rate=RATE_HZ, width=2, channels=1, audio=noise.tobytes())

    async def flood(greedy):
        await say(greedy, *([seconds] * 80))
        return await told(greedy)

    async def conversation():
        async with server.client() as greedy, server.client() as modest:
            flooding = asyncio.create_task(flood(greedy))
            for _ in range(300):  # turns are shared by the block: there are 80 chunks, and 8,000 blocks
                assert names(await told(modest)) == []
                assert not flooding.done()
            await flooding

    asyncio.run(conversation())


def test_standard_input_and_output(tmp_path, toy_folder, melody):
    """As wyoming-openwakeword's own test drives it; the end of standard input ends the program."""

    async def conversation():
        process = await asyncio.create_subprocess_exec(
            *[sys.executable, "-m", "kws", "wyoming", "--uri", "stdio://", "--model", toy_folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=program_environment(tmp_path),
        )
        await async_write_event(Describe().event(), process.stdin)
        for part in chunks(melody):
            await async_write_event(part.event(), process.stdin)
        events = [await asyncio.wait_for(async_read_event(process.stdout), 20) for _ in range(3)]
        process.stdin.close()
        return names(events), await asyncio.wait_for(process.wait(), 20)

    assert asyncio.run(conversation()) == (["info", "low_note", "high_note"], 0)


def test_unix_socket_replaces_a_dead_one_and_respects_a_live_one(tmp_path, toy_folder, run_kws):
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with Serving(tmp_path, "--model", toy_folder, uri=f"unix://{path}") as server:
        assert names(talk(server, Describe())) == ["info"]
        done = run_kws("wyoming", "--uri", f"unix://{path}", "--model", toy_folder)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert "another program serves" in done.stderr
        assert names(talk(server, Describe())) == ["info"]
    assert not path.exists()


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--uri", "http://localhost"], 2, "write tcp://"),
        (["--uri", "tcp://127.0.0.1:99999"], 2, "write tcp://"),
        (["--model", "nothing"], 3, "installed:"),
        (["--zeroconf", "kitchen"], 2, "tcp://0.0.0.0:10400"),
        (["--false-accepts-per-day", "0"], 2, "above 0"),
    ],
)
def test_what_cannot_be_served_ends_in_one_sentence(run_kws, options, code, says):
    done = run_kws("wyoming", *options)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_standard_input_must_be_a_pipe(tmp_path, toy_folder):
    (tmp_path / "empty").write_bytes(b"")
    with (tmp_path / "empty").open() as empty:
        done = subprocess.run(
            [sys.executable, "-m", "kws", "wyoming", "--uri", "stdio://", "--model", toy_folder],
            stdin=empty,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env=program_environment(tmp_path),
        )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "needs pipes" in done.stderr


def test_missing_extra_is_named(tmp_path):
    code = "import sys; sys.modules['wyoming'] = None; from kws.cli import main; sys.exit(main(['wyoming']))"
    done = run_python(code, tmp_path)
    assert (done.returncode, done.stderr) == (
        MissingExtra.exit_code,
        "kws: wyoming is not installed; run: pip install 'kws[wyoming]'\n",
    )


def test_copy_of_the_program_takes_along_what_is_installed_of_it(tmp_path):
    """The service runs from such a copy; of other extras nothing is copied."""
    metadata = tmp_path / "kws-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: kws\nVersion: 1\nRequires-Dist: numpy\n"
        'Requires-Dist: wyoming; extra == "wyoming"\n'
        'Requires-Dist: not-installed-mqtt; extra == "mqtt"\n'
        'Requires-Dist: pytest; extra == "train"\n'
    )
    (metadata / "RECORD").write_text("kws-1.dist-info/METADATA,,\n")
    code = "from kws.program import distributions; print(*sorted(d.name for d in distributions()))"
    done = run_python(code, tmp_path, PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["kws", "numpy", "wyoming"]


def test_port_that_is_taken_is_named(server, run_kws, toy_folder):
    done = run_kws("wyoming", "--uri", server.uri, "--model", toy_folder)
    assert done.returncode == 1
    assert "address already in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_exposed_server_says_so_and_interrupt_ends_it(tmp_path, toy_folder):
    serving = Serving(tmp_path, "--model", toy_folder, uri="tcp://0.0.0.0:0")
    serving.__enter__()
    assert "without a password" in serving.logged
    serving.process.send_signal(signal.SIGINT)
    assert serving.process.wait(ANSWER_SECONDS) == 130


def test_loopback_server_warns_of_nothing(tmp_path, toy_folder):
    with Serving(tmp_path, "--model", toy_folder) as server:
        assert len(server.logged.splitlines()) == 1
