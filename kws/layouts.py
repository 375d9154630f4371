"""Importers: the folder layouts that people really have, as rows of a manifest (docs/corpus.md).

Nothing is copied: the corpus gets a link to the original folder and a `manifest.csv`. Several imports into
one corpus add up; importing a source again replaces its rows.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from kws.audio import duration_s
from kws.corpus import Row, manifest_rows, row_of, write_manifest
from kws.errors import DataError

AUDIO_SUFFIXES = {".wav", ".flac", ".ogg", ".opus", ".mp3"}
DEV_PERCENT = 10
"""Share of the speakers that a layout without splits of its own puts into dev."""


def import_corpus(layout: str, source: Path, destination: Path) -> tuple[Path, int]:
    """Add `source` to the corpus in `destination`; returns the manifest and the number of clips added.

    Args:
        layout: "speech-commands", "wake-word-benchmark" or "folders".
        source: Folder in that layout.
        destination: Folder of the corpus; made when missing.

    Raises:
        DataError: `source` is not in that layout.
        AudioError: a file's header cannot be read.
    """
    if not source.is_dir():
        raise DataError(f"{source} is not a folder; check the path")
    rows = sorted(_LAYOUTS[layout](source), key=lambda row: row["path"])
    if not rows:
        raise DataError(f"{source} holds no audio in the layout {layout!r}; see docs/corpus.md")
    name = source.resolve().name
    destination.mkdir(parents=True, exist_ok=True)
    link = destination / name
    if not link.exists():
        link.symlink_to(source.resolve(), target_is_directory=True)
    elif link.resolve() != source.resolve():
        raise DataError(f"{link} is another folder of the same name; rename one of them")
    kept = [row for row in manifest_rows(destination) if not row["path"].startswith(f"{name}/")]
    added = [{**row, "path": f"{name}/{row['path']}"} for row in rows]
    return write_manifest(destination, kept + added), len(added)


def speech_commands(source: Path) -> Iterator[Row]:
    """Google Speech Commands: `word/speaker_nohash_n.wav`, official validation and testing lists."""
    official: dict[str, str] = {}
    for file, split in (("validation_list.txt", "dev"), ("testing_list.txt", "test")):
        if not (source / file).is_file():
            raise DataError(f"{source} has no {file}; give the unpacked Speech Commands archive")
        official |= dict.fromkeys((source / file).read_text(encoding="utf-8").split(), split)
    for path in _audio(source):
        relative = path.relative_to(source).as_posix()
        word = path.parent.name
        noise = word == "_background_noise_"
        yield row_of(
            path,
            source,
            duration_s(path),
            label="" if noise else word,
            kind="noise" if noise else "keyword",
            speaker=path.stem if noise else path.stem.split("_")[0],
            split=official.get(relative, "train"),
            lang="" if noise else "en",
            licence="CC-BY-4.0",
        )


def wake_word_benchmark(source: Path) -> Iterator[Row]:
    """Picovoice wake-word-benchmark: `audio/word/n.flac`, no speakers known, so everything is for testing."""
    for path in _audio(source / "audio"):
        word = path.parent.name.replace("_", " ")
        yield row_of(
            path,
            source,
            duration_s(path),
            label=word,
            kind="keyword",
            speaker="",
            split="test",
            lang="en",
            licence="Apache-2.0",
        )


def labelled_folders(source: Path) -> Iterator[Row]:
    """`label/*.wav` or `label/speaker/*.wav`; folders `_noise_`, `_music_`, `_speech_` hold background.

    Without a folder per speaker, the speaker is what precedes the first "_" or "-" of the file name, or the
    whole stem. A tenth of the speakers, chosen by a hash of their name, becomes the dev split.
    """
    for path in _audio(source):
        parts = path.relative_to(source).parts
        if len(parts) < 2:
            continue
        background = re.fullmatch(r"_(noise|music|speech)_", parts[0])
        speaker = parts[1] if len(parts) > 2 else re.split(r"[_-]", path.stem)[0]
        bucket = int(hashlib.sha256(speaker.encode()).hexdigest(), 16) % 100
        yield row_of(
            path,
            source,
            duration_s(path),
            label="" if background else parts[0].replace("_", " "),
            kind=background[1] if background else "keyword",
            speaker=speaker,
            split="dev" if bucket < DEV_PERCENT else "train",
            lang="",
            licence="",
        )


_LAYOUTS: dict[str, Callable[[Path], Iterable[Row]]] = {
    "speech-commands": speech_commands,
    "wake-word-benchmark": wake_word_benchmark,
    "folders": labelled_folders,
}


def _audio(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in AUDIO_SUFFIXES)
