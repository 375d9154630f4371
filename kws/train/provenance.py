"""Where a model's weights come from: recorded when a run starts, put into the manifest by the exporter."""

import hashlib
import subprocess
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from kws.corpus import Clip
from kws.manifest import Source, Training

TRAINING_FILE = "training.yaml"
"""Name of the record in a run folder: a `kws.manifest.Training` as YAML."""


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
    return Training(sources, _commit(), hashlib.sha256(config).hexdigest(), seed)


def _commit() -> str:
    """Commit of the checkout that trains, marked when there are uncommitted changes."""
    try:
        result = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--dirty"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"  # an installed wheel has no repository
    return result.stdout.strip()
