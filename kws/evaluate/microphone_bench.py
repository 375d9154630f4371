"""The whole daemon at a microphone: how soon it hears a word, and what it costs, at the pace of the world.

A real `kws run` listens to a virtual microphone. Half of the time that is a quiet room, half of the time people
speak; the ends of the keywords are known, so the delay from the end of a word to its event is measured, not
guessed. CPU time is the kernel's, of all threads. Another engine can listen to the same microphone at the same
time, so that both meet the same interruptions: compare by ratio.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

import kws
from kws import client
from kws.audio import BLOCK_MS, read_audio
from kws.errors import KwsError, ModelError
from kws.evaluate.bench import environment
from kws.evaluate.span import word_span
from kws.evaluate.virtual_microphone import NAME, VirtualMicrophone
from kws.model import Model
from kws.pipeline import Pipeline, score_recording

EXAMPLE_FILE = "example.flac"
QUIET_DBFS = -60.0
"""Level of the room."""
WARM_UP_SECONDS = 15.0
"""Before anything counts: the gate learns the room."""
LATE_SECONDS = 2.0
"""An event so long after the end of a word does not belong to it."""

_READ_SECONDS = 10.0  # for the daemon to start
_WORD_SECONDS = (1.3, 0.4)  # before and after a detection, where its word must be

Int16 = NDArray[np.int16]

# The peer reads the same blocks in the same way, and scores them as its documentation shows.
_PEER = f"""
import sys
import sounddevice
from pymicro_wakeword import MicroWakeWord, MicroWakeWordFeatures, Model
word, features = MicroWakeWord.from_builtin(Model.ALEXA), MicroWakeWordFeatures()
stream = sounddevice.RawInputStream(16000, device="{NAME}", channels=1, dtype="int16", latency="high")
stream.start()
print("ready", flush=True)
while True:
    data, _ = stream.read({BLOCK_MS} * 16)
    for frame in features.process_streaming(bytes(data)):
        word.process_streaming(frame)
"""


class Process:
    """A program that listens, and what the kernel says about it."""

    def __init__(self, arguments: list[str], environment: dict[str, str], log: Path) -> None:
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, env=environment
            )
        self._tasks, self._log = Path(f"/proc/{self._process.pid}/task"), log

    def first_line(self) -> bytes:
        """What it prints first; blocks until then."""
        assert self._process.stdout
        return self._process.stdout.readline()

    def cpu_ns(self) -> int:
        """CPU time of all its threads."""
        self.check()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in self._tasks.iterdir())

    def memory_mb(self) -> float:
        """Resident memory."""
        status = (self._tasks.parent / "status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024 / 1e6

    def threads(self) -> int:
        """How many it has now."""
        return len(list(self._tasks.iterdir()))

    def check(self) -> None:
        """KwsError when it has ended."""
        if self._process.poll() is not None:
            lines = self._log.read_text(errors="replace").strip().splitlines()
            raise KwsError(
                f"the program has ended ({lines[-1] if lines else 'without a word'}); run it by itself"
            )

    def end(self) -> None:
        """SIGTERM, and wait."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout
        self._process.stdout.close()


def bench_microphone(
    model: Model, seconds: int, peer: Path | None = None, config: Path | None = None
) -> dict[str, Any]:
    """Run it for so many seconds and measure.

    Args:
        model: Its folder must hold an example recording of its keywords.
        seconds: Of audio; an hour is a soak test.
        peer: Python interpreter with pymicro-wakeword and sounddevice, which listens too.
        config: Of the daemon; its microphone and model are replaced. Default: the defaults.

    Raises:
        ModelError: there is no example.
        KwsError: PulseAudio is not installed, or a program ends early.
    """
    speech, ends = _speech(model)
    rate_hz = model.manifest.features.sample_rate_hz
    with tempfile.TemporaryDirectory(prefix="kws-") as name:
        folder = Path(name)
        (folder / "mic").mkdir()
        with VirtualMicrophone(folder / "mic", rate_hz) as microphone:
            environment = microphone.environment | {
                "RUNTIME_DIRECTORY": str(folder / "run"),
                "STATE_DIRECTORY": str(folder / "state"),
                "PYTHONPATH": os.pathsep.join(
                    filter(None, [str(Path(kws.__file__).parent.parent), os.environ.get("PYTHONPATH")])
                ),
            }
            daemon = Process(_program(folder, model, config), environment, folder / "daemon.log")
            programs = {"kws": daemon}
            try:
                if peer is not None:
                    programs["peer"] = Process([str(peer), "-c", _PEER], environment, folder / "peer.log")
                return _measure(folder / "run", microphone, programs, speech, ends, seconds)
            finally:
                for program in programs.values():
                    program.end()


def _measure(
    runtime: Path,
    microphone: VirtualMicrophone,
    programs: dict[str, Process],
    speech: Int16,
    ends: list[int],
    seconds: int,
) -> dict[str, Any]:
    rate_hz = microphone.sample_rate_hz
    heard: list[tuple[float, str]] = []
    room = _room(rate_hz)
    feeder = threading.Thread(
        target=lambda: [microphone.write(room(1.0)) for _ in range(int(WARM_UP_SECONDS))]
    )
    feeder.start()
    _wait_for_daemon(runtime, programs["kws"])
    threading.Thread(target=_listen, args=(runtime, heard), daemon=True).start()
    feeder.join()
    start = {name: (program.memory_mb(), program.threads()) for name, program in programs.items()}
    cpu_ms_per_s: dict[str, dict[str, float]] = {}
    spoken: list[float] = []

    def stretch(kind: str, length_s: float) -> None:
        before, samples = {name: program.cpu_ns() for name, program in programs.items()}, 0
        while samples < length_s * rate_hz:
            block = room(2.0) if kind == "quiet" else np.concatenate([speech, room(1.0)])
            first_s = microphone.write(block)
            samples += len(block)
            if kind == "speech":
                spoken.extend(first_s + end / rate_hz for end in ends)
        for name, program in programs.items():
            spent_ms = (program.cpu_ns() - before[name]) / 1e6
            cpu_ms_per_s.setdefault(name, {})[kind] = spent_ms / (samples / rate_hz)

    stretch("quiet", seconds / 2)
    stretch("speech", seconds / 2)
    microphone.write(room(LATE_SECONDS))
    status = client.ask({"request": "status"}, runtime)
    delays_ms = sorted(_delays_ms(spoken, [at_s for at_s, _ in heard]))
    return {
        "model": status["model"]["name"],
        "seconds": seconds,
        "block_ms": BLOCK_MS,
        "end_of_word_to_event_ms": {
            f"p{p}": float(np.percentile(delays_ms, p)) if delays_ms else None for p in (50, 95, 100)
        },
        "words": len(spoken),
        "missed": len(spoken) - len(delays_ms),
        "cpu_ms_per_s": cpu_ms_per_s,
        "cpu_ratio": _ratio(cpu_ms_per_s),
        "memory_mb": {name: {"start": start[name][0], "end": p.memory_mb()} for name, p in programs.items()},
        "threads": {name: {"start": start[name][1], "end": p.threads()} for name, p in programs.items()},
        "wakeups_per_s": status["cpu"]["wakeups_per_s"],
        "gate": status["gate"],
        "lost_ms": status["audio"]["lost_ms"],
        "latency_ms": status["latency_ms"]["since_start"],
        **environment(),
    }


def _ratio(cpu_ms_per_s: dict[str, dict[str, float]]) -> dict[str, float] | None:
    if "peer" not in cpu_ms_per_s:
        return None
    return {kind: ours / cpu_ms_per_s["peer"][kind] for kind, ours in cpu_ms_per_s["kws"].items()}


def _program(folder: Path, model: Model, config: Path | None) -> list[str]:
    settings: dict[str, Any] = (yaml.safe_load(config.read_text()) if config else None) or {}
    settings["model"] = str(model.folder.resolve())
    settings["microphone"] = (settings.get("microphone") or {}) | {"device": NAME}
    (folder / "kws.yaml").write_text(json.dumps(settings))
    return [sys.executable, "-m", "kws", "run", "--config", str(folder / "kws.yaml")]


def _wait_for_daemon(runtime: Path, daemon: Process) -> None:
    end_s = time.monotonic() + _READ_SECONDS
    while True:
        daemon.check()
        try:
            if client.ask({"request": "status"}, runtime)["audio"]["received_s"] > 0:
                return
        except KwsError:
            pass
        if time.monotonic() > end_s:
            raise KwsError("the daemon hears nothing from the virtual microphone; run it by itself")
        time.sleep(0.1)


def _listen(runtime: Path, heard: list[tuple[float, str]]) -> None:
    """Note when each detection arrives, until the daemon ends."""
    try:
        for event in client.events(runtime):
            if event["event"] == "detection":
                heard.append((time.monotonic(), event["keyword"]))
    except KwsError:
        return


def _delays_ms(spoken: list[float], heard: list[float]) -> list[float]:
    """From each word's end to the first event near it; words without one are left out.

    A detection may come before the end: the last sound of a word is not always waited for.
    """
    found = []
    for end_s in spoken:
        near = [at_s - end_s for at_s in heard if -1 < at_s - end_s < LATE_SECONDS]
        if near:
            found.append(1000 * near[0])
    return found


def _speech(model: Model) -> tuple[Int16, list[int]]:
    """The example recording, and the samples where its keywords end."""
    path, rate_hz = model.folder / EXAMPLE_FILE, model.manifest.features.sample_rate_hz
    if not path.is_file():
        raise ModelError(f"{model.folder} has no {EXAMPLE_FILE} to play; choose another model")
    samples = read_audio(path, rate_hz)
    _, detections, _ = score_recording(Pipeline(model), [samples])
    before, after = (round(seconds * rate_hz) for seconds in _WORD_SECONDS)
    ends = []
    for detection in detections:
        first = max(0, detection.sample - before)
        ends.append(first + word_span(samples[first : detection.sample + after], rate_hz)[1])
    return np.round(32767 * samples).astype(np.int16), ends


def _room(rate_hz: int) -> Any:
    """Makes seconds of faint noise."""
    rng = np.random.default_rng(0)
    scale = 32768 * 10 ** (QUIET_DBFS / 20)
    return lambda seconds: np.round(scale * rng.standard_normal(round(seconds * rate_hz))).astype(np.int16)
