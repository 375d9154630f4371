"""A microphone as real as software can make it: PortAudio, ALSA, PulseAudio and a sink that plays a file."""

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
from conftest import RATE_HZ, program_environment

PROGRAMS = ("pulseaudio", "pactl", "paplay")

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not all(map(shutil.which, PROGRAMS)), reason="needs pulseaudio and pulseaudio-utils"),
]

# Without the hint PortAudio does not list the device.
ALSA_CONFIGURATION = """
</usr/share/alsa/alsa.conf>
pcm.kwsmic {
  type pulse
  device "kwsmic.monitor"
  hint {
    show on
    description "kws virtual microphone"
  }
}
"""

# Without norewinds the first block takes two seconds.
NULL_SINK = "module-null-sink sink_name=kwsmic rate=48000 channels=2 format=s16le norewinds=1"


@pytest.fixture
def sound_server(tmp_path):
    """Environment in which the microphone "kwsmic" hears what is played to the sink "kwsmic"."""
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    (tmp_path / "asound.conf").write_text(ALSA_CONFIGURATION)
    environment = program_environment(tmp_path) | {
        "XDG_RUNTIME_DIR": str(runtime),
        "ALSA_CONFIG_PATH": str(tmp_path / "asound.conf"),
    }
    for name in ("PULSE_SERVER", "PULSE_RUNTIME_PATH", "DBUS_SESSION_BUS_ADDRESS", "DISPLAY"):
        environment.pop(name, None)
    options = ["--daemonize=no", "--exit-idle-time=-1", "-L", "module-native-protocol-unix auth-anonymous=1"]
    with (tmp_path / "pulse.log").open("wb") as log:
        server = subprocess.Popen(
            ["pulseaudio", "-n", *options, "-L", NULL_SINK], stderr=log, env=environment
        )
        try:
            wait_for(lambda: pactl(environment, "info") == 0, "the sound server")
            yield environment
        finally:
            server.terminate()
            server.wait(10)


def pactl(environment, *arguments):
    return subprocess.run(["pactl", *arguments], env=environment, capture_output=True, check=False).returncode


def wait_for(condition, what, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.05)


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


def test_unplugged_microphone_gives_one_sentence(sound_server, toy_folder):
    with listening(sound_server, "--model", toy_folder) as (process, _):
        time.sleep(0.3)
        assert pactl(sound_server, "unload-module", "module-null-sink") == 0
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
