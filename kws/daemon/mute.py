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
    """Muted until some time of the wall clock, as that is what a restart leaves."""

    def __init__(self, folder: Path) -> None:
        """`folder` keeps it; one that cannot be written costs the memory over a restart and a warning."""
        self._path = folder / FILE
        self.until_s = 0.0
        """Seconds since 1970; 0 is not muted, `FOR_EVER` until it is taken back."""
        try:
            until_s = json.loads(self._path.read_text())["until_s"]
            self.until_s = FOR_EVER if until_s is None else float(until_s)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError) as error:
            # It was once written by a user who wanted silence: a damaged file keeps it.
            _log.warning("cannot read %s (%s); muted until: kws unmute", self._path, error)
            self.until_s = FOR_EVER

    @property
    def left_s(self) -> float:
        """Seconds that it goes on for; 0 when it is not muted."""
        return max(0.0, self.until_s - time.time())

    def begin(self, seconds: float | None) -> None:
        """Mute for so long; None is until `end`."""
        self.until_s = FOR_EVER if seconds is None else time.time() + seconds
        self._keep(json.dumps({"until_s": None if seconds is None else self.until_s}))

    def end(self) -> None:
        """Listen again."""
        self.until_s = 0.0
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
