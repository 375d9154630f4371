"""The whole way: a word is said at a virtual microphone, and Home Assistant's topics change; and back."""

# ruff: noqa: F811 (fixtures)

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from broker import broker, needs_broker, observer  # noqa: F401 (fixtures)
from daemons import needs_microphone, room, running  # noqa: F401 (a fixture)

from kws.errors import KwsError
from kws.manifest import MANIFEST_FILE

pytestmark = [pytest.mark.system, needs_microphone, needs_broker]

BASE = "kws/kws_hall"
CURVE = [
    {"threshold": 0.9, "false_accepts_per_hour": 0.1, "false_reject_rate": 0.1},
    {"threshold": 0.2, "false_accepts_per_hour": 10.0, "false_reject_rate": 0.0},
]


@pytest.fixture
def settings(toy_folder, tmp_path):
    folder = shutil.copytree(toy_folder, tmp_path / "model")
    path = folder / MANIFEST_FILE
    manifest = yaml.safe_load(path.read_text())
    manifest["operating_curve"] = {"low note": CURVE}
    path.write_text(yaml.safe_dump(manifest))
    return {"model": str(folder)}


def bridge(broker, **more):
    return {"host": "127.0.0.1", "port": broker.port, "name": "hall", "state_seconds": 2.0} | more


def state(observer, condition):
    return json.loads(observer.last(f"{BASE}/state", lambda text: condition(json.loads(text))))


def test_home_assistant_hears_mutes_and_tunes(room, settings, notes, broker, observer):
    with running(room, settings | {"mqtt": bridge(broker)}) as daemon:
        observer.last(f"{BASE}/availability", lambda text: text == "online")
        state(observer, lambda it: it["state"] == "listening")
        room.say(notes)
        events = [json.loads(text) for text in observer.wait(lambda: both(observer))]
        assert [event["event_type"] for event in events] == ["low note", "high note"]
        raised = [e for e in daemon.status()["last_events"] if e["event"] == "detection"]
        assert [(e["time"], e["id"], e["score"]) for e in events] == [
            (e["wall_time"], e["id"], e["score"]) for e in raised
        ]
        assert observer.payloads(f"{BASE}/keyword/low_note") == ["detected"]
        assert state(observer, lambda it: it["activations"] == 2)["latency_ms"]["p95"] > 0

        observer.say(f"{BASE}/listening/set", "OFF")
        state(observer, lambda it: it["listening"] == "OFF")
        assert daemon.status()["state"] == "muted"
        observer.say(f"{BASE}/listening/set", "ON")
        state(observer, lambda it: it["listening"] == "ON")

        assert daemon.status()["model"]["thresholds"]["low note"] == 0.5
        observer.say(f"{BASE}/false_accepts_per_day/low_note/set", "2.4")
        assert state(observer, lambda it: it["false_accepts_per_day"]["low_note"] == 2.4)
        status = daemon.status()
        assert status["model"]["thresholds"] == {"low note": 0.9, "high note": 0.5}
        assert "2.4 a day" in status["model"]["reason"]
        daemon.ask("reload")
        assert daemon.status()["model"]["thresholds"]["low note"] == 0.5
        state(observer, lambda it: it["false_accepts_per_day"]["low_note"] is None)

        assert daemon.end() == 0
        assert observer.last(f"{BASE}/availability") == "offline"
        assert "Traceback" not in daemon.log.read_text()


def test_rates_that_mean_nothing_change_nothing(room, settings):
    with running(room, settings | {"false_accepts_per_day": {"low note": 24.0}}) as daemon:
        before = daemon.wait(lambda status: status["state"] == "listening")["model"]
        assert before["false_accepts_per_day"] == {
            "low note": {"wanted": 24.0, "lowest": 2.4, "highest": 240.0},
            "high note": {"wanted": None, "lowest": None, "highest": None},
        }
        for wrong in (None, {}, 1, {"low note": 0}, {"low note": True}, {"low note": "1"}, {"nobody": 1}):
            with pytest.raises(KwsError):
                daemon.ask("set", false_accepts_per_day=wrong)
        with pytest.raises(KwsError, match="no operating curve of 'high note'"):
            daemon.ask("set", false_accepts_per_day={"high note": 1})
        assert daemon.status()["model"] == before
        daemon.ask("set", false_accepts_per_day={"low note": None})
        assert daemon.status()["model"]["thresholds"] == {"low note": 0.5, "high note": 0.5}


def both(observer):
    said = observer.payloads(f"{BASE}/event")
    return said if len(said) == 2 else None


def test_the_last_will_speaks_for_a_daemon_that_was_killed(room, settings, broker, observer):
    with running(room, settings | {"mqtt": bridge(broker)}) as daemon:
        observer.last(f"{BASE}/availability", lambda text: text == "online")
        daemon.end(signal.SIGKILL)
        observer.last(f"{BASE}/availability", lambda text: text == "offline")
        daemon.start()
        observer.last(f"{BASE}/availability", lambda text: text == "online")


def test_reload_changes_what_home_assistant_is_offered(settings, broker, observer):
    def offered(name, words):
        """As soon as a device offers these words and no other one."""
        triggers = {f"trigger_{word.replace(' ', '_')}" for word in words}

        def is_offered(text):
            told = json.loads(text)["components"]
            return (
                told["wake"]["event_types"] == words and {key for key in told if "trigger" in key} == triggers
            )

        return observer.last(f"homeassistant/device/kws_{name}/config", is_offered)

    path = Path(settings["model"], MANIFEST_FILE)
    with running(None, settings | {"mqtt": bridge(broker)}) as daemon:
        offered("hall", ["low note", "high note"])
        path.write_text(path.read_text().replace("low note", "deep note"))
        daemon.ask("reload")
        offered("hall", ["deep note", "high note"])

        daemon.write(settings | {"mqtt": bridge(broker, name="attic")})
        daemon.ask("reload")
        offered("attic", ["deep note", "high note"])
        observer.last(f"{BASE}/availability", lambda text: text == "offline")
        observer.last("kws/kws_attic/availability", lambda text: text == "online")
        assert daemon.end() == 0
        assert "Traceback" not in daemon.log.read_text()


def test_listening_goes_on_without_a_broker(room, settings, notes, broker, observer):
    broker.kill()
    with running(room, settings) as daemon:
        daemon.wait(lambda status: status["state"] == "listening" and status["audio"]["received_s"] > 0.2)
        daemon.write(settings | {"mqtt": bridge(broker)})
        daemon.ask("reload")
        room.say(notes)
        daemon.wait(lambda status: status["keywords"]["high note"]["detections"])
        assert observer.payloads(f"{BASE}/event") == []
        assert daemon.log.read_text().count("Connection refused") == 1  # however often it was tried
        daemon.write(settings)
        daemon.ask("reload")
        assert daemon.end() == 0


def test_a_process_of_its_own_serves_a_daemon_without_network(room, settings, broker, observer, tmp_path):
    path = tmp_path / "mqtt.yaml"
    path.write_text(yaml.safe_dump(bridge(broker)))
    with running(room, settings) as daemon:
        daemon.wait(lambda status: status["state"] == "listening")
        command = [sys.executable, "-m", "kws", "mqtt", "--config", str(path)]
        environment = daemon.environment | {"XDG_RUNTIME_DIR": str(daemon.folder)}
        with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
            try:
                observer.last(f"{BASE}/availability", lambda text: text == "online")
                daemon.end(signal.SIGKILL)
                observer.last(f"{BASE}/availability", lambda text: text == "offline")
                daemon.start()
                observer.last(f"{BASE}/availability", lambda text: text == "online")
                observer.say(f"{BASE}/listening/set", "OFF")
                state(observer, lambda it: it["listening"] == "OFF")
                process.send_signal(signal.SIGTERM)
                assert process.wait(10) == 0
                assert observer.last(f"{BASE}/availability") == "offline"
                assert "Traceback" not in process.stderr.read()
            finally:
                process.kill()
