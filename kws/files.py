"""Files that appear complete or not at all, lists of files, and where files are shipped and cached."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kws.errors import ConfigError


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


def shipped(name: str) -> Path:
    """Folder of data that came with this program: `kws/_models` when installed, `models` in a checkout."""
    package = Path(__file__).parent
    installed = package / f"_{name}"
    return installed if installed.is_dir() else package.parent / name


def cache_folder() -> Path:
    """Where decoded audio and rendered windows are kept between runs: $KWS_CACHE, else ~/.cache/kws."""
    return Path(os.environ.get("KWS_CACHE", Path.home() / ".cache" / "kws"))


def read_list(path: str | None) -> list[str]:
    """File names from a text file, one a line; `-` is standard input, None an empty list."""
    if path is None:
        return []
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the list {path} ({error}); write one file name a line") from error
    return [line.strip() for line in text.splitlines() if line.strip()]
