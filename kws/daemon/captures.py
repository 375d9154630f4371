"""Captures: the seconds around detections and near misses, kept for who asks for it, up to a size.

A thread of its own writes them into the archive. A full disk, or a folder that cannot be written, costs
captures and one warning, nothing else.
"""

import contextlib
import logging
import queue
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kws.daemon.archive import Label, description, flac, relabel, remove, sizes, write_private
from kws.errors import ConfigError

log = logging.getLogger(__name__)

_WAITING = 16  # captures that may wait for the disk: a few megabytes of memory
_REMEMBERED = 100  # captures that feedback still finds


@dataclass(frozen=True)
class CaptureSettings:
    """Whether audio is kept, and how much of it."""

    enabled: bool = False
    """Keep audio on the disk; nothing else in kws does."""
    before_seconds: float = 3.0
    """Audio before the event in each capture."""
    after_seconds: float = 0.5
    """Audio after the event in each capture."""
    max_mb: int = 200
    """All captures together, in megabytes; the oldest go first. One takes about 0.05."""

    def __post_init__(self) -> None:
        """Refuse more than a few seconds, and no room."""
        if not 0.5 <= self.before_seconds <= 10:
            raise ConfigError("before_seconds must lie in 0.5..10; correct it")
        if not 0 <= self.after_seconds <= 5:
            raise ConfigError("after_seconds must lie in 0..5; correct it")
        if self.max_mb < 1:
            raise ConfigError("max_mb must be at least 1; to keep nothing, set enabled: false")


class Captures:
    """Writes captures into a folder, in a thread that runs only when they are enabled.

    Methods return at once, may be called from any thread, and never raise because of a disk.
    """

    def __init__(self, folder: Path, settings: CaptureSettings, sample_rate_hz: int = 16_000) -> None:
        self.folder, self.settings, self.sample_rate_hz = folder, settings, sample_rate_hz
        self.files, self.bytes = 0, 0
        """What the archive holds, as of the last capture."""
        self._is_failing = self._is_behind = False
        self._last_number = 0
        self._labels: dict[str, Label] = {}  # by the event's id, while it is not written yet
        self._paths: dict[str, Path] = {}  # by the event's id, the latest of those written
        self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._work, name="captures", daemon=True)
        if settings.enabled:
            self._put(self._survey)
            try:
                self._thread.start()
            except RuntimeError as error:  # the service may have so many tasks and no more
                log.warning("captures: not kept (%s); raise TasksMax, then reload", error)

    def store(self, samples: NDArray[np.int16], event: Mapping[str, Any], event_at_s: float | None) -> None:
        """Keep a copy of these samples; nothing at all where captures are not enabled.

        Args:
            samples: Mono, the seconds around the event.
            event: As published, with its `id`.
            event_at_s: From the first sample to the event.
        """
        if self.settings.enabled and len(samples):
            self._put(partial(self._write, np.array(samples, np.int16), dict(event), event_at_s))

    def label(self, event_id: str, label: Label) -> None:
        """Note in the capture of this event, also if it is still to come, what the user said about it."""
        if self.settings.enabled:
            self._put(partial(self._label, event_id, label))

    def close(self, timeout_s: float = 2.0) -> None:
        """Write what waits, for as long as this, and end the thread."""
        if self._thread.is_alive():
            with contextlib.suppress(queue.Full):  # a disk that hangs
                self._jobs.put(None, timeout=timeout_s / 2)
            self._thread.join(timeout_s / 2)

    def _put(self, job: Callable[[], None]) -> None:
        try:
            self._jobs.put_nowait(job)
            self._is_behind = False
        except queue.Full:
            if not self._is_behind:
                log.warning("captures: the disk is too slow, some are left out; use a faster one")
            self._is_behind = True

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Exception as error:  # whatever a disk or a library does, the thread and its daemon go on
                if not self._is_failing:
                    log.warning(
                        "captures: cannot write to %s (%s); make room or correct its permissions",
                        self.folder,
                        error,
                    )
                self._is_failing = True

    def _survey(self) -> None:
        """What earlier runs left. And the library is loaded now, not beside the audio of a detection."""
        import soundfile  # noqa: F401, PLC0415

        found = sizes(self.folder)
        self.files, self.bytes = len(found), sum(found.values())
        self._last_number = max(found, default=0)
        for path in self.folder.glob("*.part"):  # of a run that was killed
            path.unlink()

    def _write(self, samples: NDArray[np.int16], event: dict[str, Any], event_at_s: float | None) -> None:
        audio = flac(samples, self.sample_rate_hz)
        event_id = str(event.get("id"))
        beside = description(event, event_at_s, self._labels.pop(event_id, None))
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.folder.stat().st_mode & 0o077:
            self.folder.chmod(0o700)
        self._make_room(len(audio) + len(beside))
        self._last_number += 1
        path = self.folder / f"{self._last_number:06d}-{_title(event)}.flac"
        try:
            write_private(path.with_suffix(".json"), beside)
            write_private(path, audio)
        except OSError:
            path.with_suffix(".json").unlink(missing_ok=True)
            raise
        self._paths[event_id] = path
        while len(self._paths) > _REMEMBERED:
            del self._paths[next(iter(self._paths))]
        self.files, self.bytes = self.files + 1, self.bytes + len(audio) + len(beside)
        if self._is_failing:
            log.info("captures: written again")
        self._is_failing = False

    def _make_room(self, wanted_bytes: int) -> None:
        found = sizes(self.folder)
        total, limit = sum(found.values()), self.settings.max_mb * 1_000_000 - wanted_bytes
        oldest = []
        for number, size in found.items():
            if total <= limit:
                break
            oldest.append(number)
            total -= size
        remove(self.folder, oldest)
        self.files, self.bytes = len(found) - len(oldest), total
        self._last_number = max(self._last_number, *found, 0)

    def _label(self, event_id: str, label: Label) -> None:
        if event_id in self._paths:
            relabel(self._paths[event_id], label)
        else:
            self._labels = dict([*self._labels.items(), (event_id, label)][-_REMEMBERED:])


def _title(event: Mapping[str, Any]) -> str:
    """When, what and which keyword, as a part of a file name."""
    words = (str(event.get(key) or "") for key in ("wall_time", "event", "keyword"))
    return "-".join(re.sub(r"\W+", "-", word.partition(".")[0])[:40] for word in words if word)
