"""From what was heard to figures: one dictionary of plain numbers that JSON, tables and model card share.

A threshold belongs to a keyword and a rate of false accepts on the ambient audio; every condition is judged
at those thresholds. Figures of real recordings and of synthetic speech are never mixed.
"""

import subprocess
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kws import config
from kws.corpus import bare_keyword_of
from kws.evaluate import metrics
from kws.evaluate.curve import counted_threshold, operating_curve
from kws.evaluate.playlist import EvaluationSettings
from kws.evaluate.rejects import (
    Plain,
    Trials,
    false_rejects,
    level_name,
    means,
    robustness,
    weights,
)
from kws.evaluate.stream import Record, Trial, condition_name

LOUDEST = 20
"""Highest ambient peaks that are listed by name, so that someone can listen to them."""


def headline_condition(settings: EvaluationSettings) -> str:
    """The condition that ranks models: the first noisy one, or clean where none is played."""
    return condition_name(settings.snr_db[0] if settings.snr_db else None)


def summarise(record: Record, keywords: Sequence[str], settings: EvaluationSettings) -> Plain:
    """All figures of one network.

    Returns:
        ``ambient``: hours in all and by kind. ``keywords``: of each its operating points, false rejects (by
        group "real" or "synthetic", condition, operating point), the group it is tested on and its curve.
        ``mean``: balanced false reject rates averaged over the keywords. ``robustness``: false rejects
        through other channels. ``phrases``: accepts of other words by source. ``loudest``: highest ambient
        peaks. ``unreadable``: clips that could not be played.
    """
    hours = sum(record.ambient_seconds.values()) / 3600
    peaks = {k: [peak.score for peak in record.peaks if peak.keyword == k] for k in keywords}
    thresholds = {
        k: {level: counted_threshold(peaks[k], hours, level) for level in settings.false_accepts_per_hour}
        for k in keywords
    }
    trials = Trials(record.trials, keywords)
    calibrated = settings.calibrated_at
    return {
        "ambient": {
            "hours": round(hours, 4),
            "by_kind": {kind: round(s / 3600, 4) for kind, s in sorted(record.ambient_seconds.items())},
        },
        "keywords": {
            k: {
                "tested_on": trials.tested(k),
                "operating_points": {
                    level_name(level): _operating_point(record, k, hours, threshold)
                    for level, threshold in thresholds[k].items()
                },
                "false_rejects": {
                    group: {
                        condition: false_rejects(heard, thresholds[k])
                        for condition in trials.conditions()
                        if (heard := trials.of(k, condition, group=group))
                    }
                    for group in trials.groups(k)
                },
                "curve": _curve(trials.of(k, headline_condition(settings)), peaks[k], hours),
            }
            for k in keywords
        },
        "mean": means(trials, thresholds, settings.false_accepts_per_hour),
        "robustness": robustness(trials, thresholds, calibrated),
        "phrases": _phrases(record, {k: thresholds[k][calibrated] for k in keywords}),
        "loudest": _loudest(record),
        "unreadable": record.unreadable,
    }


def trade_off_curves(
    record: Record, keywords: Sequence[str], settings: EvaluationSettings
) -> dict[str, list[metrics.OperatingRow]]:
    """Per keyword, the whole error trade-off in the headline condition."""
    hours = sum(record.ambient_seconds.values()) / 3600
    trials, curves = Trials(record.trials, keywords), {}
    for keyword in keywords:
        heard = trials.of(keyword, headline_condition(settings))
        peaks = [peak.score for peak in record.peaks if peak.keyword == keyword]
        curves[keyword] = metrics.trade_off([t.score for t in heard], peaks, hours, weights(heard))
    return curves


def commit() -> str:
    """The checkout that this program runs from, marked when it has uncommitted changes."""
    command = ["git", "describe", "--always", "--abbrev=12", "--dirty"]
    try:
        found = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"  # an installed wheel has no repository
    return found.stdout.strip()


def _operating_point(record: Record, keyword: str, hours: float, threshold: float) -> Plain:
    accepted = [p for p in record.peaks if p.keyword == keyword and p.score >= np.float32(threshold)]
    low, high = metrics.rate_interval(len(accepted), hours)
    return {
        "threshold": threshold,
        "false_accepts": len(accepted),
        "per_hour": len(accepted) / hours,
        "low": low,
        "high": high,
        "by_kind": dict(sorted(Counter(p.clip.kind for p in accepted).items())),
    }


def _curve(trials: Sequence[Trial], peaks: Sequence[float], hours: float) -> list[Plain]:
    """For the manifest; empty where nobody says the keyword."""
    points = operating_curve(peaks, hours, [t.score for t in trials], weights(trials)) if trials else []
    return [config.dump(point) for point in points]


def _phrases(record: Record, thresholds: dict[str, float]) -> Plain:
    """Per source: phrases played, accepts of each keyword, and their rate. Bare keywords are a row each."""
    by_source = defaultdict(list)
    for phrase in record.phrases:
        clip = phrase.clip
        bare = bare_keyword_of(clip.label, thresholds)
        by_source[f'{clip.source}, "{clip.label}"' if bare else clip.source].append(phrase)
    result: Plain = {}
    for source, phrases in sorted(by_source.items()):
        accepts = {
            keyword: sum(bool(p.scores[keyword] >= np.float32(threshold)) for p in phrases)
            for keyword, threshold in thresholds.items()
        }
        low, high = metrics.wilson_interval(min(sum(accepts.values()), len(phrases)), len(phrases))
        result[source] = {
            "phrases": len(phrases),
            "accepts": accepts,
            "per_1000": 1000 * sum(accepts.values()) / len(phrases),
            "low": 1000 * low,
            "high": 1000 * high,
        }
    return result


def _loudest(record: Record) -> list[Plain]:
    highest = sorted(record.peaks, key=lambda peak: -peak.score)[:LOUDEST]
    return [
        {
            "score": peak.score,
            "keyword": peak.keyword,
            "kind": peak.clip.kind,
            "clip": f"{peak.clip.source}/{peak.clip.path.name}",
            "time_s": round(peak.time_s, 2),
        }
        for peak in highest
    ]
