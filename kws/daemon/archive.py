"""The captures that lie in a folder: what they are, how to remove them, and how they become a corpus.

Each is a FLAC file with a JSON file of the same name beside it that tells why it was kept. They are numbered,
so that the oldest is known however often the clock jumps: a Raspberry Pi starts without the time.
"""

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from kws.corpus import manifest_rows, write_manifest
from kws.files import replacing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FOLDER = "captures"
"""Below the state folder; also the source's name in a corpus."""

Label = Literal["false", "missed"]
"""What a user says about one: a detection that was wrong, a keyword that was not detected."""

BEFORE_SECONDS, AFTER_SECONDS = 1.65, 0.3
"""Around a detection: the receptive field of the wake word models, and the end of a word detected early."""

_LONGEST_S = 60.0  # of a recording; an event beyond is a damaged JSON file
_NAME = re.compile(r"(\d{6,})-.+")


@dataclass(frozen=True)
class Capture:
    """One recording of the archive."""

    number: int
    """Counts up: higher is newer."""
    path: Path
    """The FLAC file."""
    event: dict[str, Any]
    """Why it was kept, as in `kws events`; empty when the JSON file is lost or damaged."""
    event_at_s: float | None
    """Where in the recording the event lies."""
    label: Label | None
    """What the user said about it."""
    bytes: int
    """Of its files."""

    @property
    def kind(self) -> str:
        """`detection`, `near-miss` or `missed`; `unknown` when its JSON file is lost or damaged."""
        return _text(self.event.get("event")) or "unknown"

    @property
    def keyword(self) -> str:
        """Empty when unknown."""
        return _text(self.event.get("keyword"))

    @property
    def when(self) -> str:
        """UTC, to the second; empty when unknown."""
        return _text(self.event.get("wall_time"))[:19].replace("T", " ")

    @property
    def score(self) -> float | None:
        """Of the event, 0..1; None when unknown."""
        score = self.event.get("score")
        return float(score) if isinstance(score, (int, float)) and 0 <= score <= 1 else None

    def fields(self) -> dict[str, Any]:
        """What JSON shows of it."""
        return {
            "number": self.number,
            "file": str(self.path),
            "bytes": self.bytes,
            "label": self.label,
            "event_at_s": self.event_at_s,
            "event": self.event,
        }


def read_archive(folder: Path) -> list[Capture]:
    """All captures of a folder, oldest first; none when it is missing, OSError when it cannot be read."""
    files = _files(folder)
    return [
        _capture(number, path, paths)
        for number, paths in files.items()
        for path in paths
        if path.suffix == ".flac"
    ]


def sizes(folder: Path) -> dict[int, int]:
    """Bytes by number, oldest first, of whatever is in the archive, halves of captures included."""
    return {number: sum(map(_size, paths)) for number, paths in _files(folder).items()}


def remove(folder: Path, numbers: Iterable[int]) -> None:
    """Delete these captures."""
    files = _files(folder)
    for path in (path for number in numbers for path in files.get(number, ())):
        path.unlink(missing_ok=True)


def write_private(path: Path, content: bytes) -> None:
    """A whole file that only its owner may read, or nothing."""
    with replacing(path) as partial:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        with open(os.open(partial, flags, 0o600), "wb") as file:  # noqa: PTH123 - a descriptor
            file.write(content)


def flac(samples: "NDArray[np.int16]", rate_hz: int) -> bytes:
    """A FLAC file, encoded in memory: so a full disk is an error, and half a file never looks whole."""
    import soundfile  # noqa: PLC0415 - not to list captures

    # A descriptor, because soundfile's own virtual files need executable memory, which the service forbids.
    descriptor = os.memfd_create("capture")
    try:
        with soundfile.SoundFile(descriptor, "w", rate_hz, 1, "PCM_16", format="FLAC", closefd=False) as file:
            file.write(samples)
        return os.pread(descriptor, os.lseek(descriptor, 0, os.SEEK_END), 0)
    finally:
        os.close(descriptor)


def description(event: dict[str, Any], event_at_s: float | None, label: Label | None) -> bytes:
    """Content of a JSON file."""
    content = {"version": 1, "event_at_s": event_at_s, "label": label, "event": event}
    return json.dumps(content).encode()


def relabel(path: Path, label: Label) -> None:
    """Note in the JSON file of the recording `path` what the user said."""
    if path.exists():  # else it has been deleted meanwhile
        beside = path.with_suffix(".json")
        content = _read(beside)
        write_private(beside, description(content.get("event", {}), content.get("event_at_s"), label))


def export(captures: Iterable[Capture], destination: Path) -> tuple[Path, dict[str, int]]:
    """Copy captures into the corpus `destination` (docs/corpus.md), beside what is there already.

    A detection is a spoken keyword unless the user called it false: then it is speech to train against. A
    near miss is a spoken keyword if the user called it missed; else nobody knows what it is, and it is left
    out. Of spoken keywords only what the network decided on is copied, so that the word is most of it. All
    is for training: the same people speak in every capture, and may not be in two splits.

    Returns:
        The manifest, and how many were exported or left out and as what.
    """
    folder = destination / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    rows = {row["path"]: row for row in manifest_rows(destination)}
    counts = {"spoken": 0, "false": 0, "unknown": 0, "damaged": 0}
    for capture in captures:
        sort = _sort(capture)
        name = f"{FOLDER}/{capture.path.name}"
        rows.pop(name, None)  # it may have been labelled since
        if sort != "unknown":
            seconds = _copy(capture, destination / name, only_word=sort == "spoken")
            if seconds:
                rows[name] = {
                    "path": name,
                    "label": capture.keyword if sort == "spoken" else "",
                    "kind": "keyword" if sort == "spoken" else "speech",
                    "seconds": f"{seconds:.3f}",
                    "split": "train",
                }
            else:
                sort = "damaged"
        counts[sort] += 1
    return write_manifest(destination, rows.values()), counts


def _sort(capture: Capture) -> str:
    """As what it is exported."""
    if capture.label == "false":
        return "false"
    is_spoken = capture.label == "missed" or capture.kind == "detection"
    return "spoken" if is_spoken and capture.keyword else "unknown"


def _copy(capture: Capture, path: Path, *, only_word: bool) -> float:
    """Write a recording, or what lies around its event, to `path`; its seconds, 0 when it cannot be read."""
    import soundfile  # noqa: PLC0415 - only exporting needs it

    try:
        samples, rate_hz = soundfile.read(str(capture.path), dtype="int16")
    except soundfile.LibsndfileError:
        return 0.0
    if only_word and capture.event_at_s is not None:
        first, last = (round((capture.event_at_s + s) * rate_hz) for s in (-BEFORE_SECONDS, AFTER_SECONDS))
        samples = samples[max(0, first) : max(0, last)]
    if len(samples):
        with replacing(path) as partial:
            partial.write_bytes(flac(samples, rate_hz))
    return float(len(samples) / rate_hz)


def _files(folder: Path) -> dict[int, list[Path]]:
    """Files by number, oldest first."""
    files: dict[int, list[Path]] = {}
    try:
        paths = list(folder.iterdir())
    except FileNotFoundError:
        return {}
    for path in paths:
        if match := _NAME.fullmatch(path.name):
            files.setdefault(int(match[1]), []).append(path)
    return dict(sorted(files.items()))


def _capture(number: int, path: Path, paths: list[Path]) -> Capture:
    content = _read(path.with_suffix(".json"))
    event, at_s, label = content.get("event"), content.get("event_at_s"), content.get("label")
    return Capture(
        number=number,
        path=path,
        event=event if isinstance(event, dict) else {},
        event_at_s=float(at_s) if isinstance(at_s, (int, float)) and 0 <= at_s < _LONGEST_S else None,
        label=label if label in get_args(Label) else None,
        bytes=sum(map(_size, paths)),
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):  # power was lost, or somebody edited it
        return {}
    return content if isinstance(content, dict) else {}


def _text(value: Any) -> str:
    """What can be printed, whatever a damaged file holds."""
    text = value if isinstance(value, str) else ""
    return "".join(c for c in text if c.isprintable())


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # deleted meanwhile
        return 0
