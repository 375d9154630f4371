"""The Markdown of an evaluation: tables for README and model card, and everything for the report."""

from collections.abc import Iterable, Sequence

from kws.evaluate.rejects import SYNTHETIC, Plain, level_name
from kws.evaluate.stream import CLEAN
from kws.manifest import Manifest

DEFINITIONS = """\
FRR is the share of spoken keywords that were missed, averaged over speakers, with its 95 % interval (speakers
resampled, and no narrower than Wilson's for that many recordings). FA/h are false accepts per hour of audio
without a keyword; each keyword has its own threshold. "Clean" is the recording as it is; "10 dB" has noise or
music mixed in, 10 dB below the word. A keyword is tested on real recordings, or on synthetic speech where
nobody has recorded it.
"""


def short_table(report: Plain) -> str:
    """False reject rates of what every keyword is tested on: every network, keyword and condition."""
    levels = _levels(report)
    rows = [
        ["network", "keyword", "condition", "tested on", *(f"FRR at {x} FA/h" for x in levels)],
    ]
    for network, summary in report["networks"].items():
        for keyword, figures in summary["keywords"].items():
            for condition, rejects in _clean_first(_tested(figures)):
                cells = [with_interval(rejects["at"][level]) for level in levels]
                rows.append([network, keyword, condition, _tested_on(figures, rejects), *cells])
        for condition, at in _clean_first(summary["mean"].get("tested", {})):
            cells = [with_interval(at[level]) for level in levels]
            rows.append([network, "**mean**", condition, f"{at[levels[0]]['keywords']} keywords", *cells])
    return markdown(rows)


def models_table(manifests: Iterable[Manifest]) -> str:
    """One table of several measured models, from what their manifests say; then a line on each.

    Shown are the calibrated operating point and the strictest one. Models not measured are left out.
    """
    measured = [m for m in manifests if m.evaluation and "keywords" in m.evaluation]
    columns = dict.fromkeys(
        (condition, level)
        for manifest in measured
        for level in _two_levels(manifest.evaluation or {})
        for condition in (manifest.evaluation or {})["mean"]
    )
    heads = [f"{condition}, {level} FA/h" for condition, level in columns]
    rows = [["model", "keyword", "tested on", *heads]]
    lines = []
    for manifest in measured:
        facts = manifest.evaluation or {}
        for keyword, figures in facts["keywords"].items():
            tested = f"{figures['recordings']} {figures['tested_on']} / {figures['speakers']}"
            rows.append([manifest.name, keyword, tested, *_cells(figures["false_reject_rate"], columns)])
        rows.append([manifest.name, "**mean**", "", *_cells(facts["mean"], columns)])
        lines.append(f"- {provenance_line(model_facts(manifest), facts)}")
    note = "FRR in %, INT8. Tested on: recordings, real or synthetic, / their speakers."
    return "\n".join([markdown(rows), "", note, "", *lines])


def model_facts(manifest: Manifest) -> Plain:
    """What names a network."""
    model = manifest.model
    return {
        "name": manifest.name,
        "sha256": model.sha256,
        "parameters": model.parameters,
        "bytes": model.bytes,
    }


def provenance(report: Plain) -> str:
    """What was measured, on what and when: one paragraph."""
    ambient = next(iter(report["networks"].values()))["ambient"]
    facts = {"ambient_hours": ambient["hours"], "ambient_by_kind": ambient["by_kind"]}
    return provenance_line(report["model"], report | facts)


def provenance_line(model: Plain, facts: Plain) -> str:
    """The same from a model's facts and its evaluation's."""
    kinds = ", ".join(f"{kind} {hours:.2f}" for kind, hours in facts["ambient_by_kind"].items())
    return (
        f"{model['name']}: {model['parameters']} parameters, {model['bytes'] / 1000:.0f} kB; "
        f"{facts['split']} split, {facts['ambient_hours']:.2f} h of audio without a keyword ({kinds}); "
        f"commit {facts['commit']}, {facts['date']}, sha256 {model['sha256'][:12]}."
    )


def only_synthetic(report: Plain) -> str:
    """A sentence on keywords that no real recording says; empty when there are none."""
    summary = next(iter(report["networks"].values()))
    words = [f'"{k}"' for k, figures in summary["keywords"].items() if figures["tested_on"] == SYNTHETIC]
    if not words:
        return ""
    return (
        f"No real recording says {', '.join(words)}: their figures, and their share of the mean, are of "
        "synthetic speech, and people may be harder to hear."
    )


def robustness_table(summary: Plain) -> str:
    """False rejects through rooms and microphones, at the calibrated operating point; empty if not played."""
    if not summary["robustness"]:
        return ""
    keywords = list(summary["robustness"][0]["keywords"])
    rows = [["through", "noise", *keywords, "**mean**"]]
    for row in summary["robustness"]:
        cells = [with_interval(row["keywords"][keyword]) for keyword in keywords]
        rows.append([row["channel"], row["condition"], *cells, with_interval(row["mean"])])
    return markdown(rows)


def paired_table(rows: Iterable[Plain], a: str, b: str) -> str:
    """Differences of misses of two models on the same recordings (`kws.evaluate.paired`)."""
    head = ["condition", "FA/h", "keyword", f"FRR of {a}", f"FRR of {b}", "difference (95 %)"]
    table = [[*head, f"missed by {a} only", f"by {b} only", "judgement"]]
    for row in rows:
        low, high = row["low"], row["high"]
        judgement = f"{a} misses less" if high < 0 else f"{b} misses less" if low > 0 else "may be luck"
        difference = f"{100 * row['difference']:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
        rates = [f"{100 * row[name]:.1f} %" for name in ("a", "b")]
        counts = [str(row[name]) for name in ("only_a", "only_b")]
        named = [row["condition"], row["level"], row["keyword"]]
        table.append([*named, *rates, difference, *counts, judgement])
    return markdown(table)


def full_report(report: Plain) -> str:
    """The short table, then everything else that was counted."""
    level = level_name(report["settings"]["calibrated_at"])
    parts = [f"# {report['model']['name']}", DEFINITIONS.rstrip(), only_synthetic(report)]
    parts += [short_table(report), provenance(report)]
    for network, summary in report["networks"].items():
        parts += [
            f"## {network}",
            "False accepts on ambient audio:",
            false_accepts_table(summary),
            f"FRR through rooms and microphones, at {level} FA/h:" if summary["robustness"] else "",
            robustness_table(summary),
            f"Synthetic speech, at {level} FA/h:",
            _synthetic(summary, level),
            f"From the end of the word to the detection, at {level} FA/h:",
            _delays(summary, level),
            f"Other words and near misses, at {level} FA/h, each said once:",
            phrases_table(summary),
            "Highest peaks in ambient audio:",
            _loudest(summary),
        ]
        if summary["unreadable"]:
            parts += ["Not played:", "\n".join(f"- {reason}" for reason in summary["unreadable"])]
    return "\n\n".join(filter(None, parts)) + "\n"


def false_accepts_table(summary: Plain) -> str:
    """What ambient audio does to each keyword, counted and by kind, at every operating point."""
    rows = [["keyword", "asked FA/h", "threshold", "false accepts", "FA/h (95 %)", "of which"]]
    for keyword, figures in summary["keywords"].items():
        for asked, point in figures["operating_points"].items():
            rate = f"{point['per_hour']:.2f} ({point['low']:.2f}-{point['high']:.2f})"
            kinds = ", ".join(
                f"{kind} {point['by_kind'].get(kind, 0)}" for kind in summary["ambient"]["by_kind"]
            )
            count = str(point["false_accepts"])
            rows.append([keyword, asked, f"{point['threshold']:.4f}", count, rate, kinds])
    return markdown(rows)


def _synthetic(summary: Plain, level: str) -> str:
    rows = [["keyword", "condition", "recordings / speakers", "FRR"]]
    for keyword, figures in summary["keywords"].items():
        for condition, rejects in _clean_first(figures["false_rejects"].get("synthetic", {})):
            rows.append([keyword, condition, _count(rejects), with_interval(rejects["at"][level])])
    return markdown(rows)


def _delays(summary: Plain, level: str) -> str:
    rows = [["keyword", "condition", "p50 ms", "p95 ms"]]
    for keyword, figures in summary["keywords"].items():
        for condition, rejects in _clean_first(_tested(figures)):
            if delay := rejects["at"][level]["latency_ms"]:
                rows.append([keyword, condition, f"{delay['p50']:.0f}", f"{delay['p95']:.0f}"])
    return markdown(rows)


def phrases_table(summary: Plain) -> str:
    """Accepts of other words and near misses, each said once, at the calibrated operating point."""
    rows = [["source", "phrases", "accepts", "per 1,000 phrases (95 %)"]]
    for source, heard in summary["phrases"].items():
        accepts = ", ".join(f"{keyword} {count}" for keyword, count in heard["accepts"].items() if count)
        rate = f"{heard['per_1000']:.1f} ({heard['low']:.1f}-{heard['high']:.1f})"
        rows.append([source, str(heard["phrases"]), accepts, rate])
    return markdown(rows)


def _loudest(summary: Plain) -> str:
    rows = [["score", "keyword", "kind", "clip", "at s"]]
    for peak in summary["loudest"]:
        score, time_s = f"{peak['score']:.3f}", f"{peak['time_s']:.1f}"
        rows.append([score, peak["keyword"], peak["kind"], peak["clip"], time_s])
    return markdown(rows)


def _tested(figures: Plain) -> Plain:
    """Condition -> false rejects of the group that a keyword is tested on."""
    conditions: Plain = figures["false_rejects"].get(figures["tested_on"], {})
    return conditions


def _tested_on(figures: Plain, rejects: Plain) -> str:
    return f"{rejects['recordings']} {figures['tested_on']} / {rejects['speakers']} speakers"


def _two_levels(facts: Plain) -> list[str]:
    """The calibrated operating point and the strictest one, as they are named."""
    levels = [float(level) for at in facts["mean"].values() for level in at]
    return list(dict.fromkeys(level_name(x) for x in (facts["calibrated_at_fa_per_hour"], min(levels))))


def _cells(rates: Plain, columns: Iterable[tuple[str, str]]) -> list[str]:
    """Rates with their intervals in percent; empty where a model was not measured like that."""
    return [_percent(found) if (found := rates.get(c, {}).get(level)) else "" for c, level in columns]


def _percent(rate_low_high: Sequence[float]) -> str:
    rate, low, high = (100 * share for share in rate_low_high)
    return f"{rate:.1f} ({low:.1f}-{high:.1f})"


def _levels(report: Plain) -> list[str]:
    return [level_name(level) for level in report["settings"]["false_accepts_per_hour"]]


def _clean_first(conditions: Plain) -> Iterable[tuple[str, Plain]]:
    return sorted(conditions.items(), key=lambda item: item[0] != CLEAN)


def _count(rejects: Plain) -> str:
    return f"{rejects['recordings']} / {rejects['speakers']}"


def with_interval(figure: Plain) -> str:
    """A rate in per cent with its interval."""
    return f"{100 * figure['rate']:.1f} % ({100 * figure['low']:.1f}-{100 * figure['high']:.1f})"


def markdown(rows: list[list[str]]) -> str:
    """A table whose first row is its head."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])
