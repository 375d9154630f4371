"""The course of a run: one JSON line per validation, and a picture of them."""

import json
from pathlib import Path
from typing import Any

from kws.files import replacing

HISTORY, PICTURE = "history.jsonl", "history.png"


def append(run: Path, row: dict[str, Any]) -> None:
    """Add one validation and draw the picture anew."""
    with (run / HISTORY).open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    _draw(run, [json.loads(line) for line in (run / HISTORY).read_text(encoding="utf-8").splitlines()])


def _draw(run: Path, rows: list[dict[str, Any]]) -> None:
    """Loss above, each keyword's false reject rate below, over validations."""
    import matplotlib as mpl  # noqa: PLC0415 (a second; only when there is something to draw)

    mpl.use("Agg")
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(8, 6), layout="constrained")
    upper, lower = figure.subplots(2, sharex=True)
    upper.plot([row["loss"] for row in rows], "k.-")
    upper.set_ylabel("loss of the last batch")
    for keyword in rows[0]["false_reject_rate"]:
        lower.plot([100 * row["false_reject_rate"][keyword] for row in rows], ".-", label=keyword)
    lower.plot([100 * row["objective"] for row in rows], "k.-", label="mean")
    lower.set(ylabel="false rejects, %", ylim=(0, None), xlabel="phase and step")
    every = max(1, len(rows) // 8)
    lower.set_xticks(range(0, len(rows), every), [f"{r['phase']} {r['step']}" for r in rows[::every]])
    lower.legend()
    lower.grid(alpha=0.3)
    with replacing(run / PICTURE) as partial:
        figure.savefig(partial, format="png", dpi=100)
