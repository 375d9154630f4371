"""What Home Assistant is told, and what it may say: plain data, checked against its rules."""

import json
import math
import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kws.errors import KwsError
from kws.network import discovery
from kws.network.discovery import Topics

STATUS = json.loads((Path(__file__).parent / "data" / "status.json").read_text())
TOPICS = Topics("kws_hall")
WORDS = STATUS["model"]["keywords"]


def components():
    return discovery.description(TOPICS, "kws hall", STATUS)["components"]


def test_every_component_is_as_home_assistant_demands():
    description = discovery.description(TOPICS, "kws hall", STATUS)
    assert description["device"] == {
        "identifiers": ["kws_hall"],
        "name": "kws hall",
        "manufacturer": "kws",
        "model": "Raspberry Pi Zero 2 W Rev 1.0",
        "sw_version": "0.2.0",
    }
    assert description["availability_topic"] == "kws/kws_hall/availability"
    identities = []
    for key, component in components().items():
        assert re.fullmatch("[A-Za-z0-9_-]+", key)
        if component["platform"] == "device_automation":
            assert component["payload"] == "detected"
        else:
            identities.append(component["unique_id"])
    assert len(set(identities)) == len(identities) == len(components()) - len(WORDS)


def test_each_keyword_has_a_trigger_and_a_measured_one_a_number():
    assert components()["wake"]["event_types"] == ["alexa", "computer", "jarvis"]
    assert components()["trigger_jarvis"]["topic"] == "kws/kws_hall/keyword/jarvis"
    number = components()["rate_computer"]
    assert (number["min"], number["max"], number["command_topic"]) == (
        0.123,
        24.0,
        "kws/kws_hall/false_accepts_per_day/computer/set",
    )
    assert "rate_jarvis" not in components()  # nobody measured its curve


def test_numbers_differ_where_home_assistant_cuts_their_names():
    names = [each["name"] for each in components().values() if each["platform"] == "number"]
    assert len({name[:5] for name in names}) == len(names) == 2


def test_every_template_finds_its_value_in_the_state():
    state = discovery.state(STATUS)
    for component in components().values():
        if "value_template" in component:
            path = re.fullmatch(r"{{ value_json\.(.+) }}", component["value_template"])[1]
            value = state
            for part in re.findall(r"[\w-]+", path):
                value = value[part]
    assert state == {
        "state": "listening",
        "reason": "on ReSpeaker 4 Mic Array (UAC1.0)",
        "listening": "ON",
        "activations": 16,
        "latency_ms": {"p50": 81.6, "p95": 84.0, "p99": 87.1},
        "power_w": 0.0045,
        "machine_power_w": 2.09,
        "cpu_percent": 0.94,
        "temperature_c": 48.3,
        "false_accepts_per_day": {"alexa": 1, "computer": 1, "jarvis": None},
    }


@given(st.lists(st.text(max_size=8), unique=True, max_size=5))
@example(["hey jarvis", "hey_jarvis", "hey-5f-jarvis", "-", "--"])
def test_different_words_have_different_topics(words):
    slugs = [discovery.slug(word) for word in words]
    assert len(set(slugs)) == len(words)
    assert all(re.fullmatch("[A-Za-z0-9_-]*", slug) for slug in slugs)


def test_a_component_that_is_gone_is_named_for_the_last_time():
    old = {"components": {"a": {"platform": "sensor", "name": "A"}, "b": {"platform": "event"}}}
    new = {"components": {"b": {"platform": "event"}}, "device": {}}
    assert discovery.without(old, new) == {
        "components": {"b": {"platform": "event"}, "a": {"platform": "sensor"}},
        "device": {},
    }


@pytest.mark.parametrize(
    ("topic", "payload", "request_"),
    [
        (TOPICS.listening, b"ON", {"request": "unmute"}),
        (TOPICS.listening, b"OFF", {"request": "mute", "seconds": None}),
        (TOPICS.rate("alexa"), b"0.5", {"request": "set", "false_accepts_per_day": {"alexa": 0.5}}),
    ],
)
def test_commands(topic, payload, request_):
    assert discovery.command(TOPICS, WORDS, topic, payload) == request_


@given(
    st.sampled_from([TOPICS.listening, *map(TOPICS.rate, WORDS), TOPICS.birth]) | st.text(),
    st.binary() | st.text().map(str.encode) | st.floats().map(lambda number: str(number).encode()),
)
@example(TOPICS.rate("alexa"), b"1_0")
@example(TOPICS.rate("alexa"), b"infinity")
@example(TOPICS.rate("alexa"), "\u0661".encode())
@example(TOPICS.rate("alexa"), b"1" * 5000)
def test_any_message_is_a_sound_request_or_one_sentence(topic, payload):
    complaint, request = "", {"request": None}
    try:
        request = discovery.command(TOPICS, WORDS, topic, payload)
    except KwsError as error:
        complaint = str(error)
    if complaint:
        assert "\n" not in complaint
        assert len(complaint) < 1000
    elif request["request"] == "set":
        ((word, rate),) = request["false_accepts_per_day"].items()
        assert word in WORDS
        assert 0 < rate < math.inf
    else:
        assert request["request"] in ("mute", "unmute")
