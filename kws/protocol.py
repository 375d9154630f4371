"""What a daemon and its clients say to each other over a unix socket: one JSON object a line.

A client sends `{"version":1,"request":NAME,...}` and gets one line, `{"version":1,...}`, after which the
daemon closes. To `events` it gets a line for every event from then on. A request that fails is answered by
`{"version":1,"error":"one sentence with the next step"}`.
"""

import json
import math
import os

from kws.errors import KwsError

# As type checkers know it; `typing` and `pathlib` would be a fifth of the cost of `kws status`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Message = dict[str, Any]
    Folder = str | os.PathLike[str]
else:
    Message, Folder = dict, str

VERSION = 1
"""Of the requests, answers and events; a reader ignores keys that it does not know."""

STATUS, CONTROL = "status.sock", "control.sock"
"""Sockets in the runtime folder: who may read may ask for status and events; control is for a group."""

HEALTHY = ("listening", "muted")
"""States of a daemon in which nothing is wrong."""

REQUEST_BYTES_MAX = 4096
"""Longest request, its newline included."""

_ADDRESS_BYTES_MAX = 107  # of sockaddr_un's 108 the last is a zero


def runtime_parent() -> str:
    """Where the folders of the user's own daemons are; root's are those of the machine."""
    own = "/run" if os.geteuid() == 0 else f"/run/user/{os.geteuid()}"
    return os.environ.get("XDG_RUNTIME_DIR") or own


def address(folder: Folder, name: str) -> str:
    """Path of a socket; KwsError when it is longer than the kernel allows."""
    path = f"{folder}/{name}"
    if len(os.fsencode(path)) > _ADDRESS_BYTES_MAX:
        raise KwsError(
            f"{path} is too long for a socket (at most {_ADDRESS_BYTES_MAX} bytes); "
            "set RUNTIME_DIRECTORY or XDG_RUNTIME_DIR to a shorter folder"
        )
    return path


def line(message: Message) -> bytes:
    """A message as it travels; JSON knows no infinity, so such a number becomes null."""
    message = {"version": VERSION} | message
    try:
        text = json.dumps(message, separators=(",", ":"), allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(message), separators=(",", ":"), allow_nan=False)
    return text.encode() + b"\n"


def request_in(received: bytes) -> Message:
    """The request that a client's line holds; KwsError when it holds none."""
    try:
        request = json.loads(received, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise KwsError(f"this is not JSON ({error}); {_EXAMPLE}") from error
    if not isinstance(request, dict):
        raise KwsError(f"a request is a JSON object; {_EXAMPLE}")
    if request.get("version") != VERSION:
        raise KwsError(f"this kws speaks version {VERSION}, not {request.get('version')!r}; {_EXAMPLE}")
    if not isinstance(request.get("request"), str):
        raise KwsError(f"a request has a name; {_EXAMPLE}")
    return request


_EXAMPLE = 'send {"version":1,"request":"status"} and a newline'


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
