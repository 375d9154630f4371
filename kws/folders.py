"""Where a running daemon keeps its sockets and its state; `kws.client` knows where to look for the sockets.

systemd names both folders ($RUNTIME_DIRECTORY, $STATE_DIRECTORY). Without it they are the user's own: sockets
in $XDG_RUNTIME_DIR, state in $XDG_STATE_HOME; root's are /run/kws and /var/lib/kws.
"""

import os
from pathlib import Path

from kws.protocol import runtime_parent

NAME = "kws"


def runtime_folder() -> Path:
    """The folder of this daemon's sockets; it may have to be made."""
    return _given("RUNTIME_DIRECTORY") or Path(runtime_parent()) / NAME


def state_folder() -> Path:
    """The folder of what this daemon keeps; it may have to be made."""
    given = _given("STATE_DIRECTORY")
    if given:
        return given
    if os.geteuid() == 0:
        return Path("/var/lib") / NAME
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / NAME


def find_state(part: str, instance: str | None = None) -> Path:
    """The folder `part` of what a daemon keeps: the user's own daemon if it is there, else the machine's."""
    name = f"{NAME}-{instance}" if instance else NAME
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")  # of systemd before 254
    folders = [parent / name / part for parent in (state_folder().parent, config, Path("/var/lib"))]
    return next((folder for folder in folders[:-1] if folder.is_dir()), folders[-1])


def _given(variable: str) -> Path | None:
    """The first of the folders that systemd separates by colons."""
    text = os.environ.get(variable, "").partition(":")[0]
    return Path(text) if text else None
