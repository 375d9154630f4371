"""Files that appear complete or not at all, and where they are cached."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a name to write to: it becomes `path` when the block ends well, else it is removed.

    So a full disk, an error or an interruption leaves the old file as it was and no half of a new one.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a whole UTF-8 file, or nothing."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def cache_folder() -> Path:
    """Where decoded audio and rendered windows are kept between runs: $KWS_CACHE, else ~/.cache/kws."""
    return Path(os.environ.get("KWS_CACHE", Path.home() / ".cache" / "kws"))
