"""The Markdown of an evaluation: a short table for README and model card, and everything for the report."""

from collections.abc import Iterable

from kws.evaluate.report import Plain, level_name
from kws.evaluate.stream import CLEAN

DEFINITIONS = """\
FRR is the share of spoken keywords that were missed, averaged over speakers, with its 95 % interval (speakers
resampled, and no narrower than Wilson's for that many recordings). FA/h are false accepts per hour of audio
without a keyword; each keyword has its own threshold. "Clean" is the recording as it is; "10 dB" has noise or
music mixed in, 10 dB below the word.
"""


def short_table(report: Plain) -> str:
    """False reject rates on real recordings: every network, keyword and condition."""
    levels = _levels(report)
    rows = [
        ["network", "keyword", "condition", "recordings / speakers", *(f"FRR at {x} FA/h" for x in levels)]
    ]
    for network, summary in report["networks"].items():
        for keyword, figures in summary["keywords"].items():
            for condition, rejects in _clean_first(figures["false_rejects"].get("real", {})):
                cells = [_with_interval(rejects["at"][level]) for level in levels]
                rows.append([network, keyword, condition, _count(rejects), *cells])
        for condition, at in _clean_first(summary["mean"].get("real", {})):
            rows.append(
                [network, "**mean**", condition, "", *(_with_interval(at[level]) for level in levels)]
            )
    return _markdown(rows)


def provenance(report: Plain) -> str:
    """What was measured, on what and when: one paragraph."""
    model, ambient = report["model"], next(iter(report["networks"].values()))["ambient"]
    kinds = ", ".join(f"{kind} {hours:.2f}" for kind, hours in ambient["by_kind"].items())
    return (
        f"{model['name']}: {model['parameters']} parameters, {model['bytes'] / 1000:.0f} kB; "
        f"{report['split']} split, {ambient['hours']:.2f} h of audio without a keyword ({kinds}); "
        f"commit {report['commit']}, {report['date']}, sha256 {model['sha256'][:12]}."
    )


def full_report(report: Plain) -> str:
    """The short table, then everything else that was counted."""
    level = level_name(report["settings"]["calibrated_at"])
    parts = [f"# {report['model']['name']}", DEFINITIONS.rstrip(), short_table(report), provenance(report)]
    for network, summary in report["networks"].items():
        parts += [
            f"## {network}",
            "False accepts on ambient audio:",
            _false_accepts(summary),
            f"Synthetic speech, at {level} FA/h:",
            _synthetic(summary, level),
            f"From the end of the word to the detection, at {level} FA/h, real recordings:",
            _delays(summary, level),
            f"Other words and near misses, at {level} FA/h, each said once:",
            _phrases(summary),
            "Highest peaks in ambient audio:",
            _loudest(summary),
        ]
        if summary["unreadable"]:
            parts += ["Not played:", "\n".join(f"- {reason}" for reason in summary["unreadable"])]
    return "\n\n".join(parts) + "\n"


def _false_accepts(summary: Plain) -> str:
    rows = [["keyword", "asked FA/h", "threshold", "false accepts", "FA/h (95 %)", "of which"]]
    for keyword, figures in summary["keywords"].items():
        for asked, point in figures["operating_points"].items():
            rate = f"{point['per_hour']:.2f} ({point['low']:.2f}-{point['high']:.2f})"
            kinds = ", ".join(f"{kind} {count}" for kind, count in point["by_kind"].items())
            count = str(point["false_accepts"])
            rows.append([keyword, asked, f"{point['threshold']:.4f}", count, rate, kinds])
    return _markdown(rows)


def _synthetic(summary: Plain, level: str) -> str:
    rows = [["keyword", "condition", "recordings / speakers", "FRR"]]
    for keyword, figures in summary["keywords"].items():
        for condition, rejects in _clean_first(figures["false_rejects"].get("synthetic", {})):
            rows.append([keyword, condition, _count(rejects), _with_interval(rejects["at"][level])])
    return _markdown(rows)


def _delays(summary: Plain, level: str) -> str:
    rows = [["keyword", "condition", "p50 ms", "p95 ms"]]
    for keyword, figures in summary["keywords"].items():
        for condition, rejects in _clean_first(figures["false_rejects"].get("real", {})):
            if delay := rejects["at"][level]["latency_ms"]:
                rows.append([keyword, condition, f"{delay['p50']:.0f}", f"{delay['p95']:.0f}"])
    return _markdown(rows)


def _phrases(summary: Plain) -> str:
    rows = [["source", "phrases", "accepts", "per 1000"]]
    for source, heard in summary["phrases"].items():
        accepts = ", ".join(f"{keyword} {count}" for keyword, count in heard["accepts"].items() if count)
        rows.append([source, str(heard["phrases"]), accepts, f"{heard['per_1000']:.1f}"])
    return _markdown(rows)


def _loudest(summary: Plain) -> str:
    rows = [["score", "keyword", "kind", "clip", "at s"]]
    for peak in summary["loudest"]:
        score, time_s = f"{peak['score']:.3f}", f"{peak['time_s']:.1f}"
        rows.append([score, peak["keyword"], peak["kind"], peak["clip"], time_s])
    return _markdown(rows)


def _levels(report: Plain) -> list[str]:
    return [level_name(level) for level in report["settings"]["false_accepts_per_hour"]]


def _clean_first(conditions: Plain) -> Iterable[tuple[str, Plain]]:
    return sorted(conditions.items(), key=lambda item: item[0] != CLEAN)


def _count(rejects: Plain) -> str:
    return f"{rejects['recordings']} / {rejects['speakers']}"


def _with_interval(figure: Plain) -> str:
    return f"{100 * figure['rate']:.1f} % ({100 * figure['low']:.1f}-{100 * figure['high']:.1f})"


def _markdown(rows: list[list[str]]) -> str:
    """A table whose first row is its head."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])
