"""The status as Prometheus reads it, in its text format, and as a file for node-exporter's text collector.

Names follow https://prometheus.io/docs/practices/naming: base units, `_total` for counters. What the status
does not know has no line. The samples of a named instance carry it as the label `daemon`, so that several
files in one folder of the text collector do not collide.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kws.files import replacing

STATES = ("opening", "listening", "silent", "lost", "muted")
Sample = tuple[dict[str, str], Any]
"""Labels and value; a value that is None has no line."""

# name, type, help, where the value is in the status, factor to the base unit
VALUES = (
    ("uptime_seconds", "gauge", "Time since the daemon started.", "uptime_s", 1),
    (
        "audio_received_seconds_total",
        "counter",
        "Audio that the microphone delivered.",
        "audio.received_s",
        1,
    ),
    (
        "audio_expected_seconds_total",
        "counter",
        "Audio that it should have delivered.",
        "audio.expected_s",
        1,
    ),
    ("audio_lost_seconds_total", "counter", "Audio that was lost.", "audio.lost_ms", 1e-3),
    ("audio_gaps_total", "counter", "Losses of more than half a block.", "audio.gaps", 1),
    ("audio_overflows_total", "counter", "Overflows that PortAudio reported.", "audio.overflows", 1),
    ("audio_reopens_total", "counter", "Times that the microphone was opened again.", "audio.reopens", 1),
    ("audio_silent_seconds_total", "counter", "Digital silence or a frozen sample.", "audio.silent_s", 1),
    ("audio_level_dbfs", "gauge", "Level of the last block, dB of full scale.", "audio.level_dbfs", 1),
    ("audio_floor_dbfs", "gauge", "Noise floor, dB of full scale.", "audio.floor_dbfs", 1),
    ("gate_enabled", "gauge", "1 if quiet audio is skipped.", "gate.enabled", 1),
    ("gate_open", "gauge", "1 while audio reaches the model.", "gate.is_open", 1),
    ("gate_duty_ratio", "gauge", "Share of the audio that reached the model.", "gate.duty_cycle", 1),
    ("gate_skipped_seconds_total", "counter", "Audio that did not reach the model.", "gate.skipped_s", 1),
    ("real_time_factor", "gauge", "Time spent per time of audio.", "real_time_factor", 1),
    ("cpu_ratio", "gauge", "CPU seconds per second.", "cpu.ms_per_s", 1e-3),
    ("wakeups_per_second", "gauge", "Times a second that a thread was woken.", "cpu.wakeups_per_s", 1),
    ("threads", "gauge", "Threads of the daemon.", "cpu.threads", 1),
    ("resident_memory_bytes", "gauge", "Resident memory.", "cpu.rss_mb", 1e6),
    ("temperature_celsius", "gauge", "Temperature of the processor.", "machine.temperature_c", 1),
    ("captures", "gauge", "Recordings that were kept.", "captures.files", 1),
    ("captures_bytes", "gauge", "Size of the recordings.", "captures.mb", 1e6),
    ("subscribers", "gauge", "Connected readers of events.", "subscribers", 1),
)
# name, type, help, key in each keyword's counts, factor
KEYWORDS = (
    ("detections_total", "counter", "Keywords that were heard.", "detections", 1),
    ("near_misses_total", "counter", "Scores that almost were a detection.", "near_misses", 1),
    ("false_accepts_total", "counter", "Detections that a user marked as false.", "false_accepts", 1),
    ("missed_total", "counter", "Keywords that a user marked as missed.", "missed", 1),
    ("detections_per_hour", "gauge", "Detections an hour.", "per_hour", 1),
)
QUANTILES = (("0.5", "p50"), ("0.95", "p95"), ("0.99", "p99"), ("1", "max"))


def exposition(status: Mapping[str, Any]) -> str:
    """The text of a status snapshot (`kws.client`); ends with a line end."""
    instance = status.get("instance")
    common = {"daemon": str(instance)} if instance else {}
    lines = []
    for name, kind, told, samples in _families(status):
        written = [_line(name, common | labels, value) for labels, value in samples if _is_number(value)]
        if written:
            lines += [f"# HELP kws_{name} {told}", f"# TYPE kws_{name} {kind}", *written]
    return "".join(line + "\n" for line in lines)


def write_textfile(path: Path, text: str) -> None:
    """Write a file of node-exporter's text collector, `*.prom`: whole or not at all, for all to read."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")
        partial.chmod(0o644)


def _families(status: Mapping[str, Any]) -> Iterator[tuple[str, str, str, list[Sample]]]:
    """Name, type, help and samples of each metric."""
    model, machine = status.get("model") or {}, status.get("machine") or {}
    told = {
        "version": status.get("kws"),
        "model": model.get("name"),
        "sha256": model.get("sha256"),
        "board": machine.get("board"),
    }
    yield "info", "gauge", "What is running, in labels.", [({k: str(v) for k, v in told.items() if v}, 1)]
    state = status.get("state")
    if state:
        states = sorted({*STATES, state})
        yield (
            "state",
            "gauge",
            "1 for the state that the daemon is in.",
            [({"state": s}, s == state) for s in states],
        )
    for name, kind, told_, place, factor in VALUES:
        yield name, kind, told_, [({}, _scaled(_at(status, place), factor))]
    yield from _latency(status.get("latency_ms") or {})
    yield from _power(status.get("power") or {})
    flags = machine.get("throttled")
    if flags is not None:
        yield "throttled", "gauge", "1 if anything slows the processor down.", [({}, bool(flags))]
    counts = status.get("keywords") or {}
    for name, kind, told_, key, factor in KEYWORDS:
        samples = [({"keyword": word}, _scaled(count.get(key), factor)) for word, count in counts.items()]
        yield name, kind, told_, samples


def _latency(latency: Mapping[str, Any]) -> Iterator[tuple[str, str, str, list[Sample]]]:
    recent = latency.get("recent") or {}
    samples = [
        ({"stage": stage, "quantile": quantile}, _scaled(figures.get(key), 1e-3))
        for stage, figures in recent.items()
        if figures
        for quantile, key in QUANTILES
    ]
    yield "latency_seconds", "gauge", "Latency of each stage in the last five minutes.", samples
    counts = [
        ({"stage": stage}, figures.get("n"))
        for stage, figures in (latency.get("since_start") or {}).items()
        if figures
    ]
    yield "latency_blocks_total", "counter", "Blocks whose latency was measured.", counts


def _power(power: Mapping[str, Any]) -> Iterator[tuple[str, str, str, list[Sample]]]:
    scopes = [(scope, power.get(scope) or {}) for scope in ("daemon", "machine")]
    watts = [
        ({"scope": scope, "kind": str(figure.get("kind"))}, figure.get("watts")) for scope, figure in scopes
    ]
    yield "power_watts", "gauge", "Power; the kind says how it is known.", watts
    energy = power.get("energy_per_day_wh") or {}
    days = [
        ({"scope": scope, "kind": str(figure.get("kind"))}, _scaled(energy.get(scope), 3600))
        for scope, figure in scopes
    ]
    yield "energy_per_day_joules", "gauge", "Energy of a day at the mean power.", days


def _at(status: Mapping[str, Any], place: str) -> Any:
    """The value at a dotted place; None where a part of it is missing."""
    value: Any = status
    for key in place.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _scaled(value: Any, factor: float) -> Any:
    """In base units; 0.1 + 0.2 is nobody's reading, so twelve digits."""
    if not _is_number(value) or isinstance(value, bool) or factor == 1:
        return value
    return float(f"{value * factor:.12g}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _line(name: str, labels: Mapping[str, str], value: Any) -> str:
    inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"kws_{name}{{{inside}}} {_digits(value)}" if inside else f"kws_{name} {_digits(value)}"


def _digits(value: Any) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
