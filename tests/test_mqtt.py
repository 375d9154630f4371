"""The bridge between a daemon's sockets and a real broker, through everything that happens to either."""

# ruff: noqa: F811 (fixtures)

import json
import subprocess
import time
from pathlib import Path

import pytest
from broker import PROGRAM, Mosquitto, Observer, broker, needs_broker, observer  # noqa: F401 (fixtures)
from sockets import Running

from kws.errors import ConfigError, KwsError
from kws.network.mqtt import Mqtt, MqttSettings
from kws.protocol import REQUEST_BYTES_MAX

STATUS = json.loads((Path(__file__).parent / "data" / "status.json").read_text())
BASE = "kws/kws_hall"
AVAILABILITY, EVENT, STATE = f"{BASE}/availability", f"{BASE}/event", f"{BASE}/state"
DISCOVERY = "homeassistant/device/kws_hall/config"

pytestmark = needs_broker


class Daemon:
    """The daemon's side: a real server at its sockets, whose answers the test decides."""

    def __init__(self, folder):
        self.status, self.asked = json.loads(json.dumps(STATUS)), []
        self.running = Running(folder / "kws", self._answer)
        self.folder = folder / "kws"
        self._count = 0

    def _answer(self, request, may_control):
        if request["request"] == "status":
            return self.status
        assert may_control
        self.asked.append({key: value for key, value in request.items() if key != "version"})
        return {}

    def hear(self, keyword="computer"):
        self._count += 1
        event = {"event": "detection", "keyword": keyword, "score": 0.9, "time_s": 1.0, "latency_ms": 80.0}
        event |= {"id": f"id-{self._count}", "wall_time": f"2026-11-23T20:00:{self._count:02}.000+00:00"}
        self.running.publish(event)
        return event


@pytest.fixture
def daemon(tmp_path):
    daemon = Daemon(tmp_path)
    with daemon.running:
        yield daemon


@pytest.fixture
def bridge(daemon):
    """Start a bridge; it ends with the test."""
    bridges = []

    def start(port, **more):
        given = {"host": "127.0.0.1", "port": port, "name": "hall", "state_seconds": 1.0} | more
        bridges.append(Mqtt(MqttSettings(**given), daemon.folder))
        bridges[-1].start()
        return bridges[-1]

    yield start
    for each in bridges:
        each.close()


def online(text):
    return text == "online"


def ids(observer):
    return [json.loads(payload)["id"] for payload in observer.payloads(EVENT)]


def test_discovery_comes_first_and_stays(daemon, broker, observer, bridge):
    bridge(broker.port)
    observer.last(STATE)
    assert [seen.topic for seen in observer.seen] == [DISCOVERY, AVAILABILITY, STATE]
    with Observer(broker.port) as late:  # a Home Assistant that starts later
        late.wait(lambda: len(late.seen) >= 3)
        assert {seen.topic for seen in late.seen if seen.is_retained} == {DISCOVERY, AVAILABILITY, STATE}
    daemon.hear("jarvis")
    assert json.loads(observer.last(EVENT))["event_type"] == "jarvis"
    assert observer.payloads(f"{BASE}/keyword/jarvis") == ["detected"]
    with Observer(broker.port) as late:  # what was heard is over: it is not kept
        late.wait(lambda: len(late.seen) >= 3)
        assert late.payloads(EVENT) == []


def test_birth_of_home_assistant_is_answered(daemon, broker, observer, bridge):
    bridge(broker.port)
    observer.last(AVAILABILITY, online)
    observer.say("homeassistant/status", "offline")
    observer.say("homeassistant/status", "online")
    observer.wait(lambda: len(observer.payloads(DISCOVERY)) == 2)
    observer.wait(lambda: observer.payloads(AVAILABILITY) == ["online"] * 2)


def test_taking_leave_is_told_and_so_is_the_end_of_the_daemon(tmp_path, broker, observer):
    daemon = Daemon(tmp_path)
    with daemon.running:
        bridge = Mqtt(MqttSettings("127.0.0.1", broker.port, name="hall"), daemon.folder)
        bridge.start()
        observer.last(AVAILABILITY, online)
    observer.last(AVAILABILITY, lambda text: text == "offline")
    daemon.running = Running(daemon.folder, daemon._answer)
    with daemon.running:
        observer.last(AVAILABILITY, online)
        bridge.close()
        assert observer.last(AVAILABILITY, lambda text: text == "offline")


@pytest.fixture(params=["birth", "no birth"])
def has_birth(request, monkeypatch):
    """Whether Home Assistant says that it is back."""
    monkeypatch.setattr("kws.network.mqtt.TRIGGER_S", 0.3)
    monkeypatch.setattr("kws.network.mqtt.HOLD_S", 60.0 if request.param == "birth" else 3.0)
    return request.param == "birth"


def test_events_of_an_outage_arrive_once_with_their_time(daemon, broker, observer, bridge, has_birth):
    bridge(broker.port)
    observer.last(AVAILABILITY, online)
    daemon.hear()
    observer.wait(lambda: ids(observer) == ["id-1"])
    observer.expect_reconnection()
    broker.kill()
    missed = [daemon.hear(), daemon.hear("alexa")]
    time.sleep(0.5)
    observer.seen.clear()
    broker.start()
    observer.wait_until_subscribed()
    if has_birth:
        observer.wait(
            lambda: DISCOVERY in [seen.topic for seen in observer.seen]
        )  # a new broker knows nothing
        observer.say("homeassistant/status", "online")
    observer.wait(lambda: ids(observer) == ["id-2", "id-3"])
    daemon.hear()
    observer.wait(lambda: "id-4" in ids(observer))
    assert ids(observer) == ["id-2", "id-3", "id-4"]
    late = [json.loads(payload) for payload in observer.payloads(EVENT)[:2]]
    assert [event["time"] for event in late] == [event["wall_time"] for event in missed]
    assert all(event["waited_s"] >= 0.5 for event in late)
    assert observer.payloads(f"{BASE}/keyword/alexa") == []  # a trigger says "now"
    assert observer.payloads(f"{BASE}/keyword/computer") == ["detected"]


def test_events_of_a_long_outage_are_too_old(daemon, broker, observer, bridge):
    bridge(broker.port, offline_seconds=0.2)
    observer.last(AVAILABILITY, online)
    observer.expect_reconnection()
    broker.kill()
    daemon.hear()
    time.sleep(0.5)
    observer.seen.clear()
    broker.start()
    observer.wait_until_subscribed()
    observer.last(AVAILABILITY, online)
    daemon.hear()
    observer.wait(lambda: ids(observer) == ["id-2"])


def test_commands_reach_the_daemon(daemon, broker, observer, bridge):
    bridge(broker.port)
    observer.last(AVAILABILITY, online)
    observer.say(f"{BASE}/listening/set", "OFF")
    observer.wait(lambda: daemon.asked == [{"request": "mute", "seconds": None}])
    observer.say(f"{BASE}/listening/set", "ON")
    observer.wait(lambda: daemon.asked[1:] == [{"request": "unmute"}])
    observer.say(f"{BASE}/false_accepts_per_day/computer/set", "0.5")
    observer.wait(
        lambda: daemon.asked[2:] == [{"request": "set", "false_accepts_per_day": {"computer": 0.5}}]
    )


def test_nonsense_floods_and_giants_reach_nobody(daemon, broker, observer, bridge, caplog):
    bridge(broker.port)
    observer.last(AVAILABILITY, online)
    for payload in (b"", b"on", b"\xff\xfe", b"nan", b"-1", b"x" * REQUEST_BYTES_MAX, b"0" * 10_000_000):
        observer.say(f"{BASE}/listening/set", payload)
        observer.say(f"{BASE}/false_accepts_per_day/computer/set", payload)
    observer.say(f"{BASE}/false_accepts_per_day/nobody/set", "1")
    assert daemon.asked == []
    for number in range(500):
        observer.say(f"{BASE}/listening/set", "ON" if number % 2 else "OFF")
    observer.wait(lambda: daemon.asked and daemon.asked[-1] == {"request": "unmute"})
    assert len(daemon.asked) < 50
    daemon.hear()
    observer.wait(lambda: ids(observer) == ["id-1"])


def test_a_command_from_before_is_none(daemon, broker, observer, bridge):
    observer.say(f"{BASE}/listening/set", "OFF", retain=True)
    bridge(broker.port)
    observer.last(AVAILABILITY, online)
    time.sleep(0.5)
    assert daemon.asked == []


def test_another_model_changes_the_device(daemon, broker, observer, bridge):
    bridge(broker.port)
    observer.last(AVAILABILITY, online)
    daemon.status["model"]["keywords"] = ["alexa"]
    daemon.running.publish({"event": "config", "error": None})
    observer.wait(lambda: len(observer.payloads(DISCOVERY)) == 3)
    before, between, after = (json.loads(text)["components"] for text in observer.payloads(DISCOVERY))
    assert "trigger_jarvis" in before
    assert between["trigger_jarvis"] == {"platform": "device_automation"}
    assert "trigger_jarvis" not in after
    assert after["wake"]["event_types"] == ["alexa"]


def test_password_comes_from_a_file_and_stays_secret(daemon, tmp_path, bridge, caplog):
    caplog.set_level("DEBUG")
    subprocess.run(
        [
            Path(PROGRAM).parent.parent / "bin" / "mosquitto_passwd",
            "-b",
            "-c",
            tmp_path / "users",
            "kws",
            "hush-77",
        ],
        check=True,
    )
    secret = tmp_path / "password"
    secret.write_text("hush-78\n")
    settings = ("allow_anonymous false", f"password_file {tmp_path / 'users'}")
    with Mosquitto(tmp_path, *settings) as broker, Observer(broker.port, "kws", "hush-77") as observer:
        bridge(broker.port, username="kws", password_file=str(secret))
        observer.wait(lambda: "Not authorized" in caplog.text)
        secret.write_text("hush-77\n")  # read again at the next attempt
        observer.last(AVAILABILITY, online)
        assert "hush" not in caplog.text
        assert "hush" not in Path("/proc/self/cmdline").read_text()


def test_the_service_manager_may_hold_the_password(tmp_path, monkeypatch):
    (tmp_path / "mqtt").write_text("hush\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert MqttSettings("x", username="kws").password() == "hush"
    with pytest.raises(KwsError, match="cannot read the password in /nowhere"):
        MqttSettings("x", username="kws", password_file="/nowhere").password()  # noqa: S106


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # paho leaves it to the collector
def test_tls_checks_who_the_broker_is(daemon, tmp_path, bridge, caplog):
    own, other = certificate(tmp_path, "own"), certificate(tmp_path, "other")
    settings = ("allow_anonymous true", f"certfile {own}.crt", f"keyfile {own}.key")
    with Mosquitto(tmp_path, *settings) as broker:
        bridge(broker.port, tls=True, ca_file=f"{other}.crt")
        wait_for(lambda: "CERTIFICATE_VERIFY_FAILED" in caplog.text)
        caplog.set_level("INFO")
        bridge(broker.port, tls=True, ca_file=f"{own}.crt")
        wait_for(lambda: "connected to 127.0.0.1" in caplog.text)


def certificate(folder, name):
    """A self-signed one for 127.0.0.1; its path without .crt and .key."""
    path = folder / name
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=kws -addext subjectAltName=IP:127.0.0.1"
    )
    subprocess.run(
        [*command.split(), "-keyout", f"{path}.key", "-out", f"{path}.crt"], check=True, capture_output=True
    )
    return path


def wait_for(condition, seconds=20):
    end_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.02)


def test_a_server_that_is_no_broker_is_named_once(daemon, bridge, caplog, tmp_path):
    with Running(tmp_path / "other", lambda *_: {}):
        pass
    bridge(1)
    wait_for(lambda: "Connection refused" in caplog.text)
    time.sleep(2)
    assert caplog.text.count("Connection refused") == 1


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"host": ""}, "host is empty"),
        ({"port": 0}, "port must be 1"),
        ({"password_file": "x"}, "needs a username"),
        ({"ca_file": "x"}, "tls: true"),
        ({"prefix": "a/#"}, "prefix must be a topic"),
        ({"discovery_prefix": "/"}, "discovery_prefix must be"),
        ({"state_seconds": 0.0}, "state_seconds"),
        ({"offline_seconds": -1.0}, "offline_seconds"),
    ],
)
def test_settings_that_cannot_be_meant(settings, complaint):
    with pytest.raises(ConfigError, match=complaint):
        MqttSettings(**{"host": "x"} | settings)
