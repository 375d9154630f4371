"""Standard error for Python alone, or for everybody again."""

import faulthandler
import os
import sys


def keep_for_python() -> None:
    """Drop what C libraries print; Python's own messages still arrive.

    PortAudio and ALSA print several lines per failed attempt, and offer no way to stop that: without this a
    missing microphone fills the journal. Call it once, early, before anything else writes to `sys.stderr`.
    """
    sys.stderr.flush()
    kept = os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8", errors="backslashreplace")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    sys.stderr = kept
    if faulthandler.is_enabled():
        faulthandler.enable(kept)  # it had taken the old way


def give_back() -> None:
    """Undo `keep_for_python`, for the program that this process becomes."""
    sys.stderr.flush()
    os.dup2(sys.stderr.fileno(), 2)
