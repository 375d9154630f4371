"""kws.yaml: what ships is what holds without it, and whatever else is in it ends in one sentence."""

import dataclasses
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from kws import config
from kws.daemon.led import LedSettings
from kws.daemon.settings import Settings, find_config, load_settings
from kws.errors import ConfigError, KwsError
from kws.network.mqtt import MqttSettings

SHIPPED = ROOT / "configs" / "kws.yaml"
KEYS = [
    "model",
    "false_accepts_per_day",
    "microphone",
    "gate",
    "hooks",
    "webhooks",
    "led",
    "mqtt",
    "capture",
    "power",
    "prometheus_file",
]
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["device", "channels", "pick", "block_ms", "enabled", "command", "max_mb", "alexa"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)


def test_shipped_file_holds_the_defaults_and_every_key():
    assert load_settings(SHIPPED) == Settings() == load_settings(None)
    assert set(config.dump(Settings())) == set(yaml.safe_load(SHIPPED.read_text()))
    for key, value in yaml.safe_load(SHIPPED.read_text()).items():
        default = config.dump(Settings())[key]
        assert not isinstance(default, dict) or set(value) == set(default), key


@pytest.mark.parametrize(
    ("key", "cls", "needs"), [("mqtt", MqttSettings, "host"), ("led", LedSettings, "pin")]
)
def test_what_is_commented_out_holds_the_defaults_too(key, cls, needs):
    lines = SHIPPED.read_text().splitlines()
    start = lines.index(next(line for line in lines if line.startswith(f"{key}:"))) + 1
    block = [line[1:] for line in lines[start : lines.index("", start)]]
    given = yaml.safe_load("\n".join(block))
    assert config.parse(given, cls) == cls(**{needs: given[needs]})
    assert set(given) == {field.name for field in dataclasses.fields(cls)}


def test_example_of_the_bridge_is_taken():
    assert config.load(ROOT / "examples" / "mqtt.yaml", MqttSettings).username == "kws"
    automations = yaml.safe_load((ROOT / "examples" / "home-assistant-automations.yaml").read_text())
    assert all({"alias", "triggers", "actions"} <= set(automation) for automation in automations)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("microfone: {}", "did you mean 'microphone'"),
        ("false_accepts_per_day: -1", "false_accepts_per_day must be above 0"),
        ("false_accepts_per_day: {alexa: 0}", "false_accepts_per_day must be above 0"),
        ("microphone: {block_ms: 10}", "microphone.block_ms must be 40 to 160"),
        ("hooks: [{command: []}]", "command is empty"),
        ("led: {}", "led.pin is missing"),
        ("led: {pin: lamp}", "led.pin 'lamp' is no name of a pin"),
        ("led: {pin: 17, listening_pin: -1}", "led.listening_pin -1 is no name"),
        ("led: {pin: 17, on_seconds: 0}", "led.on_seconds must be above 0"),
        ("prometheus_file: kws.prom", "from / on"),
        ("capture: {enabled: maybe}", "capture.enabled must be true or false"),
        ("model: [", "not valid YAML"),
        ("[]", "must be a mapping"),
    ],
)
def test_mistake_is_named(tmp_path, text, complaint):
    path = tmp_path / "kws.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=complaint):
        load_settings(path)


def settings_or_sentence(load):
    try:
        outcome = load()
    except KwsError as error:
        outcome = str(error)
    assert isinstance(outcome, Settings) or (outcome and "\n" not in outcome)


@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4) | VALUES)
def test_anything_else_is_settings_or_one_sentence(data):
    settings_or_sentence(lambda: config.parse(data, Settings))


@given(st.binary(max_size=60))
def test_any_bytes_are_settings_or_one_sentence(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_bytes(content)
    settings_or_sentence(lambda: load_settings(path))


def test_the_users_own_file_comes_first(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert "neither" in find_config(None)[1]
    own = tmp_path / ".config" / "kws" / "kws.yaml"
    own.parent.mkdir(parents=True)
    own.touch()
    assert find_config(None) == (own, "it is the user's own")
    assert find_config(Path("x")) == (Path("x"), "it was asked for")
