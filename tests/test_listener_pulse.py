"""The audio thread on a virtual microphone, and everything that can happen to that."""

import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import soundfile
from conftest import RATE_HZ
from virtual_microphone import SoundServer, enter, needs_pulseaudio, wait_for

from kws.audio import level_dbfs
from kws.daemon.listener import Listener
from kws.errors import AudioError
from kws.microphone import Microphone, MicrophoneSettings
from kws.portaudio import cut_off, refresh

pytestmark = needs_pulseaudio

KWSMIC = MicrophoneSettings("kwsmic", flat_line_seconds=0)


@dataclass
class Ear:
    """A listener and all that it said."""

    stall_s: float = 0.0
    blocks: list = field(default_factory=list)
    losses: list = field(default_factory=list)
    states: list = field(default_factory=list)

    def __post_init__(self):
        self.listener = Listener(RATE_HZ, self._hear, self.losses.append, self._tell)

    def _hear(self, block):
        self.blocks.append(block)
        stall_s, self.stall_s = self.stall_s, 0.0
        time.sleep(stall_s)

    def _tell(self, state, reason):
        assert reason
        self.states.append(state)

    def wait(self, state, seconds=15):
        wait_for(lambda: self.listener.state == state, f"{state}, not {self.listener.reason}", seconds)


@pytest.fixture
def server(tmp_path, monkeypatch):
    running = SoundServer(tmp_path)
    enter(running, monkeypatch)
    try:
        running.start()
        refresh()
        yield running
    finally:
        running.close()


@pytest.fixture
def ear(server):
    heard = Ear()
    yield heard
    assert heard.listener.stop(10)
    assert "audio" not in {thread.name for thread in threading.enumerate()}


def test_listener_hears_everything_in_real_time(ear):
    began = time.monotonic()
    ear.listener.start(KWSMIC)
    ear.wait("listening")
    assert time.monotonic() - began < 5
    time.sleep(2)
    counters = ear.listener.counters
    assert counters.received_samples == pytest.approx(counters.expected_samples, abs=0.1 * RATE_HZ)
    assert (counters.gaps, counters.overflows, counters.reopens, ear.losses) == (0, 0, 0, [])
    assert ear.listener.device["name"] == "kwsmic"
    lateness_ms = [1000 * (b.read_s - b.start_s) - 80 for b in ear.blocks]
    assert np.median(lateness_ms) < 160  # half of the blocks come with the one after them
    assert ear.states == ["listening"]


def test_unplugged_microphone_comes_back_by_itself(server, ear):
    ear.listener.start(KWSMIC)
    ear.wait("listening")
    server.unplug()
    ear.wait("lost")
    assert ear.listener.device is None
    time.sleep(1.5)
    server.plug()
    ear.wait("listening")
    assert ear.states == ["listening", "lost", "listening"]
    assert ear.listener.counters.reopens == 1
    assert sum(ear.losses) > 1.5 * RATE_HZ
    assert ear.listener.counters.gaps == 0


def test_sound_server_may_be_killed_again_and_again(server, ear):
    ear.listener.start(KWSMIC)
    for _ in range(3):
        ear.wait("listening")
        server.kill()
        ear.wait("lost")
        server.start()
    ear.wait("listening")
    assert ear.listener.counters.reopens == 3


def test_listener_may_start_before_the_sound_server(server, ear):
    server.kill()
    refresh()
    ear.listener.start(KWSMIC)
    ear.wait("lost")
    server.start()
    ear.wait("listening")


@pytest.mark.parametrize("stall_s", [0.4, 1.5])
def test_reader_that_was_late_loses_nothing(ear, stall_s):
    """The device buffers half a second, the sound server more."""
    ear.listener.start(KWSMIC)
    ear.wait("listening")
    time.sleep(0.5)
    ear.stall_s = stall_s
    time.sleep(stall_s + 1)
    counters = ear.listener.counters
    assert (counters.gaps, ear.losses) == (0, [])
    assert counters.received_samples == pytest.approx(counters.expected_samples, abs=0.05 * RATE_HZ)


def test_audio_that_the_device_never_delivered_is_a_gap(server, ear):
    ear.listener.start(KWSMIC)
    ear.wait("listening")
    time.sleep(0.5)
    server.pactl("suspend-sink", "kwsmic", "1")
    time.sleep(1)
    server.pactl("suspend-sink", "kwsmic", "0")
    # In one gap, or in two where a busy server makes good for some of it first.
    wait_for(lambda: sum(ear.losses) > 0.7 * RATE_HZ, "the loss")
    counters = ear.listener.counters
    assert counters.gaps >= 1
    assert counters.overflows == 0  # PortAudio does not say a word
    assert 700 < counters.lost_ms < 1500
    missing = counters.expected_samples - counters.received_samples
    assert sum(ear.losses) == pytest.approx(missing, abs=0.1 * RATE_HZ)


def test_short_pause_of_the_server_is_survived(server, ear):
    ear.listener.start(KWSMIC)
    ear.wait("listening")
    server.kill(signal.SIGSTOP)
    time.sleep(1.5)
    server.kill(signal.SIGCONT)
    before = ear.listener.counters.received_samples
    wait_for(lambda: ear.listener.counters.received_samples > before + RATE_HZ, "audio")
    assert ear.states == ["listening"]


def test_server_that_does_not_answer_is_cut_off(server):
    """Both where PortAudio waits for the server without end: when a microphone is closed, and when opened."""
    outcomes = []

    def close_and_open(microphone):
        microphone.close()
        outcomes.append("closed")
        try:
            Microphone(KWSMIC, RATE_HZ)
        except AudioError as error:
            outcomes.append(str(error))

    microphone = Microphone(KWSMIC, RATE_HZ)
    microphone.read()
    server.kill(signal.SIGSTOP)
    thread = threading.Thread(target=close_and_open, args=[microphone])
    thread.start()
    time.sleep(0.5)
    assert outcomes == []
    assert cut_off()
    wait_for(lambda: outcomes == ["closed"], "the microphone to close")
    time.sleep(0.5)
    assert thread.is_alive()

    def is_over():
        cut_off()
        return not thread.is_alive()

    wait_for(is_over, "the attempt to fail")
    assert "cannot open the microphone 'kwsmic'" in outcomes[1]


def test_muted_microphone_is_closed(server, ear):
    ear.listener.start(KWSMIC)
    ear.wait("listening")
    assert server.pactl("list", "short", "source-outputs")
    ear.listener.mute()
    ear.wait("muted")
    assert not server.pactl("list", "short", "source-outputs")
    assert not ear.listener.hangs
    assert ear.listener.beat_s > time.monotonic()
    ear.listener.unmute()
    ear.wait("listening")
    assert ear.states == ["listening", "muted", "opening", "listening"]
    assert len(ear.losses) == 1
    assert ear.listener.counters.reopens == 0


def test_flat_line_is_told_and_sound_ends_it(server, ear, tmp_path):
    soundfile.write(tmp_path / "tone.wav", 0.3 * np.sin(np.arange(8 * RATE_HZ) / 5), RATE_HZ)
    ear.listener.start(replace(KWSMIC, flat_line_seconds=1))
    ear.wait("silent")
    heard = len(ear.blocks)
    wait_for(lambda: len(ear.blocks) > heard + 20, "blocks: a silent microphone is heard on")
    player = server.play(tmp_path / "tone.wav")
    ear.wait("listening")
    assert ear.listener.level_dbfs > -30
    player.terminate()
    player.wait()
    counters = ear.listener.counters
    assert counters.silent_s > 1
    assert counters.reopens >= 1


def test_other_settings_open_another_microphone(ear):
    ear.listener.start(KWSMIC)
    ear.wait("listening")
    ear.listener.reopen(replace(KWSMIC, device="attic"))
    ear.wait("lost")
    assert "no microphone 'attic'" in ear.listener.reason
    ear.listener.reopen(replace(KWSMIC, block_ms=40))
    ear.wait("listening")
    assert ear.blocks[-1].frames == 640


def test_fault_of_the_program_does_not_end_the_thread(ear, caplog):
    ear.stall_s = "not a number"
    ear.listener.start(KWSMIC)
    ear.wait("lost")
    assert "report it" in ear.listener.reason
    ear.stall_s = 0.0
    ear.wait("listening")
    assert "goes on" in caplog.text


@pytest.mark.parametrize(
    ("pick", "left_dbfs"),
    [(0, -13.5), (1, -np.inf), ("mix", -19.5), ((0.5, 0.5), -19.5), ((0.0, 1.0), -np.inf)],
)
def test_channel_is_picked_or_mixed(server, tmp_path, pick, left_dbfs):
    tone = 0.3 * np.sin(2 * np.pi * 440 / 48_000 * np.arange(48_000 * 3))
    soundfile.write(tmp_path / "left.wav", np.stack([tone, 0 * tone], axis=1), 48_000)
    player = server.play(tmp_path / "left.wav")
    settings = MicrophoneSettings("kwsmic", channels=2, pick=pick)
    with Microphone(settings, RATE_HZ) as microphone:
        assert microphone.channels == 2
        levels = [level_dbfs(microphone.read().samples) for _ in range(15)]
    player.terminate()
    player.wait()
    assert max(levels) == pytest.approx(left_dbfs, abs=0.3)


def test_device_with_a_rate_of_its_own_is_resampled(server, tmp_path, monkeypatch):
    """No virtual device refuses a rate, so the refusal is made up; the stream is real."""
    import sounddevice  # noqa: PLC0415

    real = sounddevice.InputStream

    def choosy(rate_hz, **form):
        if rate_hz == RATE_HZ:
            raise sounddevice.PortAudioError("Invalid sample rate", -9997)
        return real(rate_hz, **form)

    monkeypatch.setattr(sounddevice, "InputStream", choosy)
    soundfile.write(
        tmp_path / "tone.wav", 0.3 * np.sin(2 * np.pi * 440 / 48_000 * np.arange(48_000 * 4)), 48_000
    )
    player = server.play(tmp_path / "tone.wav")
    with Microphone(KWSMIC, RATE_HZ) as microphone:
        assert microphone.rate_hz in (44_100, 48_000)
        assert microphone.reason == "it cannot do 16000 Hz and is resampled"
        blocks = [microphone.read() for _ in range(25)]
    player.terminate()
    player.wait()
    samples = np.concatenate([block.samples for block in blocks])
    assert len(samples) == pytest.approx(25 * 1280, abs=700)  # the resampler keeps some back
    assert level_dbfs(samples[-RATE_HZ // 2 :]) == pytest.approx(-13.5, abs=0.3)


def test_process_ends_cleanly_while_it_listens(server):
    code = """
import sys, time
from kws.daemon.listener import Listener
from kws.daemon.stderr import keep_for_python
from kws.microphone import MicrophoneSettings
keep_for_python()
ignore = lambda value: None
listener = Listener(16000, ignore, ignore, lambda *state: print(*state, file=sys.stderr))
listener.start(MicrophoneSettings("kwsmic"))
time.sleep(1)
print("ready", flush=True)
while listener.state != "lost":
    time.sleep(0.05)
sys.exit(not listener.stop(3))
"""
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env=server.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "ready\n"
        server.unplug()
        assert process.wait(10) == 0
        lines = process.stderr.read().splitlines()
    # What PortAudio and ALSA have to say about an unplugged device is not for the journal.
    assert [line.split()[0] for line in lines] == ["listening", "lost"]
