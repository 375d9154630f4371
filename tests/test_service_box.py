"""The service where it belongs: installed, by its own installer, on a Debian that a systemd has booted.

One container for all: each test leaves the service running, as it found it.
"""

import asyncio
import json
import re
import subprocess
import time
from pathlib import Path

import paho.mqtt
import pytest
import soundfile
from box import Box, booted
from broker import PROGRAM as BROKER
from broker import Mosquitto, Observer, needs_broker
from conftest import ROOT
from wyoming.client import AsyncClient
from wyoming.info import Describe
from wyoming_server import chunks, names, say, told

pytestmark = pytest.mark.system

HOME = "/home/pi/kws"
KWS = ("/opt/kws/bin/kws",)
INSTALL = (f"{HOME}/bin/python", "-m", "kws", "service")
CONFIG = "/etc/kws/kws.yaml"
SETTINGS = """
model: default
microphone:
  device: kwsmic
hooks:
  - command: [sh, -c, 'sleep 0.3; echo "$0 $(nice)" >> /var/lib/kws/hooked', "{keyword}"]
"""
WORDS = ["alexa", "computer", "jarvis"]
EXTRAS = ("wyoming", "zeroconf", "ifaddr", "paho")
NO_CRASH = re.compile(r"SEGV|dumped core|Traceback|status=11|Aborted")


@pytest.fixture(scope="module")
def box(program):
    """A Debian with a microphone, and kws in a user's home, readable to nobody else; not yet a service."""
    library = next(program.parent.parent.glob("lib/python3*/site-packages"))
    extras = Path(paho.mqtt.__file__).parent.parent.parent
    shared = ((library, "library"), (extras, "extras"), (ROOT / "models" / "default", "model"))
    with booted(*shared) as box:
        box.run("systemctl", "start", "fakemic")
        box.run("python3", "-m", "venv", "--without-pip", HOME, user="pi")
        copied = "/host/library/. " + " ".join(f"/host/extras/{name}*" for name in EXTRAS)
        box.run("sh", "-c", f"umask 077; cp -r {copied} {HOME}/lib/python3*/site-packages/", user="pi")
        yield box


@pytest.fixture(scope="module")
def service(box: Box) -> Box:
    """The service, installed by a root that hides its files."""
    box.write(CONFIG, SETTINGS)
    printed = box.run("sh", "-c", f"umask 077; {' '.join(INSTALL)} install", seconds=300)
    assert f"keep {CONFIG}\n" in printed
    assert "\nnow       listening: kwsmic\n" in printed
    return box


@pytest.fixture
def installed(service: Box) -> Box:
    """The service at work, whatever the test before has left."""
    if (service.run("cat", CONFIG), state(service)) != (SETTINGS, "listening"):
        service.run("systemctl", "start", "fakemic")
        service.write(CONFIG, SETTINGS)
        service.run("rm", "-f", "/var/lib/kws/mute.json")
        service.run("systemctl", "restart", "kws")
        listens(service)
    return service


def status(box: Box, *, user: str = "pi", instance: str | None = None) -> dict:
    arguments = ["--instance", instance] if instance else []
    done = box.try_run(*KWS, "status", "--json", *arguments, user=user)
    assert done.stderr == ""
    return json.loads(done.stdout)


def state(box: Box) -> str:
    """What the service says of itself, "" where it does not answer."""
    done = box.try_run(*KWS, "status", "--json")
    return json.loads(done.stdout)["state"] if done.stdout else ""


def listens(box: Box, seconds: float = 60) -> None:
    box.wait(lambda: state(box) == "listening", "the service to listen", seconds)


PLAY = ("paplay", "--server=unix:/run/fakemic/native", "--device=kwsmic", "/host/model/example.flac")


def heard(box: Box, since: str, unit: str = "_SYSTEMD_UNIT=kws.service") -> list[str]:
    """Words in the journal, by their own field."""
    lines = box.journal("-o", "json", f"--since=@{since}", "KWS_EVENT=detection", unit).splitlines()
    return [json.loads(line)["KWS_KEYWORD"] for line in lines]


def now(box: Box) -> str:
    return box.run("date", "+%s.%N").strip()


def test_installed_service_is_ready_and_says_what_it_hears(installed: Box) -> None:
    assert installed.show("kws", "ActiveState") == "active"
    listens(installed)
    assert installed.show("kws", "StatusText").startswith("listening: ")
    assert "kwsmic" in installed.show("kws", "StatusText")
    assert installed.run("systemctl", "is-enabled", "kws").strip() == "enabled"


def test_installation_keeps_the_settings_that_are_there(installed: Box) -> None:
    assert installed.run("cat", CONFIG) == SETTINGS


def test_systemd_approves_of_what_is_installed(installed: Box) -> None:
    for unit in ("kws.service", "kws@.service"):
        done = installed.try_run("systemd-analyze", "verify", f"/etc/systemd/system/{unit}")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = installed.try_run("systemd-analyze", "security", "--threshold=10", "kws.service")
    assert done.returncode == 0, done.stdout


def test_anybody_may_ask_for_the_status_and_the_group_audio_mute(installed: Box) -> None:
    snapshot = status(installed)
    assert (snapshot["state"], snapshot["model"]["name"]) == ("listening", "default")
    assert snapshot["config"]["path"] == CONFIG
    assert "listening" in installed.run(*KWS, "status", user="pi")
    refused = installed.try_run(*KWS, "mute", user="pi")
    assert refused.returncode == 1
    assert "group audio" in refused.stderr
    installed.run("usermod", "--append", "--groups", "audio", "pi")
    installed.run(*KWS, "mute", user="pi")
    installed.wait(lambda: state(installed) == "muted", "the microphone to be closed")
    installed.run(*KWS, "unmute", user="pi")
    installed.run("usermod", "--groups", "", "pi")
    listens(installed)


def test_words_are_in_the_journal_with_fields(installed: Box) -> None:
    start = now(installed)
    installed.run(*PLAY)
    installed.wait(lambda: heard(installed, start) == WORDS, "the words of the recording", 10)
    assert status(installed)["keywords"]["computer"]["detections"] >= 1


def test_hooks_run_in_the_sandbox_at_a_lower_priority(installed: Box) -> None:
    lines = [f"{word} 5" for word in WORDS]
    installed.wait(lambda: installed.run("cat", "/var/lib/kws/hooked").splitlines()[:3] == lines, "the hooks")


def test_good_settings_are_taken_over_while_it_listens(installed: Box) -> None:
    before = status(installed)
    start = now(installed)
    installed.write(CONFIG, SETTINGS + "gate: {enabled: false}\n")
    with installed.start(*PLAY) as player:
        time.sleep(4)  # between two words
        installed.run("systemctl", "reload", "kws")
        installed.wait(
            lambda: status(installed)["config"]["loaded"] > before["config"]["loaded"], "new settings"
        )
        assert player.wait(20) == 0
    installed.wait(lambda: heard(installed, start) == WORDS, "all words", 10)
    after = status(installed)
    assert (before["gate"]["enabled"], after["gate"]["enabled"]) == (True, False)
    assert (after["config"]["error"], after["pid"]) == (None, before["pid"])
    assert after["audio"]["reopens"] == before["audio"]["reopens"]
    assert after["audio"]["lost_ms"] - before["audio"]["lost_ms"] <= 80  # a block


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ("microfone: {}\n", "did you mean 'microphone'?"),
        ("model: /nowhere\n", "there is no model '/nowhere'"),
        ("model: /srv/damaged\n", "it is truncated"),
        (": [", "not valid YAML"),
    ],
)
def test_bad_settings_leave_the_old_ones_in_force(installed: Box, settings: str, complaint: str) -> None:
    before = installed.show("kws", "MainPID")
    installed.run(
        "sh",
        "-c",
        "rm -rf /srv/damaged && cp -r /host/model /srv/damaged && truncate -s -1 /srv/damaged/model.onnx",
    )
    installed.write(CONFIG, settings)
    installed.run("systemctl", "reload", "kws")
    installed.wait(lambda: complaint in (status(installed)["config"]["error"] or ""), "the complaint")
    assert complaint in installed.show("kws", "StatusText")
    assert installed.show("kws", "ActiveState") == "active"
    installed.write(CONFIG, SETTINGS)
    installed.run("systemctl", "reload", "kws")
    installed.wait(lambda: status(installed)["config"]["error"] is None, "the good settings")
    assert (installed.show("kws", "MainPID"), state(installed)) == (before, "listening")


def test_captures_are_kept_if_they_are_enabled_and_only_for_root(installed: Box) -> None:
    assert captures(installed) == []
    installed.write(CONFIG, SETTINGS + "capture: {enabled: true}\n")
    installed.run("systemctl", "reload", "kws")
    installed.run(*PLAY)
    installed.wait(
        lambda: [event["keyword"] for event in captures(installed)] == WORDS, "captures of all words"
    )
    files = installed.run("find", "/var/lib/private/kws", "-name", "*.flac").split()
    assert len(files) == 3
    assert all(installed.try_run("cat", file, user="pi").returncode for file in files)
    installed.run(*KWS, "captures", "delete", "--all")
    assert captures(installed) == []


def captures(box: Box) -> list[dict]:
    """Of detections; what came near is kept too."""
    listed = [json.loads(line)["event"] for line in box.run(*KWS, "captures", "--json").splitlines()]
    return [event for event in listed if event["event"] == "detection"]


def test_second_daemon_is_refused_and_disturbs_nobody(installed: Box) -> None:
    before = status(installed)
    done = installed.try_run(*KWS, "run", "--config", CONFIG)
    assert done.returncode == 1
    assert str(before["pid"]) in done.stderr
    assert (state(installed), status(installed)["pid"]) == ("listening", before["pid"])


def test_killed_service_comes_back(installed: Box) -> None:
    restarts = int(installed.show("kws", "NRestarts"))
    installed.run("systemctl", "kill", "--kill-whom=main", "--signal=SIGKILL", "kws")
    installed.wait(lambda: int(installed.show("kws", "NRestarts")) == restarts + 1, "a restart")
    listens(installed)


def test_frozen_service_is_restarted_by_the_watchdog(installed: Box, request: pytest.FixtureRequest) -> None:
    drop_ins = "/run/systemd/system/kws.service.d"
    request.addfinalizer(lambda: installed.run("sh", "-c", f"rm -r {drop_ins}; systemctl daemon-reload"))
    installed.write(f"{drop_ins}/soon.conf", "[Service]\nWatchdogSec=4\n")
    installed.run("systemctl", "daemon-reload")
    installed.run("systemctl", "restart", "kws")
    time.sleep(6)  # longer than the watchdog's time: what works is left alone
    assert installed.show("kws", "NRestarts") == "0"
    installed.run("systemctl", "kill", "--kill-whom=main", "--signal=SIGSTOP", "kws")
    installed.wait(lambda: installed.show("kws", "NRestarts") == "1", "the watchdog", 30)
    assert "Watchdog timeout" in installed.journal("-u", "kws", "-b")
    where = re.compile(r"Thread .*\n.*File .*/kws/")
    installed.wait(lambda: where.search(installed.journal("-u", "kws", "-b")), "the stack of a thread")
    listens(installed)


def test_microphone_may_go_and_come_back(installed: Box) -> None:
    before = installed.show("kws", "MainPID"), installed.show("kws", "NRestarts")
    installed.run("systemctl", "stop", "fakemic")
    installed.wait(lambda: state(installed) == "lost", "the loss to be noticed")
    assert installed.show("kws", "StatusText").startswith("lost: ")
    assert installed.try_run(*KWS, "status", user="pi").returncode == 1
    installed.run("systemctl", "start", "fakemic")
    listens(installed)
    assert (installed.show("kws", "MainPID"), installed.show("kws", "NRestarts")) == before
    start = now(installed)
    installed.run(*PLAY)
    installed.wait(lambda: heard(installed, start) == WORDS, "the words at the microphone's return", 10)


def test_service_starts_without_a_microphone_and_finds_it_later(installed: Box) -> None:
    installed.run("systemctl", "stop", "fakemic")
    installed.run("systemctl", "restart", "kws")
    assert state(installed) == "lost"
    installed.run("systemctl", "start", "fakemic")
    listens(installed)


def test_service_stops_without_a_crash(installed: Box) -> None:
    for _ in range(3):
        start = now(installed)
        installed.run("systemctl", "stop", "kws")
        assert installed.show("kws", "Result") == "success"
        assert installed.show("kws", "ExecMainStatus") == "0"
        assert not NO_CRASH.search(installed.journal("-u", "kws", f"--since=@{start}"))
        assert not installed.try_run("ls", "/run/kws").stdout
        installed.run("systemctl", "start", "kws")
    listens(installed)


PROBE = """
import errno, os, socket
def allowed(what):
    try:
        what()
        return True
    except OSError:
        return False
found = {
    "internet": allowed(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)),
    "unix": allowed(lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)),
    "home": allowed(lambda: os.listdir("/home/pi")),
    "settings": allowed(lambda: open("/etc/kws/kws.yaml", "a")),
    "program": allowed(lambda: open("/opt/kws/lib/new", "w")),
    "own state": allowed(lambda: open(os.environ["STATE_DIRECTORY"] + "/new", "w")),
    "root": os.geteuid() == 0,
    "others": allowed(lambda: os.stat("/proc/1")),
}
print("allowed", ", ".join(name for name, is_allowed in found.items() if is_allowed))
"""


def test_sandbox_holds_and_the_drop_in_opens_only_the_network(installed: Box) -> None:
    installed.write("/opt/probe.py", PROBE)
    drop_ins = "/run/systemd/system/kws@probe.service.d"
    program = "/opt/kws/bin/python /opt/probe.py"
    installed.write(
        f"{drop_ins}/probe.conf", f"[Service]\nType=oneshot\nRestart=no\nExecStart=\nExecStart={program}\n"
    )
    for also in ([], ["internet"]):
        installed.run("systemctl", "daemon-reload")
        installed.run("systemctl", "start", "kws@probe")
        printed = installed.journal("-u", "kws@probe", "-o", "cat", "--grep", "^allowed").splitlines()
        assert printed[-1].split(maxsplit=1)[1] == ", ".join([*also, "unix", "own state"])
        installed.write(f"{drop_ins}/network.conf", (ROOT / "service" / "network.conf").read_text())
    installed.run("rm", "-r", drop_ins, "/var/lib/private/kws-probe", "/var/lib/kws-probe", "/opt/probe.py")
    installed.run("systemctl", "daemon-reload")


def test_private_settings_are_refused_once_and_clearly(installed: Box) -> None:
    installed.run("chmod", "600", CONFIG)
    assert installed.try_run("systemctl", "restart", "kws").returncode == 1
    assert f"cannot read {CONFIG}: Permission denied" in installed.journal("-u", "kws", "-n", "20")
    assert installed.show("kws", "ExecMainStatus") == "2"
    assert installed.show("kws", "ActiveState") == "failed"  # and no restart every two seconds
    installed.run("chmod", "644", CONFIG)
    installed.run("systemctl", "start", "kws")
    listens(installed)


BROWSER = """
import asyncio
from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf
service = "_wyoming._tcp.local."
async def look():
    network, names = AsyncZeroconf(), asyncio.Queue()
    told = lambda name, **_: names.put_nowait(name)
    browser = AsyncServiceBrowser(network.zeroconf, service, handlers=[told])
    async with asyncio.timeout(20):
        while (name := await names.get()) != "kws-kitchen." + service:
            pass
    print((await network.async_get_service_info(service, name)).port)
    await browser.async_cancel()
    await network.async_close()
asyncio.run(look())
"""


def test_another_room_has_a_service_of_its_own_which_hears_for_others(installed: Box) -> None:
    wyoming = "wyoming: {uri: 'tcp://0.0.0.0:0', models: [default], zeroconf: kws-kitchen}\n"
    installed.write("/etc/kws/kitchen.yaml", SETTINGS + wyoming)
    installed.run(*INSTALL, "install", "--instance", "kitchen", "--network", seconds=300)
    assert status(installed, instance="kitchen")["instance"] == "kitchen"
    assert status(installed)["pid"] != status(installed, instance="kitchen")["pid"]
    done = installed.try_run("systemd-analyze", "security", "--threshold=18", "kws@kitchen.service")
    assert done.returncode == 0, done.stdout

    port = int(installed.run("/opt/kws/bin/python", "-c", BROWSER))
    audio = soundfile.read(ROOT / "models" / "default" / "example.flac", dtype="float32")[0]
    assert asyncio.run(conversation(port, Describe(), *chunks(audio))) == ["info", *WORDS]

    installed.run(*INSTALL, "uninstall", "--instance", "kitchen", "--purge")
    assert installed.show("kws@kitchen", "ActiveState") == "inactive"
    left = installed.run("ls", "/etc/kws", "/var/lib/private")
    assert "kitchen" not in left
    assert "kws.yaml" in left
    installed.run("sh", "-c", "rm /etc/systemd/system/kws*.d/network.conf; systemctl daemon-reload")
    listens(installed)


async def conversation(port: int, *what: object) -> list[str]:
    """The container has the network of this machine: what a server there answers."""
    async with AsyncClient.from_uri(f"tcp://127.0.0.1:{port}") as client:
        await say(client, *what)
        return names(await told(client))


@needs_broker
def test_bridge_beside_a_service_without_network_keeps_the_password(installed: Box, tmp_path: Path) -> None:
    secret, unit = "hush-77", "/etc/systemd/system/kws-mqtt.service"
    users = Path(BROKER).parent.parent / "bin" / "mosquitto_passwd"
    subprocess.run([users, "-b", "-c", tmp_path / "users", "kws", secret], check=True)
    settings = ("allow_anonymous false", f"password_file {tmp_path / 'users'}")
    with Mosquitto(tmp_path, *settings) as broker, Observer(broker.port, "kws", secret) as observer:
        installed.write(unit, (ROOT / "examples" / "kws-mqtt.service").read_text())
        installed.write("/etc/kws/mqtt.password", f"{secret}\n")
        installed.run("chmod", "600", "/etc/kws/mqtt.password")
        mqtt = f"{{host: 127.0.0.1, port: {broker.port}, username: kws, name: box}}"
        installed.write("/etc/kws/mqtt.yaml", mqtt)
        done = installed.try_run("systemd-analyze", "verify", unit)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        installed.run("systemctl", "daemon-reload")
        done = installed.try_run("systemd-analyze", "security", "--threshold=14", "kws-mqtt.service")
        assert done.returncode == 0, done.stdout

        installed.run("systemctl", "start", "kws-mqtt")
        observer.last("kws/kws_box/availability", lambda text: text == "online")
        device = json.loads(observer.last("homeassistant/device/kws_box/config"))
        assert set(WORDS) <= set(device["components"]["wake"]["event_types"])
        observer.say("kws/kws_box/listening/set", "OFF")
        installed.wait(lambda: state(installed) == "muted", "the bridge to mute")
        observer.say("kws/kws_box/listening/set", "ON")
        listens(installed)
        assert secret not in installed.run("ps", "axeww")
        assert secret not in installed.journal("-b")
        installed.run("systemctl", "stop", "kws-mqtt")
        observer.last("kws/kws_box/availability", lambda text: text == "offline")
    installed.run("rm", unit, "/etc/kws/mqtt.yaml", "/etc/kws/mqtt.password")
    installed.run("systemctl", "daemon-reload")


def copies(box: Box) -> list[str]:
    return [name for name in box.run("ls", "/opt").split() if name.startswith("kws")]


def test_upgrade_restarts_with_the_new_program(installed: Box) -> None:
    before = installed.show("kws", "MainPID"), installed.run("readlink", "/opt/kws")
    installed.run(*INSTALL, "upgrade", seconds=300)
    after = installed.show("kws", "MainPID"), installed.run("readlink", "/opt/kws")
    assert all(old != new for old, new in zip(before, after, strict=True))
    assert copies(installed) == ["kws", after[1].strip()]
    listens(installed)


def test_upgrade_to_a_broken_program_leaves_the_old_one(installed: Box) -> None:
    before = installed.run("readlink", "/opt/kws")
    (module,) = installed.run("sh", "-c", f"ls {HOME}/lib/python3*/site-packages/kws/commands/run.py").split()
    good = installed.run("cat", module)
    installed.write(module, "raise SystemExit(9)\n")
    done = installed.try_run(*INSTALL, "upgrade", seconds=300)
    installed.write(module, good)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("until then the old program runs again")
    assert installed.run("readlink", "/opt/kws") == before
    listens(installed)


def test_user_has_a_service_of_his_own_on_his_pipewire(installed: Box) -> None:
    installed.run("systemctl", "stop", "kws")
    installed.write("/home/pi/.config/kws/kws.yaml", "microphone: {device: desk, flat_line_seconds: 3}\n")
    installed.run("chown", "-R", "pi:", "/home/pi/.config")
    done = installed.try_run("env", "SUDO_USER=pi", *INSTALL, "install", "--user", seconds=300)
    assert done.returncode == 0, done.stderr + installed.journal()
    systemctl = ("systemctl", "--user")
    assert installed.run(*systemctl, "is-active", "kws", user="pi").strip() == "active"
    assert status(installed)["config"]["path"] == "/home/pi/.config/kws/kws.yaml"
    (program,) = installed.run("sh", "-c", "ls -d /home/pi/.local/share/kws/program-*").split()
    assert installed.run("stat", "-c", "%U", program).strip() == "pi"
    plug = ("pactl", "load-module", "module-null-sink", "sink_name=desk")
    play = ("paplay", "--device=desk", "/host/model/example.flac")
    for _ in range(2):  # PipeWire lets a microphone go without an error, and come back
        module, start = installed.run(*plug, user="pi").strip(), now(installed)

        def hears(start: str = start) -> list[str]:
            installed.run(*play, user="pi")
            return heard(installed, start, "_SYSTEMD_USER_UNIT=kws.service")

        installed.wait(hears, "a word on the desk", 60)
        installed.run("pactl", "unload-module", module, user="pi")
        installed.wait(lambda: status(installed)["state"] in ("silent", "lost"), "the loss to be noticed")
    installed.run(*INSTALL, "uninstall", "--user", "--purge", user="pi")
    assert installed.try_run(*systemctl, "is-active", "kws", user="pi").stdout.strip() == "inactive"
    assert not installed.run("find", "/home/pi/.config", "/home/pi/.local", "-name", "*kws*")
    installed.run("systemctl", "start", "kws")
    listens(installed)


def test_full_disk_leaves_the_old_program(installed: Box) -> None:
    before = copies(installed)
    installed.run(
        "sh", "-c", "mkdir /small && mount -t tmpfs -o size=30M small /small && mkdir /small/w /small/u"
    )
    layers = "lowerdir=/opt,upperdir=/small/u,workdir=/small/w"
    installed.run("mount", "-t", "overlay", "-o", layers, "overlay", "/opt")
    done = installed.try_run(*INSTALL, "upgrade", seconds=300)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("No space left on device; make room")
    assert copies(installed) == before
    installed.run("umount", "/opt", "/small")
    listens(installed)


def test_nothing_left_the_machine_and_nothing_was_recorded(installed: Box) -> None:
    kept = installed.run("find", "/var/lib/private/kws", "-type", "f").split()
    assert not [name for name in kept if Path(name).suffix in (".flac", ".wav", ".db", ".sqlite")], kept
    assert "onnxruntime" not in installed.run("find", "/var/lib/private/kws")


def test_uninstalling_leaves_settings_and_a_purge_takes_them(installed: Box) -> None:
    installed.run(*INSTALL, "uninstall")
    assert copies(installed) == []
    assert installed.run("cat", CONFIG) == SETTINGS
    assert installed.try_run("systemctl", "status", "kws").returncode == 4  # no such unit
    installed.run(*INSTALL, "uninstall", "--purge")
    left = installed.run(
        "find", "/etc", "/opt", "/var/lib", "/run", "-name", "*kws*", "-not", "-path", "*wants*"
    )
    assert left == ""
