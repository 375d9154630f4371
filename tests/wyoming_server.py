"""The program `kws wyoming` as a user starts it, and what a client of it says and is told."""

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Self

import numpy as np
from conftest import program_environment
from wyoming.audio import AudioChunk
from wyoming.client import AsyncClient
from wyoming.event import Event
from wyoming.ping import Ping

RATE_HZ = 16_000
ANSWER_SECONDS = 20.0
"""Generous: test machines share their cores."""


class Serving:
    """`kws wyoming` on a free port or a socket, until the end of the `with` block."""

    def __init__(self, home: Path, *options: object, uri: str = "tcp://127.0.0.1:0") -> None:
        self.home, self.log = home, home / "wyoming.log"
        self.command = [sys.executable, "-m", "kws", "wyoming", "--uri", uri, *map(str, options)]
        self.uri = uri

    def __enter__(self) -> Self:
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                self.command, stderr=log, stdin=subprocess.DEVNULL, env=program_environment(self.home)
            )
        while not (found := re.search(r"serving at (\S+)", self.logged)):
            assert self.process.poll() is None, self.logged
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(0.02)
        self.uri = found[1]
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        assert self.process.wait(ANSWER_SECONDS) == 0, self.logged
        assert "Traceback" not in self.logged, self.logged

    @property
    def logged(self) -> str:
        return self.log.read_text()

    @property
    def port(self) -> int:
        return int(self.uri.rpartition(":")[2])

    @property
    def memory_mb(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1000

    @asynccontextmanager
    async def client(self) -> AsyncIterator[AsyncClient]:
        async with AsyncClient.from_uri(self.uri) as client:
            yield client


async def read(client: AsyncClient) -> Event | None:
    async with asyncio.timeout(ANSWER_SECONDS):
        return await client.read_event()


async def say(client: AsyncClient, *what: Any) -> None:
    """Send events, in the order given."""
    for each in what:
        await client.write_event(each.event())


async def told(client: AsyncClient) -> list[Event]:
    """Everything the client has been told because of what it said up to now."""
    await say(client, Ping("all"))
    events = []
    while (event := await read(client)) is not None and event.type != "pong":
        events.append(event)
    assert event is not None, "the server hung up"
    return events


def chunks(samples: np.ndarray, rate_hz: int = RATE_HZ, width: int = 2, channels: int = 1) -> Iterable[Any]:
    """Float mono samples as a client of that format sends them, 1024 at a time, with their own time."""
    for first in range(0, len(samples), 1024):
        part = np.clip(samples[first : first + 1024].astype(np.float64), -1, 1)
        yield AudioChunk(
            rate=rate_hz,
            width=width,
            channels=channels,
            audio=encoded(part, width, channels),
            timestamp=1000 * first // rate_hz,
        )


def encoded(samples: np.ndarray, width: int, channels: int) -> bytes:
    """Samples (-1..1) in the first channel, silence in the others."""
    codes = np.rint(samples * (2 ** (8 * width - 1) - 1)).astype("<i8")
    frames = np.zeros((len(codes), channels, width), np.uint8)
    frames[:, 0] = codes.view(np.uint8).reshape(-1, 8)[:, :width]
    if width == 1:  # the only unsigned one
        frames += 128
    return frames.tobytes()


def names(events: Iterable[Event]) -> list[str]:
    """Words detected, or the types of other events."""
    return [event.data["name"] if event.type == "detection" else event.type for event in events]
