"""Two models on the same recordings and noise: does one miss less, or was it lucky with the speakers?

Both play one playlist, so every trial of one has its twin. What is judged is the difference of their misses,
speaker by speaker: hard speakers are hard for both, and most of the luck cancels. The interval resamples the
speakers; thresholds, each model's own at the same rate of false accepts, are taken as given.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kws.errors import DataError
from kws.evaluate import metrics
from kws.evaluate.curve import counted_threshold
from kws.evaluate.playlist import EvaluationSettings
from kws.evaluate.rejects import Plain, Trials, level_name, speaker_rates
from kws.evaluate.stream import Record, Trial


def compare(a: Record, b: Record, keywords: Sequence[str], settings: EvaluationSettings) -> list[Plain]:
    """Misses of `a` minus misses of `b`, for every condition, operating point and keyword, and their mean.

    Returns:
        Rows with ``condition``, ``level``, ``keyword`` ("mean" for all), ``a`` and ``b`` (false reject
        rates), ``difference`` with ``low`` and ``high`` (95 %), and how many trials ``only_a`` or ``only_b``
        missed.

    Raises:
        DataError: the records are not of the same recordings.
    """
    if [_name(t) for t in a.trials] != [_name(t) for t in b.trials]:
        raise DataError("the two models did not hear the same recordings; evaluate both on the same corpus")
    heard_a, heard_b = Trials(a.trials, keywords), Trials(b.trials, keywords)
    rows = []
    for condition in heard_a.conditions():
        for level in settings.false_accepts_per_hour:
            found = [
                _keyword_row(
                    seed,
                    k,
                    (heard_a.of(k, condition), _threshold(a, k, level)),
                    (heard_b.of(k, condition), _threshold(b, k, level)),
                )
                for seed, k in enumerate(keywords)
                if heard_a.of(k, condition)
            ]
            for row in (*found, _mean_row(found)):
                low, high = metrics.percentile_interval(row.pop("draws"))
                rows.append(
                    {"condition": condition, "level": level_name(level), **row, "low": low, "high": high}
                )
    return rows


def _keyword_row(
    seed: int, keyword: str, a: tuple[list[Trial], float], b: tuple[list[Trial], float]
) -> Plain:
    rates_a, rates_b = speaker_rates(*a), speaker_rates(*b)
    missed_a, missed_b = _missed(*a), _missed(*b)
    return {
        "keyword": keyword,
        "a": float(rates_a.mean()),
        "b": float(rates_b.mean()),
        "difference": float((rates_a - rates_b).mean()),
        "only_a": int(np.count_nonzero(missed_a & ~missed_b)),
        "only_b": int(np.count_nonzero(missed_b & ~missed_a)),
        "draws": metrics.bootstrap_means(rates_a - rates_b, seed),
    }


def _mean_row(rows: list[Plain]) -> Plain:
    means = {name: float(np.mean([row[name] for row in rows])) for name in ("a", "b", "difference")}
    sums = {name: sum(row[name] for row in rows) for name in ("only_a", "only_b")}
    return {"keyword": "mean", **means, **sums, "draws": np.mean([row["draws"] for row in rows], axis=0)}


def _missed(trials: list[Trial], threshold: float) -> NDArray[np.bool_]:
    return np.array([trial.score for trial in trials], np.float32) < np.float32(threshold)


def _threshold(record: Record, keyword: str, level: float) -> float:
    hours = sum(record.ambient_seconds.values()) / 3600
    return counted_threshold([p.score for p in record.peaks if p.keyword == keyword], hours, level)


def _name(trial: Trial) -> tuple[str, str, str]:
    return str(trial.clip.path), trial.keyword, trial.condition
