"""Lamps: what lights them and for how long, and what happens where there are no pins."""

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import program_environment
from daemons import needs_microphone, room, running  # noqa: F401 (a fixture)

from kws.daemon.led import Led, LedSettings

mock = pytest.importorskip("gpiozero.pins.mock")

DETECTION = {"event": "detection", "keyword": "computer"}


def wait_for(condition, seconds=20):
    end_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.01)


@pytest.fixture
def factory(monkeypatch):
    """The pins of a Raspberry Pi, as gpiozero mocks them."""
    factory = mock.MockFactory()
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "mock")
    monkeypatch.setattr(mock, "MockFactory", lambda: factory)
    return factory


@pytest.fixture
def led(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    led = Led(tmp_path)
    yield led
    led.close()


@pytest.fixture
def begin(led, factory, caplog):
    """Configure the lamps and wait until they work; returns their pins."""

    def begin(**settings):
        caplog.clear()
        led.configure(LedSettings(**settings))
        wait_for(lambda: "led: ready" in caplog.text)
        pins = [settings[key] for key in ("pin", "listening_pin") if key in settings]
        return [factory.pin(pin) for pin in pins]

    return begin


def states(pin):
    return [change.state for change in pin.states]


def test_detection_lights_the_lamp_for_a_while(led, begin):
    (pin,) = begin(pin="GPIO17", on_seconds=0.3)
    led.put(DETECTION)
    wait_for(lambda: states(pin) == [False, True, False])
    assert pin.states[-1].timestamp >= 0.3


def test_further_detection_extends_the_light(led, begin):
    (pin,) = begin(pin=17, on_seconds=0.6)
    led.put(DETECTION)
    wait_for(lambda: pin.state)
    time.sleep(0.3)
    led.put(DETECTION)
    wait_for(lambda: not pin.state)
    assert states(pin) == [False, True, False]
    assert pin.states[-1].timestamp >= 0.9


def test_only_wanted_words_light_it(led, begin):
    (pin,) = begin(pin="GPIO17", on_seconds=0.1, keywords=("computer",))
    led.put(DETECTION | {"keyword": "alexa"})
    led.put(DETECTION | {"event": "near-miss"})
    led.put({"event": "config", "error": None})
    time.sleep(0.2)
    assert states(pin) == [False]
    led.put(DETECTION)
    wait_for(lambda: states(pin) == [False, True, False])


def test_lamp_between_supply_and_pin_is_lit_by_a_low_pin(led, begin):
    (pin,) = begin(pin="GPIO17", on_seconds=0.1, active_high=False)
    wait_for(lambda: pin.state)  # dark
    pin.clear_states()
    led.put(DETECTION)
    wait_for(lambda: states(pin) == [True, False, True])


def test_lamp_tells_whether_the_microphone_is_open(led, begin):
    (pin,) = begin(listening_pin="GPIO27")
    wait_for(lambda: pin.state)  # it is being opened
    for state, is_lit in [
        ("muted", False),
        ("opening", True),
        ("lost", False),
        ("listening", True),
        ("lost", False),
        ("silent", True),
    ]:
        led.put({"event": "state", "state": state, "reason": ""})
        wait_for(lambda is_lit=is_lit: pin.state is is_lit)
    led.put({"event": "state", "state": "muted", "reason": ""})
    (other,) = begin(listening_pin="GPIO22")  # a reload while it is muted
    led.put(DETECTION)
    time.sleep(0.1)
    assert states(other) == [False]


def test_pins_are_dark_and_free_when_it_ends(led, begin):
    heard, listening = begin(pin="GPIO17", listening_pin="GPIO27", on_seconds=60.0)
    led.put(DETECTION)
    wait_for(lambda: heard.state and listening.state)
    led.close()
    assert not heard.state
    assert not listening.state
    assert {heard.function, listening.function} == {"input"}
    heard, listening = begin(pin="GPIO27", listening_pin="GPIO17")  # as by a reload
    wait_for(lambda: listening.state)
    assert not heard.state


def test_nothing_is_loaded_without_lamps(tmp_path):
    code = "import sys, kws.commands.run; print('gpiozero' in sys.modules, 'lgpio' in sys.modules)"
    environment = program_environment(tmp_path)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=environment)
    assert done.stdout.split() == [b"False", b"False"]


def test_same_settings_change_nothing(led, begin, caplog):
    (pin,) = begin(pin="GPIO17", on_seconds=60.0)
    led.put(DETECTION)
    wait_for(lambda: pin.state)
    led.configure(LedSettings(pin="GPIO17", on_seconds=60.0))
    led.put(DETECTION)
    assert caplog.text.count("ready") == 1
    assert states(pin) == [False, True]


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"pin": "GPIO99"}, "led: GPIO99 is not a valid pin name; correct led"),
        ({"pin": "GPIO17", "listening_pin": 17}, "already in use"),
    ],
)
def test_a_pin_that_cannot_be_used_costs_one_line_for_each_reload(led, factory, caplog, settings, complaint):
    for count in (1, 2):
        led.configure(LedSettings(**settings))
        wait_for(lambda count=count: len(caplog.records) == count)
        led._thread.join()
        led.put(DETECTION)
    assert all(complaint in record.message for record in caplog.records)


@pytest.mark.parametrize("package", ["gpiozero", "lgpio"])
def test_missing_package_is_named(led, caplog, monkeypatch, package):
    monkeypatch.delenv("GPIOZERO_PIN_FACTORY", raising=False)
    monkeypatch.delitem(sys.modules, "gpiozero.pins.lgpio", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    led.configure(LedSettings(pin="GPIO17"))
    sentence = f"led: {package} is not installed; run: pip install 'kws[led]'"
    wait_for(lambda: [record.message for record in caplog.records] == [sentence])


def test_unknown_way_to_the_pins_is_named(led, caplog, monkeypatch):
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "candle")
    led.configure(LedSettings(pin="GPIO17"))
    wait_for(lambda: "no pin factory 'candle'; correct $GPIOZERO_PIN_FACTORY" in caplog.text)


# A way to the pins, as a package may bring one, that writes down what they do.
WITNESS = """
import os
from gpiozero.pins.mock import MockFactory, MockPin

class Pin(MockPin):
    def _change_state(self, value):
        if changed := super()._change_state(value):
            with open(os.environ["WITNESS"], "a") as file:
                print(self.info.name, int(value), file=file)
        return changed

def Factory():
    return MockFactory(pin_class=Pin)
"""


@pytest.fixture
def witness(tmp_path):
    """Environment of a daemon whose pins are witnessed in the file WITNESS."""
    (tmp_path / "witness.py").write_text(WITNESS)
    package = tmp_path / "witness-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: witness\nVersion: 1\n")
    (package / "entry_points.txt").write_text("[gpiozero_pin_factories]\nwitness = witness:Factory\n")
    (tmp_path / "seen").touch()
    path = os.pathsep.join([str(tmp_path), program_environment(tmp_path)["PYTHONPATH"]])
    return {"GPIOZERO_PIN_FACTORY": "witness", "PYTHONPATH": path, "WITNESS": str(tmp_path / "seen")}


@pytest.mark.system
@needs_microphone
def test_daemon_shows_what_it_does(room, toy_folder, notes, witness, tmp_path):  # noqa: F811
    def seen(*changes):
        wait_for(lambda: (tmp_path / "seen").read_text().splitlines() == [*changes], 20)

    lamps = {"pin": "GPIO17", "listening_pin": "GPIO27", "keywords": ["low note"], "on_seconds": 0.2}
    settings = {"model": str(toy_folder), "led": lamps}
    with running(room, settings, **witness) as daemon:
        daemon.wait(lambda status: status["state"] == "listening")
        seen("GPIO27 1")
        room.say(notes)
        seen("GPIO27 1", "GPIO17 1", "GPIO17 0")
        daemon.ask("mute")
        seen("GPIO27 1", "GPIO17 1", "GPIO17 0", "GPIO27 0")
        (tmp_path / "seen").write_text("")
        daemon.write(settings | {"led": {"listening_pin": "GPIO22"}})
        daemon.ask("reload")
        daemon.ask("unmute")
        seen("GPIO22 1")
        assert daemon.end() == 0
        seen("GPIO22 1", "GPIO22 0")
        assert "Traceback" not in daemon.log.read_text()


def test_daemon_without_pins_says_so_and_goes_on(toy_folder):
    pytest.importorskip("lgpio")
    environment = {"GPIOZERO_PIN_FACTORY": "lgpio"}
    with running(None, {"model": str(toy_folder), "led": {"pin": "GPIO17"}}, **environment) as daemon:
        wait_for(lambda: "led: " in daemon.log.read_text(), 20)
        assert "; lamps need a Raspberry Pi; remove led" in daemon.log.read_text()
        assert daemon.status()["pid"] == daemon.process.pid
        # lgpio's pipe lies with the sockets, and the working directory is what it was.
        assert (daemon.runtime / ".lgd-nfy0").exists()
        assert Path(f"/proc/{daemon.process.pid}/cwd").readlink() == Path.cwd()
        assert daemon.end() == 0
        assert "Traceback" not in daemon.log.read_text()
