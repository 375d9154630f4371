"""A file is replaced whole or not touched, also when the disk is full."""

from pathlib import Path

import pytest

from kws.files import replacing


def test_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    with replacing(target) as partial:
        partial.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [OSError, ValueError, KeyboardInterrupt])
def test_failure_keeps_the_old_file_and_leaves_no_other(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def fail() -> None:
        with replacing(target) as partial:
            partial.write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.system
def test_full_disk_keeps_the_old_file(small_disk: Path) -> None:
    target = small_disk / "a.bin"
    target.write_bytes(b"old")
    with pytest.raises(OSError, match="No space left"), replacing(target) as partial:
        partial.write_bytes(bytes(1_000_000))
    assert target.read_bytes() == b"old"
    assert list(small_disk.iterdir()) == [target]
