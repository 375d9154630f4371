"""Where a model's weights come from and what they took: noted as a run starts and ends, for the manifest."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
import yaml

from kws.config import dump, load
from kws.corpus import Clip
from kws.evaluate.report import commit
from kws.files import write_text
from kws.health import board_name
from kws.manifest import Source, Training
from kws.train.processes import Processes
from kws.train.recipe import Recipe

CONFIG_FILE, QUANT_FILE = "config.yaml", "qat.safetensors"
"""The recipe and the quantised network in a run folder; the float one is called as in a model folder."""
TRAINING_FILE = "training.yaml"
"""The record in a run folder: a `kws.manifest.Training` as YAML."""


def training_record(clips: Iterable[Clip], recipe: Recipe) -> Training:
    """Summarise the clips that a run may see, by source, and the recipe that it follows."""
    clips_by_source: dict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        clips_by_source[clip.source].append(clip)
    sources = tuple(
        Source(
            name=name,
            licence=", ".join(sorted({clip.licence for clip in found})),
            clips=len(found),
            hours=round(sum(clip.seconds for clip in found) / 3600, 2),
        )
        for name, found in sorted(clips_by_source.items())
    )
    return Training(
        sources,
        commit(),
        hashlib.sha256(as_yaml(recipe).encode()).hexdigest(),
        recipe.seed,
        start=Path(recipe.start).name,
    )


def as_yaml(recipe: Recipe) -> str:
    """The recipe as a run folder keeps it, defaults included."""
    return yaml.safe_dump(dump(recipe), sort_keys=False)


def write_record(run: Path, record: Training) -> None:
    """Put the record into a run folder."""
    write_text(run / TRAINING_FILE, yaml.safe_dump(dump(record), sort_keys=False))


def record_effort(run: Path, minutes: float, everyone: Processes) -> Training:
    """Add to a finished run's record how long it took, and on what; returns it."""
    record = load(run / TRAINING_FILE, Training)
    record = replace(record, minutes=round(minutes, 1), machine=_machine(everyone))
    write_record(run, record)
    return record


def _machine(everyone: Processes) -> str:
    """Processors, processes and version of torch, in words."""
    device = f"{os.cpu_count()} cores of {board_name()}"
    if everyone.device.type == "cuda":
        device = f"{torch.cuda.get_device_name(everyone.device)}, {device}"
    several = f"{everyone.count} processes, " if everyone.count > 1 else ""
    return f"{several}{device}, torch {torch.__version__}"
