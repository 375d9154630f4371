"""What `kws status` shows: the daemon at one moment, as plain data.

The keys are a contract with every reader; a change that breaks one raises the version (kws.protocol).
"""

import math
import os
import time
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import kws
from kws.daemon.mute import Mute
from kws.events import Detection, NearMiss
from kws.operating import measured_spans

if TYPE_CHECKING:
    from kws.daemon.appliance import Appliance

_HOUR = 3600
_VERSION = kws.__version__  # looked up in a file


class Counts:
    """Detections and near misses of each keyword since the start."""

    def __init__(self) -> None:
        self.detections: Counter[str] = Counter()
        self.near_misses: Counter[str] = Counter()

    def add(self, what: Detection | NearMiss) -> None:
        """Count one."""
        (self.detections if isinstance(what, Detection) else self.near_misses)[what.keyword] += 1


def snapshot(appliance: "Appliance") -> dict[str, Any]:
    """All of it. The figures of power and of the machine are read now, which may take some milliseconds."""
    now_s = time.monotonic()
    listener, hearing = appliance.listener, appliance.hearing
    return {
        "state": listener.state,
        "reason": listener.reason,
        "started": appliance.started.isoformat(timespec="seconds"),
        "uptime_s": round(now_s - appliance.started_s, 1),
        "kws": _VERSION,
        "pid": os.getpid(),
        "instance": appliance.server.folder.name.partition("-")[2] or None,
        "model": _model(appliance),
        "config": {
            "path": appliance.config_path and str(appliance.config_path),
            "reason": appliance.config_reason,
            "loaded": appliance.loaded.isoformat(timespec="seconds"),
            "error": appliance.config_error,
        },
        "microphone": listener.device,
        "muted_until": muted_until(appliance.mute),
        "audio": _audio(appliance),
        "gate": _gate(appliance),
        "latency_ms": {
            "recent": {stage: latency.recent(now_s) for stage, latency in hearing.latency.items()},
            "since_start": {stage: latency.since_start() for stage, latency in hearing.latency.items()},
        },
        "real_time_factor": _ratio(hearing.busy_ns / 1e9, _received_s(appliance)),
        **appliance.cost.report(),
        "keywords": _keywords(appliance),
        "last_events": list(appliance.last_events),
        "scores": _scores(appliance),
        "captures": {
            "enabled": appliance.captures.settings.enabled,
            "files": appliance.captures.files,
            "mb": round(appliance.captures.bytes / 1e6, 1),
        },
        "subscribers": appliance.server.subscribers,
    }


def _model(appliance: "Appliance") -> dict[str, Any]:
    model, pipeline = appliance.hearing.chain.model, appliance.hearing.chain.pipeline
    return {
        "name": model.manifest.name,
        "folder": str(model.folder),
        "sha256": model.manifest.model.sha256,
        "keywords": list(model.manifest.words),
        "thresholds": {k: round(t, 6) for k, t in pipeline.detector.settings.thresholds.items()},
        "false_accepts_per_day": _rates(appliance),
        "reason": "; ".join(appliance.hearing.chain.reason),
    }


def _rates(appliance: "Appliance") -> dict[str, Any]:
    """Of each keyword the wanted rate, None for the model's own threshold, and what its curve spans."""
    manifest, wanted = appliance.hearing.chain.model.manifest, appliance.settings.false_accepts_per_day
    spans = measured_spans(manifest)
    return {
        word: {
            "wanted": wanted.get(word) if isinstance(wanted, dict) else wanted,
            "lowest": round(spans[word][0], 6) if word in spans else None,
            "highest": round(spans[word][1], 6) if word in spans else None,
        }
        for word in manifest.words
    }


def _audio(appliance: "Appliance") -> dict[str, Any]:
    listener, gate = appliance.listener, appliance.hearing.chain.pipeline.gate
    rate_hz = appliance.hearing.sample_rate_hz
    return {
        "received_s": round(_received_s(appliance), 2),
        "expected_s": round(listener.counters.expected_samples / rate_hz, 2),
        "lost_ms": round(listener.counters.lost_ms, 1),
        "gaps": listener.counters.gaps,
        "overflows": listener.counters.overflows,
        "reopens": listener.counters.reopens,
        "silent_s": round(listener.counters.silent_s, 1),
        "level_dbfs": _decibels(listener.level_dbfs),
        "floor_dbfs": gate and _decibels(gate.floor_dbfs),
    }


def _gate(appliance: "Appliance") -> dict[str, Any]:
    gate = appliance.hearing.chain.pipeline.gate
    if gate is None:
        return {"enabled": False, "is_open": True, "duty_cycle": 1.0, "skipped_s": 0.0}
    return {
        "enabled": True,
        "is_open": gate.is_open,
        "duty_cycle": gate.samples and round(1 - gate.skipped_samples / gate.samples, 4),
        "skipped_s": round(gate.skipped_samples / appliance.hearing.sample_rate_hz, 1),
    }


def _keywords(appliance: "Appliance") -> dict[str, Any]:
    hours = _received_s(appliance) / _HOUR
    counts, said = appliance.counts, appliance.feedback.since_start
    return {
        keyword: {
            "detections": counts.detections[keyword],
            "near_misses": counts.near_misses[keyword],
            "false_accepts": said["false", keyword],
            "missed": said["missed", keyword],
            "per_hour": _ratio(counts.detections[keyword], hours),
        }
        for keyword in appliance.hearing.chain.model.manifest.words
    }


def _scores(appliance: "Appliance") -> dict[str, float]:
    """The highest of each keyword in the last block; 0 while the gate is closed."""
    words, scores = appliance.hearing.chain.model.manifest.words, appliance.hearing.scores
    highest = scores.max(axis=0).tolist() if len(scores) else [0.0] * len(words)
    return {word: round(score, 4) for word, score in zip(words, highest, strict=False)}


def muted_until(mute: Mute) -> str | None:
    """None also while it is muted until somebody unmutes it: `state` says that."""
    left_s = mute.left_s
    if not left_s or math.isinf(left_s):
        return None
    return datetime.fromtimestamp(time.time() + left_s, UTC).isoformat(timespec="seconds")


def _received_s(appliance: "Appliance") -> float:
    return appliance.listener.counters.received_samples / appliance.hearing.sample_rate_hz


def _ratio(part: float, whole: float) -> float | None:
    return round(part / whole, 5) if whole else None


def _decibels(level_dbfs: float) -> float | None:
    """JSON knows no infinity: digital silence has no level."""
    return round(level_dbfs, 1) if math.isfinite(level_dbfs) else None
