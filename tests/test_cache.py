"""The cache of training holds what was used last and no more than it may."""

import os
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the train extra")

from kws.train.cache import entry, trim

MINUTE = 60


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Three entries of 1000 bytes; "pool-b" was used last, then "audio-a", then "validation-c"; and a box."""
    now = tmp_path.stat().st_mtime
    for name, size, minutes_ago in (
        ("audio-a.i16", 900, 90),
        ("audio-a.npz", 100, 20),
        ("pool-b/shard", 1000, 90),
        ("validation-c.npz", 1000, 30),
        ("boxes/tree", 9000, 90),
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(size))
        os.utime(path, 2 * (now - MINUTE * minutes_ago,))
    os.utime(tmp_path / "pool-b", 2 * (now - MINUTE * 10,))
    return tmp_path


def names(cache: Path) -> set[str]:
    return {path.name for path in cache.iterdir()} - {"boxes"}


@pytest.mark.parametrize(
    ("most_bytes", "kept"),
    [
        (3000, {"audio-a.i16", "audio-a.npz", "pool-b", "validation-c.npz"}),
        (2999, {"audio-a.i16", "audio-a.npz", "pool-b"}),
        (1999, {"pool-b"}),
        (0, {"pool-b"}),
    ],
)
def test_what_was_used_longest_ago_goes_first(cache: Path, most_bytes: int, kept: set[str]) -> None:
    trim(cache, most_bytes)
    assert names(cache) == kept
    assert (cache / "boxes" / "tree").exists()


def test_what_is_used_again_stays(cache: Path) -> None:
    assert entry(cache, "validation-c.npz") == cache / "validation-c.npz"
    trim(cache, 1000)
    assert names(cache) == {"validation-c.npz"}


def test_place_of_a_new_entry_is_ready(tmp_path: Path) -> None:
    path = entry(tmp_path / "new" / "cache", "pool-x")
    assert path.parent.is_dir()
    assert not path.exists()
