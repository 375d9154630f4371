"""Where a model's weights come from: recorded when a run starts, put into the manifest by the exporter."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable

from kws.corpus import Clip
from kws.evaluate.report import commit
from kws.manifest import Source, Training

CONFIG_FILE, QUANT_FILE = "config.yaml", "qat.safetensors"
"""The recipe and the quantised network in a run folder; the float one is called as in a model folder."""
TRAINING_FILE = "training.yaml"
"""The record in a run folder: a `kws.manifest.Training` as YAML."""


def training_record(clips: Iterable[Clip], config: bytes, seed: int) -> Training:
    """Summarise the clips that a run may see, by source, with its configuration file's content and seed."""
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
    return Training(sources, commit(), hashlib.sha256(config).hexdigest(), seed)
