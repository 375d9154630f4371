"""What a classifier is told about itself: a summary in its manifest, CARD.md, and its results in a README."""

import dataclasses
from pathlib import Path
from typing import Any

from kws.evaluate.card import CARD_FILE, between_markers, origin
from kws.evaluate.clip_tables import clip_results, recall_table
from kws.files import write_text
from kws.manifest import MANIFEST_FILE, Manifest, read_manifest, write_manifest

CLIP_MARKERS = ("<!-- clips -->", "<!-- /clips -->")
"""A README's results of a classifier stand between these lines."""

_CARD = """\
# {name}

Says which of {words} a clip of about a second holds: or `_unknown_` for other speech, or `_silence_`.

{parameters} parameters in {kilobytes:.0f} kB of 8-bit integers; a memory of {memory_s:.2f} s of 16 kHz audio.

Licence of the weights: {licence}. Use: `kws classify --model {name} FILE...`, or `kws.Classifier(model)`.

## How well

{figures}

{recall}

## What it was trained on

{origin}

## Limits

Figures come from the development split that also chose the checkpoint, so expect somewhat worse on other
people. It decides once for a whole clip; in a longer one the surest moment wins. `kws detect --model {name}`
hears the words in running audio too, but its thresholds were not measured: it was taught short clips.
"""


def render_clip_card(manifest: Manifest, report: dict[str, Any]) -> str:
    """The model card in Markdown."""
    return _CARD.format(
        name=manifest.name,
        words=", ".join(f'"{word}"' for word in manifest.words),
        parameters=manifest.model.parameters,
        kilobytes=manifest.model.bytes / 1000,
        memory_s=manifest.memory_seconds,
        licence=manifest.licence,
        figures=clip_results(report),
        recall=recall_table(report),
        origin=origin(manifest.training),
    )


def update_classifier(folder: Path, report: dict[str, Any]) -> None:
    """Write a summary into the model's manifest, its card, and the README where that has the markers."""
    summary = {
        "date": report["date"],
        "commit": report["commit"],
        "split": report["split"],
        "accuracy": {
            network: {group: round(figures["share"], 4) for group, figures in measured["accuracy"].items()}
            for network, measured in report["networks"].items()
        },
    }
    manifest = dataclasses.replace(read_manifest(folder), evaluation=summary)
    write_manifest(manifest, folder / MANIFEST_FILE)
    write_text(folder / CARD_FILE, render_clip_card(manifest, report))
    readme = folder.resolve().parent.parent / "README.md"
    if readme.is_file() and CLIP_MARKERS[0] in (text := readme.read_text(encoding="utf-8")):
        write_text(readme, between_markers(text, clip_results(report), CLIP_MARKERS))
