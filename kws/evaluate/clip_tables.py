"""The Markdown of a classifier's evaluation: a short table for README and card, everything for the report."""

from typing import Any

from kws.evaluate.confusion import ALL, RECORDED
from kws.evaluate.tables import markdown

CLIP_DEFINITIONS = """\
Accuracy is the share of short clips that got the right one of {labels} labels, with its 95 % interval
(Wilson). There is one decision for each clip, as `kws classify` makes it; other words and silence are as
frequent as a word is on average.
"""


def short_clip_table(report: dict[str, Any]) -> str:
    """Accuracy of each network, with and without the words that hardly anybody recorded."""
    rows = [["network", "words", "clips", "accuracy"]]
    for network, summary in report["networks"].items():
        scarce = ", ".join(summary["scarce"])
        for group, name in ((RECORDED, f"all but {scarce}"), (ALL, "all")):
            if scarce or group == ALL:
                figures = summary["accuracy"][group]
                rows.append([network, name, str(figures["clips"]), _with_interval(figures)])
    return markdown(rows)


def clip_provenance(report: dict[str, Any]) -> str:
    """What was measured, on what and when: one paragraph."""
    model, scarce = report["model"], ", ".join(next(iter(report["networks"].values()))["scarce"])
    spoken = f", {scarce} mostly spoken by synthesizers" if scarce else ""
    return (
        f"{model['name']}: {model['parameters']} parameters, {model['bytes'] / 1000:.0f} kB; "
        f"{report['split']} split{spoken}; commit {report['commit']}, {report['date']}, "
        f"sha256 {model['sha256'][:12]}."
    )


def clip_results(report: dict[str, Any]) -> str:
    """Definitions, short table and provenance: the part that card and README share."""
    definitions = CLIP_DEFINITIONS.format(labels=len(report["labels"]))
    return f"{definitions}\n{short_clip_table(report)}\n\n{clip_provenance(report)}"


def recall_table(report: dict[str, Any]) -> str:
    """How many clips of each label got it."""
    networks = report["networks"]
    rows = [["label", "clips", *(f"recall, {network}" for network in networks)]]
    for label in report["labels"]:
        figures = [summary["recall"][label] for summary in networks.values()]
        rows.append([label, str(figures[0]["clips"]), *map(_with_interval, figures)])
    return markdown(rows)


def full_clip_report(report: dict[str, Any]) -> str:
    """The short table, then recall, confusion and the mistakes by name."""
    parts = [f"# {report['model']['name']}", clip_results(report), recall_table(report)]
    for network, summary in report["networks"].items():
        parts += [f"## {network}", "What was said, and in columns the answer:"]
        rows = [["", *report["labels"]]]
        rows += [
            [label, *(str(count or "") for count in counts)]
            for label, counts in zip(report["labels"], summary["confusion"], strict=True)
        ]
        wrong = [f"- {w['clip']}: {w['said']} heard as {w['answer']}" for w in summary["wrong"]]
        parts += [markdown(rows), "Mistakes:", "\n".join(wrong or ["none"])]
        if summary["unreadable"]:
            parts += ["Not read:", "\n".join(f"- {name}" for name in summary["unreadable"])]
    return "\n\n".join(parts) + "\n"


def _with_interval(figures: dict[str, float]) -> str:
    return f"{100 * figures['share']:.1f} % ({100 * figures['low']:.1f}-{100 * figures['high']:.1f})"
