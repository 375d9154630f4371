"""When PortAudio should look for devices again.

It lists devices once, so that one which comes back is seen only when PortAudio starts anew. That costs some
40 ms of processor time, and leaks 12 kB where ALSA's JACK plugin is installed: too much for every half minute
of a month without a microphone.
"""

import os
import time
from pathlib import Path

_EAGER_S = 300.0  # of an outage, in which every attempt looks
_SELDOM_S = 600.0


class Lookout:
    """Says yes to every attempt at first, later if a card or a server came or went, or ten minutes."""

    def __init__(self) -> None:
        self._looked_s = time.monotonic()  # the import of PortAudio has just looked
        self._saw = _traces()

    def wants_look(self, outage_since_s: float) -> bool:
        """Whether PortAudio should start anew before this attempt.

        Args:
            outage_since_s: Monotonic time at which the microphone was last well.
        """
        now_s, sees = time.monotonic(), _traces()
        is_new = now_s - outage_since_s < _EAGER_S
        wants = sees != self._saw or is_new or now_s - self._looked_s >= _SELDOM_S
        if wants:
            self._saw, self._looked_s = sees, now_s
        return wants


def _traces() -> tuple[object, ...]:
    """What changes when a sound card or a sound server comes or goes."""
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}")
    servers = [runtime / "pulse/native", runtime / "pipewire-0", Path("/run/pulse/native")]
    servers += [Path(address) for address in _addresses()]
    return tuple(_trace(path) for path in (Path("/dev/snd"), *servers))


def _addresses() -> list[str]:
    return [a.removeprefix("unix:") for a in os.environ.get("PULSE_SERVER", "").split() if "/" in a]


def _trace(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns
