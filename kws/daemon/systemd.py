"""What the daemon tells the service manager: ready, one line of status, alive, reloading, stopping.

The protocol is sd_notify(3): datagrams of `KEY=value` lines to the socket that $NOTIFY_SOCKET names. Without
systemd nothing is sent and nothing is wrong. A send that fails is no reason to stop listening either: if the
manager missed too many signs of life, it says so itself by restarting the daemon.
"""

import os
import socket
import time

_SEND_TIMEOUT_S = 1.0


def ready(status: str) -> bool:
    """Started, or done with a reload, successfully or not; `status` is what `systemctl status` shows.

    All of these return whether the manager was told.
    """
    return _notify("READY=1", f"STATUS={_line(status)}")


def status(text: str) -> bool:
    """Change the line that `systemctl status` shows."""
    return _notify(f"STATUS={_line(text)}")


def reloading() -> bool:
    """A reload begins; `ready` ends it. By the time `Type=notify-reload` tells it from an older one."""
    return _notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


def alive() -> bool:
    """Feed the watchdog: at least every half of `watchdog_seconds`, and only while audio advances."""
    return _notify("WATCHDOG=1")


def stopping(status: str) -> bool:
    """The daemon ends on purpose."""
    return _notify("STOPPING=1", f"STATUS={_line(status)}")


def watchdog_seconds() -> float | None:
    """After so many seconds without `alive` systemd kills this process; None where no watchdog is set."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None  # inherited: it watches a parent of ours
    return int(microseconds) / 1e6 if microseconds.isdecimal() and int(microseconds) else None


def _notify(*assignments: str) -> bool:
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return False
    address = "\0" + path[1:] if path.startswith("@") else path  # @: Linux's abstract namespace
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
            manager.settimeout(_SEND_TIMEOUT_S)
            manager.connect(address)
            manager.send("\n".join(assignments).encode())
    except OSError:
        return False
    return True


def _line(text: str) -> str:
    """One line: a second one would be another assignment."""
    return " ".join(text.split())
