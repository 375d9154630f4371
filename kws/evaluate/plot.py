"""Error trade-offs and confusion matrices as pictures (needs matplotlib, the `report` extra)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from kws.errors import MissingExtra
from kws.evaluate.metrics import OperatingRow

Curves = Mapping[str, Mapping[str, list[OperatingRow]]]
"""Network -> keyword -> its whole trade-off."""

LINES = ("-", "--", ":")
"""One per network."""


def plot_trade_off(curves: Curves, path: Path, title: str) -> None:
    """Draw false rejects over false accepts per hour; the suffix of `path` chooses the format.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 (half a second, and optional)
    except ImportError as error:
        raise MissingExtra("matplotlib", "report") from error
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.subplots()
    for line, (network, keywords) in zip(LINES, curves.items(), strict=False):
        for colour, (keyword, rows) in enumerate(keywords.items()):
            axes.step(
                [row.false_accepts_per_hour for row in rows],
                [100 * row.false_reject_rate for row in rows],
                line,
                where="post",
                color=f"C{colour}",
                label=f"{keyword}, {network}",
            )
    axes.set_xscale("symlog", linthresh=0.1)  # linear to 0, where the last point lies
    axes.set(xlim=(0, 10), ylim=(0, None), title=title)
    axes.set(xlabel="false accepts per hour", ylabel="false rejects, % (averaged over speakers)")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path)


def plot_confusion(counts: Sequence[Sequence[int]], labels: Sequence[str], path: Path, title: str) -> None:
    """Draw a confusion matrix: rows are what was said, columns the answers; shades are shares of a row.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtra("matplotlib", "report") from error
    figure = Figure(figsize=(6.4, 6.0), layout="constrained")
    axes = figure.subplots()
    shares = [[count / max(1, sum(row)) for count in row] for row in counts]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for i, row in enumerate(counts):
        for j, count in enumerate(row):
            if count:
                axes.text(
                    j, i, str(count), ha="center", va="center", color="w" if shares[i][j] > 0.5 else "k"
                )
    places = range(len(labels))
    axes.set_xticks(places, labels, rotation=60)
    axes.set_yticks(places, labels)
    axes.set(title=title, xlabel="answer", ylabel="said")
    figure.savefig(path)
