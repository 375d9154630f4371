"""`kws run` as people live with it: a real process, a real sound server, spoken words, signals and faults."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from conftest import program_environment
from daemons import descriptors, needs_microphone, room, running  # noqa: F401 (a fixture)
from virtual_microphone import SoundServer, wait_for

from kws.errors import KwsError

pytestmark = [pytest.mark.system, needs_microphone]

WORDS = ["low note", "high note"]


@pytest.fixture
def settings(toy_folder):
    return {"model": str(toy_folder)}


def listening(status):
    return status["state"] == "listening" and status["audio"]["received_s"] > 0.2


def test_hears_words_and_says_so_everywhere(room, settings, notes, tmp_path):  # noqa: F811
    said = tmp_path / "said"
    hook = {"command": ["/bin/sh", "-c", f'echo "$KWS_KEYWORD {{keyword}}" >> {said}']}
    with running(room, settings | {"hooks": [hook]}) as daemon:
        assert daemon.told("READY=1").splitlines()[1].startswith("STATUS=listening")
        events = subprocess.Popen(
            [sys.executable, "-m", "kws", "events", "--count", "2"],
            stdout=subprocess.PIPE,
            text=True,
            env=daemon.environment | {"XDG_RUNTIME_DIR": str(daemon.folder)},
        )
        daemon.wait(lambda status: status["subscribers"] == 1)
        room.say(notes)
        status = daemon.wait(lambda status: status["keywords"]["high note"]["detections"])
        out, _ = events.communicate(timeout=10)
        heard = [json.loads(line) for line in out.splitlines()]
        assert [(event["event"], event["keyword"]) for event in heard] == [("detection", w) for w in WORDS]
        assert heard[1]["time_s"] - heard[0]["time_s"] == pytest.approx(1.5, abs=0.2)
        assert all(0 < event["latency_ms"] < 2000 and event["id"] for event in heard)
        assert status["latency_ms"]["since_start"]["total"]["n"] > 10
        assert status["latency_ms"]["since_start"]["model"]["p50"] < 50
        assert status["audio"]["received_s"] <= status["uptime_s"]
        assert daemon.end() == 0
        assert "heard low note" in daemon.log.read_text()
        assert "Traceback" not in daemon.log.read_text()
        assert daemon.told("STOPPING=1")
        assert not list(daemon.runtime.glob("*.sock"))
    assert said.read_text().splitlines() == [f"{word} {word}" for word in WORDS]


def test_reload_takes_good_settings_and_refuses_bad_ones(room, settings, notes, tmp_path):  # noqa: F811
    other = shutil.copytree(settings["model"], tmp_path / "other")
    with running(room, settings) as daemon:
        before = daemon.wait(listening)
        daemon.write({"model": "nowhere"})
        daemon.process.send_signal(signal.SIGHUP)
        status = daemon.wait(lambda status: status["config"]["error"])
        assert "there is no model 'nowhere'" in status["config"]["error"]
        assert status["model"] == before["model"]
        assert daemon.told("RELOADING=1")
        assert "the last reload failed" in daemon.told("READY=1")
        with pytest.raises(KwsError, match="nowhere"):
            daemon.ask("reload")
        room.say(notes)
        daemon.wait(lambda status: status["keywords"]["high note"]["detections"] == 1)

        daemon.write(
            settings | {"microphone": {"device": "kwsmic"}, "model": str(other), "gate": {"enabled": False}}
        )
        daemon.process.send_signal(signal.SIGHUP)
        status = daemon.wait(lambda status: status["model"]["folder"] == str(other))
        assert (status["config"]["error"], status["gate"]["enabled"]) == (None, False)
        assert status["audio"]["reopens"] == 0  # the microphone stayed open
        room.say(notes)
        daemon.wait(lambda status: status["keywords"]["high note"]["detections"] == 2)
        (other / "model.onnx").unlink()  # gone when it is wanted again
        with pytest.raises(KwsError, match="cannot read"):
            daemon.ask("reload")
        (other / "model.onnx").write_bytes(b"damaged")
        with pytest.raises(KwsError, match="truncated"):
            daemon.ask("reload")
        room.say(notes)
        daemon.wait(lambda status: status["keywords"]["high note"]["detections"] == 3)
        assert daemon.end() == 0


def test_muted_means_that_the_microphone_is_closed(room, settings, notes):  # noqa: F811
    with running(room, settings) as daemon:
        daemon.wait(listening)
        open_before = descriptors(daemon.process.pid)
        daemon.ask("mute", seconds=None)
        status = daemon.wait(lambda status: status["state"] == "muted")
        assert (status["microphone"], status["muted_until"]) == (None, None)
        assert descriptors(daemon.process.pid) < open_before
        room.say(notes)
        time.sleep(0.5)
        received_s = daemon.status()["audio"]["received_s"]
        time.sleep(0.5)
        assert daemon.status()["audio"]["received_s"] == received_s
        assert daemon.heard() == []
        daemon.ask("unmute")
        daemon.wait(listening)
        daemon.ask("mute", seconds=1)
        assert daemon.wait(lambda status: status["state"] == "muted")["muted_until"] is not None
        daemon.wait(listening)
        for wrong in (-1, "long", 1e12, True):
            with pytest.raises(KwsError, match="cannot mute"):
                daemon.ask("mute", seconds=wrong)


def test_mute_outlives_the_daemon(room, settings):  # noqa: F811
    with running(room, settings) as daemon:
        daemon.wait(listening)
        daemon.ask("mute", seconds=None)
        daemon.process.kill()
        daemon.process.wait()
        daemon.start()  # beside the socket and the lock that the dead one left
        assert daemon.wait(lambda status: status["state"] != "opening")["state"] == "muted"
        daemon.ask("unmute")
        daemon.wait(listening)
        assert daemon.end(signal.SIGINT) == 130
        assert not (daemon.state / "mute.json").exists()


def test_captures_are_kept_for_who_asks_and_labelled_by_feedback(room, settings, notes):  # noqa: F811
    with running(room, settings | {"capture": {"enabled": True}}) as daemon:
        daemon.wait(listening)
        with pytest.raises(KwsError, match="nothing was detected"):
            daemon.ask("feedback", kind="false")
        room.say(notes)
        daemon.wait(lambda status: status["captures"]["files"] == 2)
        daemon.ask("feedback", kind="false")
        daemon.ask("feedback", kind="missed", keyword="low note")
        status = daemon.wait(lambda status: status["captures"]["files"] == 3)
        assert (
            status["keywords"]["high note"]["false_accepts"],
            status["keywords"]["low note"]["missed"],
        ) == (1, 1)
        assert daemon.end() == 0
        folder = daemon.state / "captures"
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        environment = program_environment(daemon.folder) | {"STATE_DIRECTORY": str(daemon.state)}
        done = subprocess.run(
            [sys.executable, "-m", "kws", "captures", "--json", "--folder", str(folder)],
            capture_output=True,
            text=True,
            env=environment,
            check=True,
        )
        kept = [json.loads(line) for line in done.stdout.splitlines()]
        assert [(each["event"]["keyword"], each["label"]) for each in kept] == [
            ("low note", None),
            ("high note", "false"),
            ("low note", "missed"),
        ]


def test_nothing_touches_the_disk_by_itself(room, settings, notes):  # noqa: F811
    with running(room, settings) as daemon:
        daemon.wait(listening)
        room.say(notes)
        daemon.wait(lambda status: status["keywords"]["high note"]["detections"])
        assert daemon.end() == 0
        assert not daemon.state.exists()


def test_second_daemon_is_refused(room, settings):  # noqa: F811
    with running(room, settings) as daemon:
        daemon.wait(listening)
        first, pid = daemon.process, daemon.process.pid
        daemon.start()
        assert daemon.process.wait(15) == 1
        assert f"process {pid}" in daemon.log.read_text() or str(pid) in daemon.log.read_text()
        daemon.process = first
        assert daemon.status()["pid"] == pid


def test_without_a_microphone_it_is_ready_waits_and_ends(settings):
    with running(None, settings, WATCHDOG_USEC="8000000") as daemon:
        assert "lost" in daemon.told("READY=1")
        status = daemon.status()
        assert (status["state"], status["microphone"]) == ("lost", None)
        assert daemon.told("WATCHDOG=1")  # it knows that there is none: no reason to be restarted
        assert daemon.end() == 0


def test_wrong_settings_end_it_with_a_sentence(settings):
    with running(None, settings | {"microfone": {}}) as daemon:
        assert daemon.process.wait(15) == 2
        assert "did you mean 'microphone'?" in daemon.log.read_text()


def test_state_that_cannot_be_kept_is_a_warning(room, settings, notes, read_only):  # noqa: F811
    with running(room, settings | {"capture": {"enabled": True}}, STATE_DIRECTORY=str(read_only)) as daemon:
        daemon.wait(listening)
        room.say(notes)
        daemon.wait(lambda status: status["keywords"]["high note"]["detections"])
        daemon.ask("feedback", kind="false")
        daemon.ask("mute", seconds=None)
        daemon.wait(lambda status: status["state"] == "muted")
        assert daemon.end() == 0
        assert "Traceback" not in daemon.log.read_text()
        assert "a restart would unmute" in daemon.log.read_text()


def test_prometheus_file_is_kept(room, settings, tmp_path):  # noqa: F811
    path = tmp_path / "kws.prom"
    with running(room, settings | {"prometheus_file": str(path)}) as daemon:
        daemon.wait(listening)
        assert daemon.end() == 0  # written once at the end, as every minute before
    assert "kws_audio_received_seconds_total" in path.read_text()


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_kernel_sees_no_network_socket(room, settings, notes):  # noqa: F811
    with running(room, settings) as daemon:
        daemon.wait(listening)
        assert daemon.end() == 0
        trace = daemon.folder / "trace"
        daemon.start("strace", "-f", "-qq", "-e", "trace=socket,connect", "-o", str(trace))
        try:
            daemon.wait(listening, seconds=40)
        except AssertionError:
            if "PTRACE" in daemon.log.read_text() or "ptrace" in daemon.log.read_text():
                pytest.skip("tracing is not allowed here")
            raise
        room.say(notes)
        daemon.wait(lambda status: status["keywords"]["high note"]["detections"], seconds=40)
        os.kill(daemon.status()["pid"], signal.SIGTERM)
        assert daemon.process.wait(20) == 0
        text = trace.read_text()
        assert "AF_UNIX" in text
        assert "AF_INET" not in text
        assert not list(daemon.folder.rglob("*onnxruntime*"))


@pytest.fixture
def server():
    with tempfile.TemporaryDirectory(prefix="kws-") as folder:
        server = SoundServer(Path(folder))
        server.start()
        yield server
        server.close()


def test_sound_server_that_hangs_or_dies_is_outlived(server, settings, notes_wav):
    with running(None, settings, **server.environment) as daemon:
        daemon.wait(listening)
        server.kill(signal.SIGSTOP)
        daemon.wait(lambda status: status["state"] == "lost", seconds=30)
        server.kill(signal.SIGCONT)
        daemon.wait(listening, seconds=60)
        server.kill()
        daemon.wait(lambda status: status["state"] == "lost", seconds=30)
        spent_s = cpu_s(daemon.process.pid)
        time.sleep(3)
        assert cpu_s(daemon.process.pid) - spent_s < 1.5  # of three: it waits, and does not spin
        server.start()
        status = daemon.wait(listening, seconds=60)
        assert status["audio"]["reopens"] >= 2
        server.play(notes_wav).wait(10)
        daemon.wait(lambda status: status["keywords"]["high note"]["detections"])
        assert daemon.end() == 0
        text = daemon.log.read_text()
        assert "Traceback" not in text
        assert "ALSA lib" not in text  # what C libraries print stays out of the log


def test_daemon_ends_beside_a_sound_server_that_hangs(server, settings):
    with running(None, settings, **server.environment) as daemon:
        daemon.wait(listening)
        server.kill(signal.SIGSTOP)
        time.sleep(1)
        assert daemon.status()["pid"] == daemon.process.pid
        assert daemon.end() == 0


# PortAudio tries each device that it lists, and ALSA opens this one's pipe, which nobody ever writes to.
STUCK_DEVICE = """
pcm.stuck {{
  type file
  slave.pcm "null"
  file "/dev/null"
  infile "{pipe}"
  hint {{
    show on
    description "a device that never answers"
  }}
}}
"""


def test_daemon_that_hangs_in_the_kernel_becomes_a_new_process(server, settings, notes_wav):
    with running(None, settings, **server.environment) as daemon:
        first, open_before = daemon.wait(listening), descriptors(daemon.process.pid)
        pipe = daemon.folder / "pipe"
        os.mkfifo(pipe)
        well = server.configuration.read_text()
        server.configuration.write_text(well + STUCK_DEVICE.format(pipe=pipe))
        server.kill()
        wait_for(lambda: "does not answer" in daemon.log.read_text(), "the hanging thread", 40)
        daemon.ask("mute", seconds=None)  # it still answers
        server.configuration.write_text(well)  # helps no thread that hangs
        server.start()
        assert "hung" in daemon.told("STATUS=starting anew")
        status = daemon.wait(lambda status: status["started"] > first["started"], seconds=60)
        assert "muted" in daemon.told("READY=1")
        assert status["pid"] == first["pid"] == daemon.process.pid
        assert (status["state"], status["audio"]["received_s"]) == ("muted", 0)
        daemon.ask("unmute")
        daemon.wait(listening)
        assert descriptors(daemon.process.pid) <= open_before
        server.play(notes_wav).wait(10)
        daemon.wait(lambda status: status["keywords"]["high note"]["detections"])
        assert daemon.end() == 0
        text = daemon.log.read_text()
        assert text.count("kws starts itself anew") == 1
        assert "Traceback" not in text
        assert "ALSA lib" not in text


def cpu_s(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
