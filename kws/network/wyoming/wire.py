"""Events on the wire, read within limits: whoever connects may send anything.

An event is a line of JSON, then `data_length` bytes of more JSON, then `payload_length` bytes of audio. The
reader of the package `wyoming` takes lengths as they come, so a client could make it hold gigabytes.
"""

import asyncio
import json
from typing import Any

from wyoming.event import Event, async_write_event

HEADER_BYTES_MAX = 64 * 1024
"""Of the first line; the buffer of a connection holds twice as much before its sender must wait."""
DATA_BYTES_MAX = 64 * 1024
PAYLOAD_BYTES_MAX = 256 * 1024
"""8 s of 16 kHz 16-bit mono, 0.7 s of 48 kHz 32-bit stereo; clients send 64 ms at a time."""

EVENT_SECONDS = 10.0
"""For the rest of an event whose header has arrived."""
WRITE_SECONDS = 10.0
"""For a client to read what it is told."""

_SHOWN_CHARACTERS = 60


class BadEvent(Exception):
    """What a client sent cannot be understood; the connection is of no more use."""


async def read_event(reader: asyncio.StreamReader) -> Event | None:
    """The next event; None when the client has gone, also in the middle of one.

    The limit of `reader` must be `HEADER_BYTES_MAX`.

    Raises:
        BadEvent: it is malformed or too large.
        TimeoutError: its header came, and the rest did not.
    """
    try:
        line = await reader.readline()
    except ValueError:  # longer than the reader's limit
        raise BadEvent(f"a header has at most {HEADER_BYTES_MAX} bytes") from None
    if not line.endswith(b"\n"):
        return None
    header = _object(line, "the header")
    kind = header.get("type")
    if not isinstance(kind, str):
        raise BadEvent("the header names no type")
    data_bytes = _length(header, "data_length", DATA_BYTES_MAX)
    payload_bytes = _length(header, "payload_length", PAYLOAD_BYTES_MAX)
    data = header.get("data") or {}
    if not isinstance(data, dict):
        raise BadEvent("data is no object")
    try:
        async with asyncio.timeout(EVENT_SECONDS):
            if data_bytes:
                data |= _object(await reader.readexactly(data_bytes), "data")
            payload = await reader.readexactly(payload_bytes) if payload_bytes else None
    except asyncio.IncompleteReadError:
        return None
    return Event(kind, data, payload)


async def write_event(event: Event, writer: asyncio.StreamWriter) -> None:
    """Send an event; TimeoutError when the client does not read, ConnectionError when it has gone."""
    async with asyncio.timeout(WRITE_SECONDS):
        await async_write_event(event, writer)


def shown(value: object) -> str:
    """What a client sent, fit for a log: one short line without control characters."""
    text = ascii(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def _object(text: bytes, what: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise BadEvent(f"{what} is not JSON") from None
    if not isinstance(found, dict):
        raise BadEvent(f"{what} is no JSON object")
    return found


def _length(header: dict[str, Any], name: str, most: int) -> int:
    length = header.get(name)
    if length is None:
        return 0
    if not isinstance(length, int) or isinstance(length, bool) or not 0 <= length <= most:
        raise BadEvent(f"{name} must lie in 0..{most}, not {shown(length)}")
    return length
