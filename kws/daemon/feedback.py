"""What the user says about the detections: that one was false, or that a keyword was missed.

Counted per keyword, since the start and in total, kept as JSON lines in the state folder, and noted in the
capture of the event, which is then worth training on.
"""

import json
import logging
import os
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kws.daemon.archive import Label
from kws.daemon.captures import Captures
from kws.errors import ConfigError, KwsError

log = logging.getLogger(__name__)

FILE = "feedback.jsonl"
"""In the state folder."""

FALSE_WITHIN_SECONDS = 600
"""How old a detection may be that is called false."""

MISSED_WITHIN_SECONDS = 30
"""How old a near miss may be to be taken for the keyword that was missed."""

_LARGEST_BYTES = 1_000_000  # thousands of lines; nobody says that much


@dataclass(frozen=True)
class _Heard:
    at_s: float  # monotonic: the wall clock jumps
    event: dict[str, Any]


class Feedback:
    """Keeps what the user says; a disk that fails costs what is on it, never an exception.

    Attributes:
        keywords: Of the model in force.
        since_start: Times that (label, keyword) was said since the start.
        total: The same since the file began.
    """

    def __init__(self, folder: Path, keywords: tuple[str, ...], captures: Captures) -> None:
        self.keywords, self.captures = keywords, captures
        self._path = folder / FILE
        self._heard: deque[_Heard] = deque(maxlen=50)
        self.since_start: Counter[tuple[str, str]] = Counter()
        self.total: Counter[tuple[str, str]] = Counter(_read(self._path))
        self._is_failing = False

    def heard(self, event: Mapping[str, Any]) -> None:
        """Remember a detection or near miss, as published, with its `id`; other events are no matter."""
        if event.get("event") in ("detection", "near-miss"):
            self._heard.append(_Heard(time.monotonic(), dict(event)))

    def add(
        self, label: Label, keyword: str | None = None, ring: NDArray[np.int16] | None = None
    ) -> dict[str, Any]:
        """Take what the user says.

        "false" is said about the last detection that it was not yet said about. "missed" is said about the
        last near miss, if it is fresh; otherwise about the audio in `ring`, which becomes a capture.

        Args:
            label: What is said.
            keyword: About which keyword; None: about any.
            ring: The last seconds of audio, mono.

        Returns:
            What was noted: label, keyword, and id and time on the wall of the event.

        Raises:
            ConfigError: the keyword is not the model's.
            KwsError: there is nothing that it could be said about.
        """
        if keyword is not None and keyword not in self.keywords:
            raise ConfigError(f"there is no keyword {keyword!r}; choose one of: {', '.join(self.keywords)}")
        event = self._take("detection" if label == "false" else "near-miss", keyword)
        if event is not None:
            self.captures.label(str(event.get("id")), label)
        elif label == "false":
            minutes = FALSE_WITHIN_SECONDS // 60
            raise KwsError(f"nothing was detected in the last {minutes} minutes; say it sooner")
        else:
            event = self._missed(keyword, ring)
        return self._note(label, event)

    def _take(self, kind: str, keyword: str | None) -> dict[str, Any] | None:
        """The latest such event that nothing was said about, if it is fresh; it is then spoken for."""
        within_s = FALSE_WITHIN_SECONDS if kind == "detection" else MISSED_WITHIN_SECONDS
        since_s = time.monotonic() - within_s
        for heard in reversed(self._heard):
            event = heard.event
            if heard.at_s >= since_s and event["event"] == kind and keyword in (None, event.get("keyword")):
                self._heard.remove(heard)
                return event
        return None

    def _missed(self, keyword: str | None, ring: NDArray[np.int16] | None) -> dict[str, Any]:
        """An event for a keyword that left no trace."""
        if keyword is None and len(self.keywords) > 1:
            raise KwsError(
                "nothing came close to a keyword just now; say which one was missed: "
                f"kws feedback missed KEYWORD, one of: {', '.join(self.keywords)}"
            )
        event = {
            "version": 1,
            "event": "missed",
            "id": os.urandom(6).hex(),
            "keyword": keyword or self.keywords[0],
            "wall_time": _now(),
        }
        if ring is not None and len(ring):
            self.captures.store(ring, event, None)
            self.captures.label(str(event["id"]), "missed")
        return event

    def _note(self, label: Label, event: Mapping[str, Any]) -> dict[str, Any]:
        keyword = str(event.get("keyword") or "")
        said = {
            "label": label,
            "keyword": keyword,
            "event_id": event.get("id"),
            "wall_time": event.get("wall_time"),
        }
        self.since_start[label, keyword] += 1
        self.total[label, keyword] += 1
        try:
            self._append(json.dumps({"version": 1, "said_at": _now(), **said}))
            self._is_failing = False
        except OSError as error:
            if not self._is_failing:
                log.warning(
                    "feedback: cannot write %s (%s); make room or correct its permissions",
                    self._path,
                    error.strerror or error,
                )
            self._is_failing = True
        return said

    def _append(self, line: str) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        with open(os.open(self._path, flags, 0o600), "rb+", buffering=0) as file:  # noqa: PTH123
            size = file.seek(0, os.SEEK_END)
            if size > _LARGEST_BYTES:
                raise OSError(f"it has grown to {size} bytes")
            whole = not size or os.pread(file.fileno(), 1, size - 1) == b"\n"  # or power was lost amid a line
            file.write(f"{'' if whole else chr(10)}{line}\n".encode())


def _read(path: Path) -> Counter[tuple[str, str]]:
    """What was said before; lines that are none are left out."""
    counts: Counter[tuple[str, str]] = Counter()
    try:
        with path.open("rb") as file:
            lines = file.read(_LARGEST_BYTES).splitlines()
    except FileNotFoundError:
        return counts
    except OSError as error:
        log.warning("feedback: cannot read %s (%s); correct its permissions", path, error.strerror)
        return counts
    for line in filter(None, lines):
        try:
            said = json.loads(line)
            counts[str(said["label"]), str(said["keyword"])] += 1
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
    return counts


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
