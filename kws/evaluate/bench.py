"""What listening costs on this machine: CPU time, memory and start-up, measured as it is shipped.

CPU time, not wall time, so that waiting for a busy machine does not count. Audio is pushed through as fast as
it goes; a microphone that wakes the processor every 80 ms costs more, because caches are cold by then.
"""

import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import kws
from kws.audio import BLOCK_MS
from kws.errors import KwsError
from kws.evaluate.report import commit
from kws.gate import GateSettings
from kws.health import board_name
from kws.model import Model
from kws.pipeline import Pipeline

ROUNDS = 5
"""The audio is cut into this many rounds of each loop; the best round counts, others met interruptions."""
FRESH_STARTS = 3
"""Fresh processes; the one that needed least CPU counts."""
FRESH_SECONDS = 10
"""Audio that a fresh process hears before its memory is read."""

Chunks = list[NDArray[np.int16]]

# What `kws listen` does from its first import to its first score, without audio libraries.
_FRESH = f"""
import time
start = time.process_time()
import json, sys
import kws
import numpy as np
model = kws.load_model(sys.argv[1])
stream, detector = model.stream(), kws.Detector.for_model(model)
chunk = (np.arange({BLOCK_MS} * 16) * 7919 % 6000 - 3000).astype(np.int16)  # numpy.random is 5 MB
while not len(stream.feed(chunk)):
    pass
cold_s = time.process_time() - start
for _ in range({FRESH_SECONDS * 1000 // BLOCK_MS}):
    detector.feed(stream.feed(chunk))
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({{"cold_start_ms": 1000 * cold_s, "rss_mb": int(status["VmRSS"].split()[0]) / 1000}}))
"""


def bench(model: Model, seconds: int) -> dict[str, Any]:
    """Measure everything; `seconds` of audio go through each loop in all.

    Returns:
        Plain data. ``*_ms_per_s`` are CPU milliseconds per second of audio: each stage by itself, and
        ``total`` from a loop of its own, without clocks in between, ``gated`` is the same in a steady quiet
        room, where the gate stays closed. ``step_ms``: wall time of one chunk.
    """
    chunks = _chunks(model, seconds)
    whole, parts, steps_ms = [], [], []
    for first in range(ROUNDS):  # interleaved: a slow minute meets both loops
        some = chunks[first::ROUNDS]
        whole.append(_whole(model, some))
        part, step_ms = _parts(model, some)
        parts.append(part)
        steps_ms += step_ms
    features, network, detector = np.min(parts, axis=0).tolist()
    settings = model.manifest.features
    return {
        "model": model.manifest.name,
        "features_ms_per_s": features,
        "model_ms_per_s": network,
        "detector_ms_per_s": detector,
        "total_ms_per_s": min(whole),
        "gated_ms_per_s": _gated(model, seconds),
        "step_ms": {f"p{p}": float(np.percentile(steps_ms, p)) for p in (50, 95, 99)},
        **_fresh_start(model.folder),
        "chunk_ms": BLOCK_MS,
        "hop_ms": settings.hop_ms,
        "audio_seconds": seconds,
        "threads": 1,
        **environment(),
    }


def environment() -> dict[str, Any]:
    """What a figure of speed depends on: versions and machine."""
    return {
        "versions": {
            "kws": kws.__version__,
            "commit": commit(),
            "python": platform.python_version(),
            "numpy": np.__version__,
            "onnxruntime": version("onnxruntime"),
        },
        "machine": {"cpu": board_name(), "cores": os.cpu_count(), "system": platform.platform()},
    }


def _chunks(model: Model, seconds: int) -> Chunks:
    """Noise that swells and fades, int16, in chunks of a microphone."""
    rate_hz = model.manifest.features.sample_rate_hz
    count = rate_hz * BLOCK_MS // 1000
    rng = np.random.default_rng(0)
    levels = 10 ** rng.uniform(-3, -0.5, seconds * 1000 // BLOCK_MS)
    return [np.clip(32767 * k * rng.standard_normal(count), -32768, 32767).astype(np.int16) for k in levels]


def _whole(model: Model, chunks: Chunks) -> float:
    """CPU milliseconds per second of audio, everything between microphone and detection."""
    pipeline = Pipeline(model)
    start_ns = time.process_time_ns()
    for chunk in chunks:
        pipeline.feed(chunk)
    return _ms_per_s(time.process_time_ns() - start_ns, chunks)


def _gated(model: Model, seconds: int) -> float:
    """CPU milliseconds per second of a steady quiet room, behind a gate that has closed."""
    rate_hz, settings = model.manifest.features.sample_rate_hz, GateSettings()
    rng = np.random.default_rng(0)
    steps = max(seconds, ROUNDS) * 1000 // BLOCK_MS
    room = np.rint(33 * rng.standard_normal((steps, rate_hz * BLOCK_MS // 1000))).astype(np.int16)
    pipeline = Pipeline(model, gate=settings)
    while pipeline.gate is not None and pipeline.gate.is_open:
        pipeline.feed(room[rng.integers(steps)])
    spent = []
    for first in range(ROUNDS):
        some = list(room[first::ROUNDS])
        start_ns = time.process_time_ns()
        for chunk in some:
            pipeline.feed(chunk)
        spent.append(_ms_per_s(time.process_time_ns() - start_ns, some))
    return min(spent)


def _parts(model: Model, chunks: Chunks) -> tuple[list[float], list[float]]:
    """CPU ms per second of audio of features, network and detector; wall ms of each chunk."""
    pipeline = Pipeline(model)
    stream, detector = pipeline.stream, pipeline.detector
    clock = time.thread_time_ns
    spent_ns, steps_ms = [0, 0, 0], []
    for chunk in chunks:
        wall_ns, start_ns = time.perf_counter_ns(), clock()
        for frames in stream.features.blocks(chunk):
            after_features_ns = clock()
            codes = stream.network.step(frames)
            after_network_ns = clock()
            detector.feed(stream.smoother.feed(codes))
            end_ns = clock()
            spent_ns[0] += after_features_ns - start_ns
            spent_ns[1] += after_network_ns - after_features_ns
            spent_ns[2] += end_ns - after_network_ns
            start_ns = end_ns
        spent_ns[0] += clock() - start_ns
        steps_ms.append((time.perf_counter_ns() - wall_ns) / 1e6)
    return [_ms_per_s(ns, chunks) for ns in spent_ns], steps_ms


def _ms_per_s(spent_ns: int, chunks: Chunks) -> float:
    return spent_ns / 1e6 / (len(chunks) * BLOCK_MS / 1000)


def _fresh_start(folder: Path) -> dict[str, float]:
    """CPU from import to first score, and resident memory while listening, of fresh processes."""
    source = str(Path(kws.__file__).parent.parent)  # the child must find this kws, installed or not
    paths = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    starts = []
    for _ in range(FRESH_STARTS):
        command = [sys.executable, "-c", _FRESH, str(folder)]
        environment = os.environ | {"PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if done.returncode:
            raise KwsError(f"a fresh process failed: {done.stderr.strip()[-300:]}; try kws listen --debug")
        starts.append(json.loads(done.stdout))
    best: dict[str, float] = min(starts, key=lambda start: start["cold_start_ms"])
    return best
