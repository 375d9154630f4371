"""How many remote microphones one core carries: clients that speak to `kws wyoming` as fast as time passes.

The server is the program as it is shipped, in a process of its own. Each client sends 64 ms at a time, as
satellites do, and a `ping` after it: the `pong` comes when these 64 ms have been heard, so the time from the
end of a chunk, as its microphone would have it, to its pong is what the network, the queue of other clients
and the model add.
"""

import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from kws.errors import KwsError
from kws.evaluate.bench import environment
from kws.model import Model
from kws.network.wyoming.settings import WyomingSettings, require

CHUNK_SAMPLES = 1024
"""What satellites send at a time."""
RATE_HZ = 16_000
WARM_UP_SECONDS = 2.0
"""Of what is sent before anything counts."""
_START_SECONDS = 30.0
_PING = b'{"type": "ping"}\n'


def bench_clients(model: Model, clients: int, seconds: int) -> dict[str, Any]:
    """Let `clients` speak at once for `seconds`.

    Returns:
        Plain data. ``cpu_ms_per_s``: of the server, per client and second of its audio, in which every moment
        holds sound, so that the gate never closes. ``latency_ms``: end of a chunk to its answer.

    Raises:
        MissingExtra: the package `wyoming` is not installed.
        KwsError: the server did not start, or let a client go.
    """
    require(WyomingSettings())
    with tempfile.TemporaryDirectory(prefix="kws-") as name:
        path = Path(name) / "socket"
        arguments = ["--uri", f"unix://{path}", "--model", str(model.folder), "--clients-max", str(clients)]
        with (Path(name) / "log").open("w+") as log:
            server = subprocess.Popen([sys.executable, "-m", "kws", "wyoming", *arguments], stderr=log)
            try:
                _wait_for(path, server, Path(log.name))
                found = asyncio.run(_crowd(path, server.pid, clients, seconds))
            except (OSError, asyncio.IncompleteReadError) as error:
                raise KwsError(f"the server let a client go ({error}); try fewer clients") from error
            finally:
                server.terminate()
                server.wait()
    return {"model": model.manifest.name, "clients": clients, "seconds": seconds, **found, **environment()}


def _wait_for(path: Path, server: "subprocess.Popen[bytes]", log: Path) -> None:
    end_s = time.monotonic() + _START_SECONDS
    while not path.is_socket() or "serving" not in log.read_text(encoding="utf-8"):
        if server.poll() is not None or time.monotonic() > end_s:
            said = log.read_text(encoding="utf-8").strip()[-300:]
            raise KwsError(f"the server did not start: {said}; try: kws wyoming --debug")
        time.sleep(0.05)


async def _crowd(path: Path, pid: int, clients: int, seconds: int) -> dict[str, Any]:
    sound = _sound()
    start_s = time.monotonic() + 1.0  # until all are connected
    chunk_s = CHUNK_SAMPLES / RATE_HZ
    count = round((seconds + WARM_UP_SECONDS) / chunk_s)
    tasks = [
        # They begin spread over a chunk, as independent microphones do.
        asyncio.create_task(_client(path, sound, start_s + chunk_s * i / clients, count))
        for i in range(clients)
    ]
    await asyncio.sleep(start_s + WARM_UP_SECONDS - time.monotonic())
    before_s = _cpu_s(pid)
    await asyncio.sleep(seconds)
    cpu_s, memory_mb = _cpu_s(pid) - before_s, _memory_mb(pid)
    skipped = round(WARM_UP_SECONDS / chunk_s)
    delays_ms = 1000 * np.concatenate([(await task)[skipped:] for task in tasks])
    cpu_ms_per_s = 1000 * cpu_s / seconds / clients
    return {
        "cpu_ms_per_s": cpu_ms_per_s,
        "core_share": cpu_s / seconds,
        "clients_per_core": int(1000 / cpu_ms_per_s),
        "latency_ms": {f"p{p}": float(np.percentile(delays_ms, p)) for p in (50, 95, 99, 100)},
        "memory_mb": memory_mb,
    }


async def _client(path: Path, sound: list[bytes], start_s: float, count: int) -> list[float]:
    """Seconds from the end of each chunk to its answer."""
    reader, writer = await asyncio.open_unix_connection(path)
    due_s = [start_s + (i + 1) * CHUNK_SAMPLES / RATE_HZ for i in range(count)]

    async def speak() -> None:
        for i, when_s in enumerate(due_s):
            await asyncio.sleep(when_s - time.monotonic())
            writer.write(sound[i % len(sound)])
            await writer.drain()

    speaking = asyncio.create_task(speak())
    delays_s: list[float] = []
    while len(delays_s) < count:
        header = json.loads(await reader.readuntil(b"\n"))
        await reader.readexactly(header.get("data_length") or 0)
        if header["type"] == "pong":
            delays_s.append(time.monotonic() - due_s[len(delays_s)])
    await speaking
    writer.close()
    return delays_s


def _sound() -> list[bytes]:
    """Ten seconds of noise that swells and fades, as events, a ping behind each."""
    rng = np.random.default_rng(0)
    header = {"type": "audio-chunk", "data": {"rate": RATE_HZ, "width": 2, "channels": 1}}
    events = []
    for level in 10 ** rng.uniform(-3, -0.5, 10 * RATE_HZ // CHUNK_SAMPLES):
        wave = np.clip(32767 * level * rng.standard_normal(CHUNK_SAMPLES), -32768, 32767).astype("<i2")
        line = json.dumps(header | {"payload_length": wave.nbytes}).encode()
        events.append(line + b"\n" + wave.tobytes() + _PING)
    return events


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1000
