"""A new process in place of this one: a thread that hangs in a C library cannot be ended otherwise."""

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from kws.daemon import stderr

_LAST_STANDARD = 2


def start_anew() -> NoReturn:
    """Run the same command again, as the process of the same number.

    Nothing but the standard streams is handed on: C libraries open much that they would leave behind, and a
    fault that lasts all night takes a new process every twenty seconds.
    """
    stderr.give_back()
    for entry in Path("/proc/self/fd").iterdir():
        if int(entry.name) > _LAST_STANDARD:
            with suppress(OSError):  # closed meanwhile
                os.set_inheritable(int(entry.name), False)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 (there is no shell)
