"""The status as Prometheus reads it: grammar, naming, units, and nothing invented."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kws.prometheus import exposition, write_textfile

FIGURES = {"p50": 80.1, "p95": 86.0, "p99": 91.2, "max": 140.4, "n": 3750}
STATUS: dict[str, Any] = {
    "version": 1,
    "state": "listening",
    "reason": "opened",
    "uptime_s": 3600.2,
    "kws": "0.2.0",
    "pid": 7,
    "instance": None,
    "model": {"name": "home", "sha256": "ab12", "keywords": ["alexa", "hey mycroft"]},
    "microphone": None,
    "audio": {
        "received_s": 3600.0,
        "expected_s": 3600.06,
        "lost_ms": 60,
        "gaps": 1,
        "overflows": 0,
        "reopens": 1,
    }
    | {"silent_s": 0, "level_dbfs": -52.1, "floor_dbfs": -60.0},
    "gate": {"enabled": True, "is_open": False, "duty_cycle": 0.031, "skipped_s": 3488.4},
    "latency_ms": {
        "recent": {"decision": FIGURES, "total": FIGURES, "queue": None},
        "since_start": {"total": FIGURES | {"n": 45000}},
    },
    "real_time_factor": 0.006,
    "cpu": {"ms_per_s": 9.4, "wakeups_per_s": 61, "threads": 3, "rss_mb": 61.5},
    "power": {
        "daemon": {"watts": 0.00423, "kind": "estimated", "basis": "x"},
        "machine": {"watts": None, "kind": "unavailable", "basis": "y"},
        "energy_per_day_wh": {"daemon": 0.1, "machine": None},
        "reason": "z",
    },
    "machine": {"board": 'Board "x" \\ 1\n', "temperature_c": 48.3, "throttled": ["under-voltage"]},
    "keywords": {
        "alexa": {"detections": 3, "near_misses": 7, "false_accepts": 0, "missed": 1, "per_hour": 0.5},
        "hey mycroft": {"detections": 0, "near_misses": 0, "false_accepts": 0, "missed": 0, "per_hour": None},
    },
    "captures": {"enabled": True, "files": 2, "mb": 0.4},
    "subscribers": 0,
}
LABEL = r'[a-z0-9_]+="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(rf"([a-z_:][a-z0-9_:]*)(?:\{{({LABEL}(?:,{LABEL})*)\}})? (-?\d+(?:\.\d+)?(?:e[-+]?\d+)?)")


def samples(text: str) -> dict[str, float]:
    """Checks every line of the format; sample with its labels -> value."""
    found: dict[str, float] = {}
    kinds: dict[str, str] = {}
    told = ""
    assert text == "" or text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# HELP "):
            told = line.split()[2]
            assert told not in kinds, "a family must be in one piece"
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            assert name == told
            assert kind in ("gauge", "counter")
            assert name.endswith("_total") == (kind == "counter")
            kinds[name] = kind
        else:
            match = SAMPLE.fullmatch(line)
            assert match, line
            assert match.group(1) == told
            assert told in kinds
            key = line.rpartition(" ")[0]
            assert key not in found
            found[key] = float(match.group(3))
    return found


def test_whole_status_in_base_units() -> None:
    found = samples(exposition(STATUS))
    assert found["kws_uptime_seconds"] == 3600.2
    assert found["kws_audio_lost_seconds_total"] == 0.06
    assert found["kws_resident_memory_bytes"] == 61_500_000
    assert found["kws_cpu_ratio"] == 0.0094
    assert found["kws_gate_enabled"] == 1
    assert found["kws_gate_open"] == 0
    assert found['kws_latency_seconds{stage="total",quantile="0.95"}'] == 0.086
    assert found['kws_latency_seconds{stage="decision",quantile="1"}'] == 0.1404
    assert found['kws_latency_blocks_total{stage="total"}'] == 45000
    assert found['kws_power_watts{scope="daemon",kind="estimated"}'] == 0.00423
    assert found['kws_energy_per_day_joules{scope="daemon",kind="estimated"}'] == 360
    assert found["kws_throttled"] == 1
    assert found['kws_detections_total{keyword="alexa"}'] == 3
    assert found['kws_state{state="listening"}'] == 1
    assert sum(value for key, value in found.items() if key.startswith("kws_state")) == 1
    info = next(key for key in found if key.startswith("kws_info"))
    assert 'version="0.2.0",model="home",sha256="ab12",board="Board \\"x\\" \\\\ 1\\n"' in info


def test_what_is_not_known_has_no_line() -> None:
    found = samples(exposition(STATUS))
    assert not [key for key in found if 'scope="machine"' in key or 'stage="queue"' in key]
    assert 'kws_detections_per_hour{keyword="hey mycroft"}' not in found
    assert set(samples(exposition({}))) == {"kws_info"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, "fast", [1]])
def test_values_that_are_no_numbers_are_left_out(value: object) -> None:
    assert "kws_real_time_factor" not in samples(exposition({"real_time_factor": value}))


def test_named_instance_is_a_label_everywhere() -> None:
    found = samples(exposition(STATUS | {"instance": "kitchen"}))
    assert all('daemon="kitchen"' in key for key in found)


@given(name=st.text(max_size=20), word=st.text(max_size=20))
def test_any_name_makes_a_valid_label(name: str, word: str) -> None:
    lines = exposition({"model": {"name": name}, "keywords": {word: {"detections": 1}}}).split("\n")
    label = next(line for line in lines if line.startswith("kws_detections_total"))
    text = label[len('kws_detections_total{keyword="') : -len('"} 1')]
    assert (
        text.replace("\\\\", "\0").replace("\\n", "\n").replace('\\"', '"').replace("\0", "\\") == word
        or "\0" in word
    )


def test_textfile_is_readable_for_the_collector_and_never_half(tmp_path: Path) -> None:
    path = tmp_path / "kws.prom"
    path.write_text("old")
    mask = os.umask(0o077)  # of the service
    try:
        write_textfile(path, exposition(STATUS))
    finally:
        os.umask(mask)
    assert path.read_text() == exposition(STATUS)
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]
