"""`kws listen` and `kws devices` on a virtual microphone."""

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from queue import Empty, Queue

import pytest
import soundfile
from conftest import RATE_HZ
from virtual_microphone import SoundServer, needs_pulseaudio

pytestmark = needs_pulseaudio


@pytest.fixture
def server(tmp_path):
    running = SoundServer(tmp_path)
    try:
        running.start()
        yield running
    finally:
        running.close()


@pytest.fixture
def sound_server(server):
    """Environment in which the microphone "kwsmic" hears what is played to the sink "kwsmic"."""
    return server.environment


@contextlib.contextmanager
def listening(environment, *arguments):
    """A running `kws listen`, ready to hear; yields it and the queue of its output lines."""
    program = [sys.executable, "-m", "kws", "listen", "--json", "--device", "kwsmic", *map(str, arguments)]
    with subprocess.Popen(
        program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        lines = Queue()
        reader = threading.Thread(target=lambda: [lines.put(line) for line in process.stdout])
        reader.start()
        try:
            assert "Listening on" in process.stderr.readline()
            yield process, lines
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(10)
            reader.join(10)


def test_listen_hears_a_microphone_and_ends_on_ctrl_c(sound_server, toy_folder, notes_wav):
    with listening(sound_server, "--model", toy_folder) as (process, lines):
        subprocess.run(["paplay", "--device=kwsmic", notes_wav], env=sound_server, check=True)
        heard = [json.loads(lines.get(timeout=5)) for _ in range(2)]
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert process.stderr.read() == ""
    assert [h["keyword"] for h in heard] == ["low note", "high note"]
    assert heard[1]["time_s"] - heard[0]["time_s"] == pytest.approx(1.5, abs=0.15)
    with pytest.raises(Empty):
        lines.get_nowait()


def test_unplugged_microphone_gives_one_sentence(server, toy_folder):
    with listening(server.environment, "--model", toy_folder) as (process, _):
        time.sleep(0.3)
        server.unplug()
        assert process.wait(10) == 4
        error = process.stderr.read()
    assert error.splitlines()[-1].startswith(
        "kws: the microphone 'kwsmic' stopped"
    )  # PortAudio's own lines first
    assert "Traceback" not in error


def test_devices_lists_the_microphone(sound_server):
    done = subprocess.run(
        [sys.executable, "-m", "kws", "devices"],
        env=sound_server,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "kwsmic" in done.stdout


def test_no_microphone_plays_the_bundled_recording(run_kws, toy_folder, notes, tmp_path):
    if run_kws("devices").returncode == 0:
        pytest.skip("this machine has a microphone")
    folder = shutil.copytree(toy_folder, tmp_path / "model")
    soundfile.write(folder / "example.flac", notes, RATE_HZ)
    start = time.monotonic()
    done = run_kws("listen", "--model", folder)
    assert time.monotonic() - start >= 4
    assert done.returncode == 0
    assert done.stderr.startswith("there is no microphone; ")
    assert done.stderr.count("\n") == 1
    assert len(done.stdout.splitlines()) == 2
    asked_for = run_kws("listen", "--model", folder, "--source", "mic")
    assert (asked_for.returncode, asked_for.stdout) == (4, "")
