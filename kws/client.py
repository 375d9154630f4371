"""Ask a running daemon, or listen to its events. Loads little beside `socket`: `kws status` must be cheap."""

import json
import os
import socket
from array import array
from collections.abc import Iterator
from io import BufferedReader

from kws.errors import KwsError
from kws.protocol import CONTROL, STATUS, VERSION, Folder, Message, address, line, runtime_parent

TIMEOUT_S = 10
"""To connect and to be answered; the daemon may be reading a slow meter."""

MACHINE_PARENT = "/run"
"""Where systemd makes the folders of the machine's own daemons."""


def find_runtime(instance: str | None = None) -> str:
    """The folder of a running daemon's sockets: the user's own daemon if there is one, else the machine's.

    Args:
        instance: NAME of `kws@NAME.service`, where several run.
    """
    name = f"kws-{instance}" if instance else "kws"
    folders = [f"{parent}/{name}" for parent in (runtime_parent(), MACHINE_PARENT)]
    return next((folder for folder in folders if os.access(f"{folder}/{STATUS}", os.F_OK)), folders[-1])


def ask(request: Message, folder: Folder, control: bool = False) -> Message:
    """The daemon's answer.

    Args:
        request: {"request": NAME, ...}.
        folder: of its sockets, see `find_runtime`.
        control: use the socket that may change something.

    Raises:
        KwsError: it does not run, does not answer, is of another version or refuses; or the user may not ask.
    """
    connection = _connect(request, folder, CONTROL if control else STATUS)
    connection.settimeout(TIMEOUT_S)
    with connection, connection.makefile("rb") as lines:
        try:
            answer = _next_line(lines)
        except TimeoutError:
            raise _stuck(folder) from None
    return _message(answer, folder)


def events(folder: Folder) -> Iterator[Message]:
    """Subscribe now, then yield each event as it happens.

    Raises:
        KwsError: as `ask`; while iterating, when the daemon has ended or this reader was too slow for it.
    """
    return _events(_connect({"request": "events"}, folder, STATUS), folder)


def _events(connection: socket.socket, folder: Folder) -> Iterator[Message]:
    with connection, connection.makefile("rb") as lines:
        while (text := _next_line(lines)).endswith(b"\n"):  # else it was cut off
            event = _message(text, folder)
            yield event
            if event.get("event") == "dropped":
                raise KwsError(f"kws sends no more events to this program: {event.get('reason')}")
    raise KwsError(f"kws has ended; look at its log: {_journal(folder)}")


def _connect(request: Message, folder: Folder, name: str) -> socket.socket:
    """A connection on which the request is out."""
    path = address(folder, name)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Python's own time limit would not wait at all for a daemon whose queue of connections is full.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, array("l", (TIMEOUT_S, 0)))
    try:
        connection.connect(path)
        connection.sendall(line(request))
    except (BrokenPipeError, ConnectionResetError):
        pass  # refused; the reason is there to be read
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        connection.close()
        raise KwsError(
            f"kws is not running (nobody answers in {folder}); "
            f"start it: sudo systemctl start {_unit(folder)}, or kws run"
        ) from None
    except PermissionError:
        connection.close()
        raise KwsError(
            f"you may not use {path}; join group audio (sudo usermod -aG audio $USER, then log in again), "
            "or use sudo"
        ) from None
    except BlockingIOError:
        connection.close()
        raise _stuck(folder) from None
    return connection


def _next_line(lines: BufferedReader) -> bytes:
    """Empty, or without its end, where the daemon is gone."""
    try:
        return lines.readline()
    except ConnectionResetError:
        return b""


def _message(text: bytes, folder: Folder) -> Message:
    try:
        message: Message = json.loads(text)
        version = message["version"]
    except (ValueError, TypeError, KeyError):
        raise KwsError(f"kws gave no answer; look at its log: {_journal(folder)}") from None
    if version != VERSION:
        raise KwsError(
            f"another version of kws is running (it speaks {version}, this one {VERSION}); "
            f"restart it: sudo systemctl restart {_unit(folder)}"
        )
    if "error" in message and "event" not in message:  # the event `config` has one of its own
        raise KwsError(str(message["error"]))
    return message


def _stuck(folder: Folder) -> KwsError:
    return KwsError(f"kws runs but does not answer; look at its log: {_journal(folder)}")


def _unit(folder: Folder) -> str:
    """The systemd unit whose runtime folder this is: kws-kitchen belongs to kws@kitchen."""
    name, dash, instance = str(folder).rpartition("/")[2].partition("-")
    return f"{name}@{instance}" if dash else name


def _journal(folder: Folder) -> str:
    return f"journalctl -u {_unit(folder)}"
