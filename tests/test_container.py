"""The container: what its recipe and compose.yaml promise; with KWS_CONTAINER the image itself."""

import json
import os
import re
import shlex
import shutil
import subprocess
import time
import tomllib
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from broker import Mosquitto, Observer, needs_broker
from conftest import ROOT
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from kws.daemon.settings import load_settings
from kws.network.discovery import Topics

FOLDER = ROOT / "examples" / "container"
RECIPE = (FOLDER / "Containerfile").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
SERVICES = COMPOSE["services"]
UNIT = (ROOT / "service" / "kws.service").read_text(encoding="utf-8")
with (ROOT / "pyproject.toml").open("rb") as _file:
    PROJECT = tomllib.load(_file)


def instructions(name: str) -> list[str]:
    """Arguments of each instruction of that name, continued lines joined."""
    joined = re.sub(r"\\\n(\s*#.*\n)*\s*", "", RECIPE)
    return re.findall(rf"^{name} (.*)$", joined, re.MULTILINE)


def copied() -> set[str]:
    """What the recipe takes from the repository."""
    of_repository = [line for line in instructions("COPY") if not line.startswith("--from")]
    return {source for line in of_repository for source in line.split()[:-1]}


def test_recipe_copies_what_the_package_is_made_of_and_the_context_has_it() -> None:
    project, wheel = PROJECT["project"], PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {"pyproject.toml", project["readme"], *project["license-files"]}
    needed |= {*wheel["packages"], *wheel["force-include"]}
    assert copied() == needed
    assert all((ROOT / source).exists() for source in needed)
    ignored, *allowed = [
        line for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] in ("*", "!")
    ]
    assert ignored == "*"
    assert {line[1:] for line in allowed if line[0] == "!"} == needed


def test_recipe_installs_extras_that_exist_and_never_training() -> None:
    (extras,) = re.findall(r"'\.\[([a-z,]+)\]'", RECIPE)
    elsewhere = {"train", "report", "led"}  # lgpio would need a compiler here
    assert set(extras.split(",")) == set(PROJECT["project"]["optional-dependencies"]) - elsewhere


def test_recipe_names_no_machine() -> None:
    for name in ("Containerfile", "compose.yaml"):
        text = (FOLDER / name).read_text(encoding="utf-8")
        assert not re.search(r"amd64|arm64|x86|aarch64|armv\d|platform", text)


def test_container_has_the_environment_of_the_service() -> None:
    of_image = dict(pair.split("=", 1) for line in instructions("ENV") for pair in shlex.split(line))
    of_unit = dict(
        pair.split("=", 1)
        for line in re.findall(r"^Environment=(.*)$", UNIT, re.MULTILINE)
        for pair in line.split()
    )
    assert of_image.items() >= of_unit.items()
    assert of_image["STATE_DIRECTORY"] == instructions("VOLUME")[0] == of_image["HOME"]


def test_settings_fit_the_services_around() -> None:
    settings = load_settings(FOLDER / "kws" / "kws.yaml")
    assert settings.mqtt is not None
    assert settings.mqtt.host in SERVICES
    (secret,) = SERVICES["kws"]["secrets"]
    assert settings.mqtt.password_file == f"/run/secrets/{secret}"
    assert settings.wyoming is not None
    assert settings.wyoming.address.is_exposed  # within the network below
    passwords, access = SERVICES["mosquitto"]["secrets"]
    assert f"password_file /run/secrets/{passwords}" in broker_settings()
    assert f"acl_file /run/secrets/{access}" in broker_settings()


def test_only_home_assistant_is_reached_from_outside_and_only_from_this_machine() -> None:
    networks = {name: service["networks"] for name, service in SERVICES.items()}
    assert networks == {"kws": ["wake"], "mosquitto": ["wake"], "homeassistant": ["wake", "default"]}
    assert COMPOSE["networks"]["wake"] == {"internal": True}
    assert {name: service["ports"] for name, service in SERVICES.items() if "ports" in service} == {
        "homeassistant": ["127.0.0.1:8123:8123"]
    }


@pytest.mark.parametrize("name", ["kws", "mosquitto"])
def test_container_may_do_nothing_else(name: str) -> None:
    service = SERVICES[name]
    assert (service["cap_drop"], service["read_only"]) == (["ALL"], True)
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "network_mode", "pid", "ipc"} & service.keys()


def test_container_has_the_memory_of_the_service_and_no_swap() -> None:
    (most,) = re.findall(r"^MemoryMax=(\d+)M", UNIT, re.MULTILINE)
    kws = SERVICES["kws"]
    assert kws["mem_limit"] == kws["memswap_limit"] == f"{most}m"


def test_secrets_are_never_committed() -> None:
    files = {secret["file"] for secret in COMPOSE["secrets"].values()}
    assert {name.split("/")[0] + "/" for name in files} <= set((FOLDER / ".gitignore").read_text().split())
    document = (ROOT / "docs" / "container.md").read_text(encoding="utf-8")
    for name in files:  # each is made by what the document says
        assert Path(name).name in document


def broker_settings() -> list[str]:
    """Lines of the broker's configuration."""
    lines = (FOLDER / "mosquitto" / "mosquitto.conf").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """Mosquitto as compose.yaml starts it, but for the folders and the port."""
    program = shutil.which("mosquitto_passwd")
    if program is None:
        pytest.skip("needs mosquitto_passwd")
    passwords = tmp_path / "passwords"
    passwords.write_text("kws:open\nhomeassistant:sesame\n")
    subprocess.run([program, "-U", passwords], check=True)  # as docs/container.md does
    assert "sesame" not in passwords.read_text()
    shutil.copy(FOLDER / "mosquitto" / "access", tmp_path / "access")
    for path in (passwords, tmp_path / "access"):
        path.chmod(0o600)
    places = {
        "/run/secrets/mqtt_passwords": str(passwords),
        "/run/secrets/mqtt_access": str(tmp_path / "access"),
        "/mosquitto/data": str(tmp_path),
    }
    settings = [line for line in broker_settings() if not line.startswith("listener ")]
    for place, here in places.items():
        settings = [line.replace(place, here) for line in settings]
    with Mosquitto(tmp_path, *settings) as mosquitto:
        yield mosquitto


@needs_broker
def test_broker_lets_each_say_what_is_its_own(broker: Mosquitto) -> None:
    topics = Topics("kws_kitchen")
    own = [topics.discovery, topics.availability, topics.state, topics.event, topics.keyword("computer")]
    with Observer(broker.port, "homeassistant", "sesame") as home:
        kws = Client(CallbackAPIVersion.VERSION2)
        kws.username_pw_set("kws", "open")
        heard: list[str] = []
        kws.on_message = lambda _client, _data, message: heard.append(message.topic)
        kws.connect("127.0.0.1", broker.port)
        kws.subscribe([(topic, 1) for topic in (topics.birth, topics.listening, topics.rates)])
        kws.loop_start()
        for topic in [
            "homeassistant/status",
            "zigbee2mqtt/lock/set",
            *own,
        ]:  # the first two are not its to say
            kws.publish(topic, "kws", qos=1).wait_for_publish(10)
        home.wait(lambda: home.payloads(own[-1]))
        assert [seen.topic for seen in home.seen] == own
        commands = [topics.birth, topics.listening, topics.rate("computer")]
        for topic in commands:
            home.say(topic, "ON")
        home.wait(lambda: len(heard) == len(commands))
        assert heard == commands
        kws.disconnect()
        kws.loop_stop()


@needs_broker
def test_broker_refuses_who_has_no_password(broker: Mosquitto) -> None:
    answers: list[bool] = []
    for password in (None, "guess"):
        stranger = Client(CallbackAPIVersion.VERSION2)
        if password:
            stranger.username_pw_set("kws", password)
        stranger.on_connect = lambda _client, _data, _flags, reason, _more: answers.append(reason.is_failure)
        stranger.connect("127.0.0.1", broker.port)
        end_s, count = time.monotonic() + 10, len(answers)
        while len(answers) == count and time.monotonic() < end_s:
            stranger.loop(0.1)
        stranger.disconnect()
    assert answers == [True, True]


needs_tool = pytest.mark.skipif(
    "KWS_CONTAINER" not in os.environ,
    reason="builds an image, minutes; KWS_CONTAINER=docker or podman, KWS_CONTAINER_BASE=another base image",
)

# Its samples come from a file, as fast as they are read.
ALSA_CONFIGURATION = """
</usr/share/alsa/alsa.conf>
pcm.recording {
  type file
  slave.pcm "null"
  file "/dev/null"
  infile "/microphone/words.raw"
  format "raw"
  hint {
    show on
    description "a recording for a microphone"
  }
}
"""


@needs_tool
def test_image_hears_with_nothing_but_its_state_to_write_to(tmp_path: Path) -> None:
    tool, name = os.environ["KWS_CONTAINER"], f"kws-test-{uuid.uuid4().hex[:8]}"

    def run(*arguments: object, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        command = [tool, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)

    base = os.environ.get("KWS_CONTAINER_BASE")
    options = ["--network", "host", *(["--build-arg", f"BASE={base}"] if base else [])]
    built = run("build", *options, "-f", FOLDER / "Containerfile", "-t", name, ROOT, seconds=1800)
    assert built.returncode == 0, built.stderr[-3000:]
    words, _ = soundfile.read(ROOT / "models" / "default" / "example.flac", dtype="int16")
    faint = np.random.default_rng(0).integers(-30, 30, 4 * 16_000, dtype=np.int16)
    np.concatenate([faint, words, faint]).tofile(tmp_path / "words.raw")
    (tmp_path / "asound.conf").write_text(ALSA_CONFIGURATION)
    for path in (tmp_path, *tmp_path.iterdir()):
        path.chmod(0o755)
    limits = ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--network", "none"]
    limits += ["--tmpfs", "/tmp", "--memory", "200m", "--pids-limit", "64"]  # noqa: S108
    if tool == "docker":  # podman makes /run by itself
        limits += ["--init", "--tmpfs", "/run/kws:mode=0755,uid=10400,gid=10400"]
    microphone = [
        "--volume",
        f"{tmp_path}:/microphone:ro",
        "--env",
        "ALSA_CONFIG_PATH=/microphone/asound.conf",
    ]
    try:
        started = run("run", "--detach", "--name", name, *limits, *microphone, name)
        assert started.returncode == 0, started.stderr
        end_s, heard = time.monotonic() + 60, {}
        while sum(heard.values()) < 3 and time.monotonic() < end_s:
            time.sleep(1)
            told = run("exec", name, "kws", "status", "--json")
            if told.stdout:
                heard = {
                    word: each["detections"] for word, each in json.loads(told.stdout)["keywords"].items()
                }
        assert heard == {"alexa": 1, "computer": 1, "jarvis": 1}, run("logs", name).stderr
        assert run("exec", name, "kws", "status").returncode == 0  # the health check
        assert run("exec", name, "touch", "/x").returncode != 0
        assert run("exec", name, "touch", "/var/lib/kws/x").returncode == 0
        assert run("exec", name, "kws", "mute").returncode == 0  # control.sock
        assert run("stop", name).returncode == 0
        assert run("inspect", "--format", "{{.State.ExitCode}}", name).stdout.strip() == "0"
    finally:
        run("rm", "--force", "--volumes", name)
        run("rmi", name)
