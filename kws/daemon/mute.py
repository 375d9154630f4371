"""Whether the microphone is to be closed, kept over a restart: who was promised silence gets it."""

import json
import logging
import time
from pathlib import Path

from kws.files import write_text

FILE = "mute.json"
FOR_EVER = float("inf")

_log = logging.getLogger(__name__)


class Mute:
    """Muted for some time.

    While kws runs that is counted by a clock that does not jump. A restart leaves the time of day, which a
    Raspberry Pi may not know yet: then it goes on for no longer than was asked for.
    """

    def __init__(self, folder: Path) -> None:
        """`folder` keeps it; one that cannot be written costs the memory over a restart and a warning."""
        self._path = folder / FILE
        self._end_s: float | None = None  # monotonic
        try:
            kept = json.loads(self._path.read_text())
            self._count(
                None if kept["seconds"] is None else min(kept["until_s"] - time.time(), kept["seconds"])
            )
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError) as error:
            # It was once written by a user who wanted silence: a damaged file keeps it.
            _log.warning("cannot read %s (%s); muted until: kws unmute", self._path, error)
            self._count(None)

    @property
    def left_s(self) -> float:
        """Seconds that it goes on for, infinity until `end`; 0 when it is not muted."""
        return 0.0 if self._end_s is None else max(0.0, self._end_s - time.monotonic())

    def begin(self, seconds: float | None) -> None:
        """Mute for so long; None is until `end`."""
        self._count(seconds)
        until_s = None if seconds is None else time.time() + seconds
        self._keep(json.dumps({"until_s": until_s, "seconds": seconds}))

    def _count(self, seconds: float | None) -> None:
        self._end_s = FOR_EVER if seconds is None else time.monotonic() + seconds

    def end(self) -> None:
        """Listen again."""
        self._end_s = None
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            _log.warning(
                "cannot remove %s (%s); after a restart kws may be muted", self._path, error.strerror
            )

    def _keep(self, text: str) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self._path, text)
        except OSError as error:
            _log.warning("cannot write %s (%s); a restart would unmute", self._path, error.strerror)
