"""The daemon's log: structured entries in systemd's journal, plain lines anywhere else.

Under systemd every record goes to journald as one entry with its priority and its `fields`, so that
`journalctl -u kws KWS_KEYWORD=computer` and `journalctl -p warning` find what they should, and a traceback
stays in one piece (protocol: https://systemd.io/JOURNAL_NATIVE_PROTOCOL). If that way is closed the lines go
to standard error, each with its priority in front as sd-daemon(3) describes. Elsewhere the time is.
"""

import logging
import os
import socket
import sys
from pathlib import Path
from typing import TextIO

JOURNAL = Path("/run/systemd/journal/socket")
IDENTIFIER = "kws"

_MAX_VALUE_BYTES = 16_000
"""Of one field: longer ones are cut, as a datagram must fit the socket's buffer."""

_FIELDS = "journal_fields"


def set_up(level: int = logging.INFO, stream: TextIO | None = None, journal: Path = JOURNAL) -> None:
    """Send what this process logs to the journal, if standard error is connected to it, else to `stream`.

    Args:
        level: The least that is logged.
        stream: For plain lines; default: standard error.
        journal: journald's socket.
    """
    stream = stream or sys.stderr
    handler: logging.Handler = logging.StreamHandler(stream)
    if _is_journal(stream):
        handler.setFormatter(_PriorityLines())
        handler = Journal(journal, fallback=handler)
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=level, handlers=[handler], force=True)


def fields(**values: object) -> dict[str, object]:
    """Fields of one entry, as logging's `extra`: `log.info("heard", extra=fields(keyword="computer"))`.

    They are named KWS_KEYWORD and so on in the journal; plain lines leave them out.
    """
    return {_FIELDS: {f"KWS_{name.upper()}": value for name, value in values.items()}}


class Journal(logging.Handler):
    """Writes each record as one journal entry; what the journal does not take goes to `fallback`."""

    def __init__(self, path: Path, fallback: logging.Handler) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter())  # or logging.basicConfig would choose one
        self._path, self._fallback = str(path), fallback
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)  # audio must not wait for a log

    def emit(self, record: logging.LogRecord) -> None:
        """Send `record`; if the journal is busy it is dropped, as standard error would wait for it too."""
        try:
            values = {
                "MESSAGE": self.format(record),
                "PRIORITY": _priority(record),
                "SYSLOG_IDENTIFIER": IDENTIFIER,
                "CODE_FUNC": record.funcName,
                "LOGGER": record.name,
            } | getattr(record, _FIELDS, {})
            self._socket.sendto(b"".join(_encoded(name, value) for name, value in values.items()), self._path)
        except BlockingIOError:
            return
        except OSError:
            self._fallback.emit(record)
        except Exception:  # a wrong argument of a log call must not end the daemon
            self.handleError(record)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
        super().close()


class _PriorityLines(logging.Formatter):
    """`<4>message`, the priority before every line: journald makes an entry of each."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(f"<{_priority(record)}>{line}" for line in super().format(record).splitlines())


def _priority(record: logging.LogRecord) -> int:
    """syslog's: 2 critical, 3 error, 4 warning, 6 informational, 7 debug."""
    return {5: 2, 4: 3, 3: 4, 2: 6}.get(record.levelno // 10, 7)


def _encoded(name: str, value: object) -> bytes:
    content = str(value).encode(errors="replace")[:_MAX_VALUE_BYTES]
    if b"\n" not in content:
        return b"%b=%b\n" % (name.encode(), content)
    return b"%b\n%b%b\n" % (name.encode(), len(content).to_bytes(8, "little"), content)


def _is_journal(stream: TextIO) -> bool:
    """Whether `stream` is the connection that systemd made to the journal: its device and inode say so."""
    try:
        info = os.fstat(stream.fileno())
    except (OSError, ValueError):  # closed, or no file at all
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{info.st_dev}:{info.st_ino}"
