"""What training keeps between runs: decoded audio, rendered windows, frames to validate on.

Another corpus or recipe makes entries of its own, ten gigabytes for the shipped model, and nobody tidies a
cache: so the entries that were used least recently go when there are too many.
"""

import os
import shutil
from collections import defaultdict
from pathlib import Path

MOST_BYTES = 24 << 30
"""Two runs of the shipped model with different recipes fit beside each other."""
KINDS = ("audio-", "pool-", "validation-")
"""How the names of our entries begin; what comes before the first dot names an entry."""


def entry(cache: Path, name: str) -> Path:
    """Where `name` is or will be kept; notes that it is in use."""
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / name
    if path.exists():
        os.utime(path)
    return path


def trim(cache: Path, most_bytes: int = MOST_BYTES) -> None:
    """Remove the entries that were used least recently, until the others take no more than `most_bytes`.

    The latest is never removed. Audio that another run has open stays readable to it.
    """
    entries: dict[str, list[Path]] = defaultdict(list)
    for path in cache.iterdir():
        if path.name.startswith(KINDS):
            entries[path.name.split(".")[0]].append(path)
    measured = sorted((_used(paths), _bytes(paths), paths) for paths in entries.values())
    total = sum(size for _, size, _ in measured)
    for _, size, paths in measured[:-1]:
        if total <= most_bytes:
            return
        total -= size
        for path in paths:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _used(paths: list[Path]) -> float:
    return max(_stat(path).st_mtime for path in paths)


def _bytes(paths: list[Path]) -> int:
    files = [path for each in paths for path in (each.rglob("*") if each.is_dir() else (each,))]
    return sum(_stat(path).st_size for path in files)


def _stat(path: Path) -> os.stat_result:
    """Of a file; one that another run has just renamed or removed is old and empty."""
    try:
        return path.stat()
    except FileNotFoundError:
        return os.stat_result([0] * 10)
