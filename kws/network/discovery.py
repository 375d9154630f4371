"""What Home Assistant is told over MQTT, and what it may say: topics, payloads and commands, all plain data.

The format is Home Assistant's device discovery
(https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload): one retained message describes
the device and all its entities. Everything below is made from the status and the events of a daemon.
"""

import math
from dataclasses import dataclass
from typing import Any

from kws.errors import KwsError
from kws.protocol import Message

ONLINE, OFFLINE = "online", "offline"
DETECTED = "detected"
"""What a device trigger waits for."""

_NUMBER_LENGTH = 32
_RATE_STEP = 0.001  # the finest that Home Assistant allows
_PLATFORM = "platform"


@dataclass(frozen=True)
class Topics:
    """Where everything of one device is."""

    device: str
    """Its identity: letters, digits, - and _."""
    prefix: str = "kws"
    discovery_prefix: str = "homeassistant"

    @property
    def base(self) -> str:
        """Before all topics of the device."""
        return f"{self.prefix}/{self.device}"

    @property
    def discovery(self) -> str:
        """The description of the device."""
        return f"{self.discovery_prefix}/device/{self.device}/config"

    @property
    def birth(self) -> str:
        """Where Home Assistant says that it has started."""
        return f"{self.discovery_prefix}/status"

    @property
    def availability(self) -> str:
        """`ONLINE` or `OFFLINE`, the latter also by last will."""
        return f"{self.base}/availability"

    @property
    def state(self) -> str:
        """See `state`."""
        return f"{self.base}/state"

    @property
    def event(self) -> str:
        """See `event`."""
        return f"{self.base}/event"

    @property
    def listening(self) -> str:
        """Command: ON or OFF."""
        return f"{self.base}/listening/set"

    def keyword(self, word: str) -> str:
        """`DETECTED` when a word was heard."""
        return f"{self.base}/keyword/{slug(word)}"

    @property
    def rates(self) -> str:
        """Every `rate`, to subscribe to."""
        return f"{self.base}/false_accepts_per_day/+/set"

    def rate(self, word: str) -> str:
        """Command: false accepts per day of a word."""
        return f"{self.base}/false_accepts_per_day/{slug(word)}/set"


def slug(text: str) -> str:
    """`text` in letters, digits, - and _; different ones stay different: "hey jarvis" -> "hey_jarvis"."""
    return "".join(c if c.isascii() and c.isalnum() else "_" if c == " " else f"-{ord(c):x}-" for c in text)


def description(topics: Topics, name: str, status: Message) -> Message:
    """The discovery message of a device.

    Args:
        topics: Where it is.
        name: What people call it.
        status: Of the daemon.
    """
    words = status["model"]["keywords"]
    spans = status["model"]["false_accepts_per_day"]
    return {
        "device": {
            "identifiers": [topics.device],
            "name": name,
            "manufacturer": "kws",
            "model": status["machine"].get("board") or "computer",
            "sw_version": status["kws"],
        },
        "origin": {"name": "kws", "sw_version": status["kws"]},
        "availability_topic": topics.availability,
        "components": {
            "wake": _entity(topics, "event", "wake", "Wake word")
            | {"event_types": words, "state_topic": topics.event, "icon": "mdi:account-voice"},
            **{f"trigger_{slug(word)}": _trigger(topics, word) for word in words},
            "listening": _entity(topics, "switch", "listening", "Listening", "listening")
            | {"command_topic": topics.listening, "icon": "mdi:microphone"},
            **{
                f"rate_{slug(word)}": _number(topics, word, span)
                for word, span in spans.items()
                if span["highest"] is not None
            },
            **_sensors(topics),
        },
    }


def without(old: Message, new: Message) -> Message:
    """`new`, and for each component of `old` that it lacks the entry that makes Home Assistant remove it."""
    gone = {
        key: {_PLATFORM: component[_PLATFORM]}
        for key, component in old["components"].items()
        if key not in new["components"]
    }
    return new | {"components": new["components"] | gone}


def state(status: Message) -> Message:
    """What the entities show; None is unknown."""
    cpu_ms = status["cpu"].get("ms_per_s")
    return {
        "state": status["state"],
        "reason": status["reason"],
        "listening": "OFF" if status["state"] == "muted" else "ON",
        "activations": sum(each["detections"] for each in status["keywords"].values()),
        "latency_ms": _numbers(status["latency_ms"]["recent"]["total"]),
        "power_w": status["power"]["daemon"]["watts"],
        "machine_power_w": status["power"]["machine"]["watts"],
        "cpu_percent": None if cpu_ms is None else round(cpu_ms / 10, 2),
        "temperature_c": status["machine"].get("temperature_c"),
        "false_accepts_per_day": {
            slug(word): span["wanted"] for word, span in status["model"]["false_accepts_per_day"].items()
        },
    }


def event(detection: Message, age_s: float) -> Message:
    """What an event entity takes: the word is its type, all else becomes attributes.

    Args:
        detection: An event of the daemon.
        age_s: Seconds that it waited for a connection.
    """
    return {
        "event_type": detection["keyword"],
        "score": detection["score"],
        "latency_ms": detection["latency_ms"],
        "time": detection["wall_time"],
        "id": detection["id"],
        "waited_s": round(age_s, 1),
    }


def command(topics: Topics, words: list[str], topic: str, payload: bytes) -> Message:
    """The request to the daemon that a message stands for.

    Raises:
        KwsError: it stands for none.
    """
    if topic == topics.listening:
        if payload == b"ON":
            return {"request": "unmute"}
        if payload == b"OFF":
            return {"request": "mute", "seconds": None}
        raise KwsError(f"{topic} takes ON or OFF; send one of them")
    for word in words:
        if topic == topics.rate(word):
            return {"request": "set", "false_accepts_per_day": {word: _rate(topic, payload)}}
    raise KwsError(f"{topic[:200]!r} is no command; see docs/home-assistant.md")


def _rate(topic: str, payload: bytes) -> float:
    try:
        rate = float(payload[:_NUMBER_LENGTH].decode("ascii"))
    except ValueError:  # UnicodeDecodeError is one
        rate = math.nan
    if len(payload) > _NUMBER_LENGTH or not 0 < rate < math.inf:
        raise KwsError(f"{topic} takes a number above 0; send one")
    return rate


def _entity(topics: Topics, platform: str, key: str, name: str, value: str | None = None) -> Message:
    """`value` is where it is in the state."""
    shared = {_PLATFORM: platform, "unique_id": f"{topics.device}_{key}", "name": name}
    if value is None:
        return shared
    return shared | {"state_topic": topics.state, "value_template": f"{{{{ value_json.{value} }}}}"}


def _trigger(topics: Topics, word: str) -> Message:
    return {
        _PLATFORM: "device_automation",
        "automation_type": "trigger",
        "type": DETECTED,
        "subtype": word,
        "topic": topics.keyword(word),
        "payload": DETECTED,
    }


def _number(topics: Topics, word: str, span: Message) -> Message:
    return _entity(topics, "number", f"rate_{slug(word)}", f"{word}: false accepts per day") | {
        "state_topic": topics.state,
        # By brackets: a slug may hold a minus.
        "value_template": f"{{{{ value_json.false_accepts_per_day['{slug(word)}'] }}}}",
        "command_topic": topics.rate(word),
        "min": max(_RATE_STEP, _floor(span["lowest"])),
        "max": max(2 * _RATE_STEP, -_floor(-span["highest"])),
        "step": _RATE_STEP,
        "mode": "box",
        "entity_category": "config",
        "icon": "mdi:tune",
    }


def _floor(rate: float) -> float:
    return round(math.floor(rate / _RATE_STEP) * _RATE_STEP, 3)


def _sensors(topics: Topics) -> dict[str, Message]:
    measurement = {"state_class": "measurement", "entity_category": "diagnostic"}
    watts = measurement | {
        "device_class": "power", "unit_of_measurement": "W", "suggested_display_precision": 3
    }  # fmt: skip

    def sensor(key: str, name: str, value: str, more: Message) -> dict[str, Message]:
        return {key: _entity(topics, "sensor", key, name, value) | more}

    return {
        **sensor("power", "Power", "power_w", watts),
        **sensor("machine_power", "Power of the machine", "machine_power_w", watts),
        **sensor(
            "latency", "Latency p95", "latency_ms.p95",
            measurement
            | {"device_class": "duration", "unit_of_measurement": "ms", "suggested_display_precision": 0},
        ),
        **sensor(
            "activations", "Activations", "activations",
            {"state_class": "total_increasing", "icon": "mdi:counter"},
        ),
        **sensor(
            "cpu", "CPU", "cpu_percent",
            measurement | {"unit_of_measurement": "%", "icon": "mdi:chip"},
        ),
        **sensor(
            "temperature", "Temperature", "temperature_c",
            measurement | {"device_class": "temperature", "unit_of_measurement": "°C"},
        ),
        **sensor(
            "microphone", "Microphone", "state",
            {"entity_category": "diagnostic", "icon": "mdi:microphone-settings"},
        ),
    }  # fmt: skip


def _numbers(percentiles: dict[str, Any]) -> dict[str, Any]:
    return {key: percentiles.get(key) for key in ("p50", "p95", "p99")}
