"""What a model is told about itself: thresholds in its manifest, CARD.md, and the results in a README."""

import dataclasses
from pathlib import Path

from kws import config
from kws.corpus import LEAD_INS
from kws.errors import ModelError
from kws.evaluate.playlist import EvaluationSettings
from kws.evaluate.rejects import Plain, level_name
from kws.evaluate.report import headline_condition
from kws.evaluate.tables import (
    DEFINITIONS,
    false_accepts_table,
    models_table,
    only_synthetic,
    phrases_table,
    provenance,
    robustness_table,
    short_table,
)
from kws.files import write_text
from kws.manifest import (
    MANIFEST_FILE,
    Manifest,
    OperatingPoint,
    Training,
    read_manifest,
    write_manifest,
)

CARD_FILE = "CARD.md"
SHIPPED = "int8"
"""The network of a report that the model folder holds."""
MARKERS = ("<!-- results -->", "<!-- /results -->")
"""A README's results stand between these lines."""

_CARD = """\
# {name}

Hears {keywords}{alone}.

{parameters} parameters in {kilobytes:.0f} kB of 8-bit integers; one score per keyword every {hop_ms:.0f} ms
from the last {memory_s:.2f} s of 16 kHz mono audio.

Licence of the weights: {licence}. Use: `kws listen --model {name}`, or `kws.load_model("{name}")`.

## How well

{figures}

## What it was trained on

{origin}

## Limits

Figures come from the development split that also chose the checkpoint and the thresholds, so expect somewhat
worse on other people and in other rooms. Words that sound alike can fire it; a television can. It is no
security feature: it does not know who speaks.
"""

_NOT_MEASURED = "Not measured yet. Run: `kws evaluate --model {name} --data CORPUS --update`"


def render_card(manifest: Manifest, report: Plain | None = None) -> str:
    """The model card in Markdown; without a report it says that nothing was measured."""
    figures = results(report) if report else _NOT_MEASURED.format(name=manifest.name)
    names = [f'"{keyword}"' for keyword in manifest.keywords]
    leading = any(keyword.partition(" ")[0] in LEAD_INS for keyword in manifest.keywords)
    features = manifest.features
    return _CARD.format(
        name=manifest.name,
        keywords=" and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names),
        alone="" if leading else ', alone or after "hey"',
        parameters=manifest.model.parameters,
        kilobytes=manifest.model.bytes / 1000,
        hop_ms=1000 * manifest.score_hop_samples / features.sample_rate_hz,
        memory_s=manifest.memory_seconds,
        licence=manifest.licence,
        figures=figures,
        origin=origin(manifest.training),
    )


def origin(training: Training) -> str:
    """What a model was trained on, by which commit and configuration, in what time."""
    sources = "\n".join(
        f"- {s.name}: {s.clips} clips, {s.hours:.2f} h, {s.licence}" for s in training.sources
    )
    made = (
        f"Commit {training.commit}, configuration sha256 {training.config_sha256:.12}, seed {training.seed}."
    )
    if training.minutes is not None:
        made += f" It took {training.minutes:.0f} minutes on {training.machine}."
    if training.start:
        made += f" It began with the weights of {training.start}."
    return f"{sources}\n\n{made}"


def results(report: Plain) -> str:
    """The figures of a card: misses, through which channels, what fires it, and where all that comes from."""
    summary, level = report["networks"][SHIPPED], level_name(report["settings"]["calibrated_at"])
    robustness = robustness_table(summary)
    parts = [
        DEFINITIONS + only_synthetic(report),
        short_table(report),
        provenance(report),
        f"FRR through rooms and microphones, at {level} FA/h, 8-bit network:" if robustness else "",
        robustness,
        "False accepts on audio without a keyword, 8-bit network:",
        false_accepts_table(summary),
        f"Other words and near misses, each said once, at {level} FA/h, 8-bit network:",
        phrases_table(summary),
    ]
    return "\n\n".join(part.rstrip() for part in parts if part)


def update_model(folder: Path, report: Plain) -> None:
    """Write calibrated thresholds, curves and a summary into the model's manifest, and its card.

    A README beside the folder of models gets a table of all of them, where it has the markers.
    """
    manifest = calibrated(read_manifest(folder), report)
    write_manifest(manifest, folder / MANIFEST_FILE)
    write_text(folder / CARD_FILE, render_card(manifest, report))
    models = folder.resolve().parent
    readme = models.parent / "README.md"
    if readme.is_file() and MARKERS[0] in (text := readme.read_text(encoding="utf-8")):
        manifests = [read_manifest(path.parent) for path in sorted(models.glob(f"*/{MANIFEST_FILE}"))]
        write_text(readme, between_markers(text, f"{DEFINITIONS}\n{models_table(manifests)}"))


def calibrated(manifest: Manifest, report: Plain) -> Manifest:
    """The manifest with what the report measured; nothing else is changed."""
    settings = config.parse(report["settings"], EvaluationSettings)
    summary, level = report["networks"][SHIPPED], level_name(settings.calibrated_at)
    figures = {keyword: summary["keywords"][keyword] for keyword in manifest.keywords}
    thresholds = {k: figures[k]["operating_points"][level]["threshold"] for k in manifest.keywords}
    return dataclasses.replace(
        manifest,
        detector=dataclasses.replace(manifest.detector, thresholds=thresholds),
        operating_curve={
            k: tuple(config.parse(point, OperatingPoint) for point in figures[k]["curve"])
            for k in manifest.keywords
        },
        evaluation={
            "date": report["date"],
            "commit": report["commit"],
            "split": report["split"],
            "ambient_hours": summary["ambient"]["hours"],
            "ambient_by_kind": summary["ambient"]["by_kind"],
            "calibrated_at_fa_per_hour": settings.calibrated_at,
            "curve_condition": headline_condition(settings),
            "keywords": {k: _keyword_facts(figures[k]) for k in manifest.keywords if figures[k]["tested_on"]},
            "mean": _rates(summary["mean"]["tested"]),
        },
    )


def _keyword_facts(figures: Plain) -> Plain:
    """What a manifest says of one keyword's false rejects."""
    conditions = figures["false_rejects"][figures["tested_on"]]
    first = next(iter(conditions.values()))
    return {
        "tested_on": figures["tested_on"],
        "recordings": first["recordings"],
        "speakers": first["speakers"],
        "false_reject_rate": _rates({condition: r["at"] for condition, r in conditions.items()}),
    }


def _rates(conditions: Plain) -> Plain:
    """Condition -> operating point -> rate and the ends of its interval."""
    return {
        condition: {
            asked: [round(at[end], 5) for end in ("rate", "low", "high")] for asked, at in points.items()
        }
        for condition, points in conditions.items()
    }


def between_markers(text: str, content: str, markers: tuple[str, str] = MARKERS) -> str:
    """Replace what stands between the markers; ModelError when the second one is missing."""
    before, _, rest = text.partition(markers[0])
    _, closing, after = rest.partition(markers[1])
    if not closing:
        raise ModelError(f"the README has {markers[0]} but no {markers[1]} after it; add that line")
    return f"{before}{markers[0]}\n{content}\n{closing}{after}"
