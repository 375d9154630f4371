"""A remote microphone in earnest: wyoming-satellite listens, and `kws wyoming` tells it when to speak up.

Opt-in, as its old dependencies need an environment of their own (docs/wyoming.md): KWS_TEST_SATELLITE names
the Python of one.
"""

import asyncio
import contextlib
import os
import shlex
import socket
import subprocess
import sys

import pytest
import soundfile
from conftest import ROOT
from wyoming.client import AsyncClient
from wyoming.event import Event
from wyoming_server import ANSWER_SECONDS, Serving

SATELLITE = os.environ.get("KWS_TEST_SATELLITE")
SAID = {"run-pipeline", "audio-chunk"}
EXAMPLE = ROOT / "models" / "default" / "example.flac"

pytestmark = pytest.mark.skipif(
    SATELLITE is None, reason="KWS_TEST_SATELLITE names no Python with wyoming-satellite"
)

# What arecord would write: the file at the pace of time, then silence.
MICROPHONE = """
import itertools, sys, time
audio = open(sys.argv[1], "rb").read()
parts = (audio[i : i + 2048].ljust(2048, b"\\0") for i in range(0, len(audio), 2048))
for part in itertools.chain(parts, itertools.repeat(bytes(2048))):
    sys.stdout.buffer.write(part)
    sys.stdout.buffer.flush()
    time.sleep(0.064)
"""


def test_satellite_wakes_and_streams(tmp_path):
    audio, rate_hz = soundfile.read(EXAMPLE, dtype="int16")
    assert rate_hz == 16_000
    (tmp_path / "audio").write_bytes(audio.tobytes())
    (tmp_path / "microphone.py").write_text(MICROPHONE)
    microphone = shlex.join([sys.executable, str(tmp_path / "microphone.py"), str(tmp_path / "audio")])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        uri = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    with Serving(tmp_path, "--model", "default") as server, (tmp_path / "log").open("w") as log:
        command = [SATELLITE, "-m", "wyoming_satellite", "--uri", uri, "--name", "test", "--no-zeroconf"]
        command += ["--mic-command", microphone, "--wake-uri", server.uri, "--wake-word-name", "alexa"]
        satellite = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            said = asyncio.run(as_home_assistant(uri))
        finally:
            satellite.terminate()
            satellite.wait(10)
    assert said.keys() >= SAID, (said, (tmp_path / "log").read_text())
    assert said["run-pipeline"]["start_stage"] == "asr"
    assert (said["audio-chunk"]["rate"], said["audio-chunk"]["width"]) == (16_000, 2)


async def as_home_assistant(uri):
    """Let the satellite run; the first event of each type that it sends, until all of SAID have come."""
    said = {}
    async with asyncio.timeout(ANSWER_SECONDS), await connected(uri) as client:
        await client.write_event(Event("run-satellite"))
        while not said.keys() >= SAID and (event := await client.read_event()) is not None:
            said.setdefault(event.type, event.data)
    return said


async def connected(uri):
    while True:
        client = AsyncClient.from_uri(uri)
        with contextlib.suppress(OSError):
            await client.connect()
            await client.disconnect()
            return client
        await asyncio.sleep(0.1)
