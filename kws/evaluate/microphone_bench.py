"""The whole daemon at a microphone: how soon it hears a word, and what it costs, at the pace of the world.

A real `kws run` listens to a virtual microphone. Half of the time that is a quiet room, half of the time
people speak; the ends of the keywords are known, so the delay from the end of a word to its event is
measured and not guessed. CPU time is the kernel's, of all threads. Another engine can listen to the same
microphone at once, so that both meet the same interruptions: compare by ratio.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import kws
from kws import client
from kws.audio import BLOCK_MS, read_audio
from kws.config import read_yaml
from kws.errors import KwsError, ModelError
from kws.evaluate.bench import environment
from kws.evaluate.span import word_span
from kws.evaluate.virtual_microphone import NAME, VirtualMicrophone
from kws.manifest import EXAMPLE_FILE
from kws.model import Model
from kws.pipeline import Pipeline, score_recording

QUIET_DBFS = -60.0
"""Level of the room."""
WARM_UP_SECONDS = 15.0
"""Before anything counts: the gate learns the room."""
LATE_SECONDS = 2.0
"""An event so long after the end of a word does not belong to it."""

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
                arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, env=environment
            )
        self._tasks, self._log = Path(f"/proc/{self._process.pid}/task"), log

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
    with tempfile.TemporaryDirectory(prefix="kws-") as name:
        folder = Path(name)
        (folder / "mic").mkdir()
        with VirtualMicrophone(folder / "mic", model.manifest.features.sample_rate_hz) as microphone:
            session = _Session(microphone, folder)
            try:
                session.start("kws", _daemon(folder, model, config))
                if peer is not None:
                    session.start("peer", [str(peer), "-c", _PEER])
                session.warm_up()
                session.stretch("quiet", seconds / 2, lambda: (session.room(2.0), []))
                session.stretch(
                    "speech", seconds / 2, lambda: (np.concatenate([speech, session.room(1.0)]), ends)
                )
                return session.report() | {"seconds": seconds}
            finally:
                session.end()


class _Session:
    """Programs that listen to one microphone, and what is known about them."""

    def __init__(self, microphone: VirtualMicrophone, folder: Path) -> None:
        self._microphone, self._folder, self._runtime = microphone, folder, folder / "run"
        self._environment = microphone.environment | {
            "RUNTIME_DIRECTORY": str(self._runtime),
            "STATE_DIRECTORY": str(folder / "state"),
            "PYTHONPATH": os.pathsep.join(
                filter(None, [str(Path(kws.__file__).parent.parent), os.environ.get("PYTHONPATH")])
            ),
        }
        self._programs: dict[str, Process] = {}
        self._memory_mb: dict[str, dict[str, float]] = {}
        self._threads: dict[str, dict[str, int]] = {}
        self._cpu_ms_per_s: dict[str, dict[str, float]] = {}
        self._spoken_s: list[float] = []
        self._heard_s: list[float] = []
        self._rng = np.random.default_rng(0)

    def start(self, name: str, arguments: list[str]) -> None:
        """Start a program that listens."""
        log = self._folder / f"{name}.log"
        self._programs[name] = Process(arguments, self._environment, log)

    def end(self) -> None:
        """End them all."""
        for program in self._programs.values():
            program.end()

    def room(self, seconds: float) -> Int16:
        """Faint noise."""
        count = round(seconds * self._microphone.sample_rate_hz)
        scale = 32768 * 10 ** (QUIET_DBFS / 20)
        return np.round(scale * self._rng.standard_normal(count)).astype(np.int16)

    def warm_up(self) -> None:
        """Until all of them listen and know the room."""
        feeder = threading.Thread(target=self._microphone.write, args=(self.room(WARM_UP_SECONDS),))
        feeder.start()
        try:
            self._wait()
            threading.Thread(target=self._follow, daemon=True).start()
        finally:
            feeder.join()
        for name, program in self._programs.items():
            self._memory_mb[name] = {"start": program.memory_mb()}
            self._threads[name] = {"start": program.threads()}

    def stretch(self, kind: str, seconds: float, make: Callable[[], tuple[Int16, list[int]]]) -> None:
        """Play what `make` gives, again and again: audio, and the samples where its keywords end."""
        rate_hz, played = self._microphone.sample_rate_hz, 0
        before_ns = {name: program.cpu_ns() for name, program in self._programs.items()}
        while played < seconds * rate_hz:
            audio, ends = make()
            first_s = self._microphone.write(audio)
            played += len(audio)
            self._spoken_s += [first_s + end / rate_hz for end in ends]
        for name, program in self._programs.items():
            spent_ms = (program.cpu_ns() - before_ns[name]) / 1e6
            self._cpu_ms_per_s.setdefault(name, {})[kind] = spent_ms / (played / rate_hz)

    def report(self) -> dict[str, Any]:
        """Everything that was measured; the microphone goes on until it is read."""
        self._microphone.write(self.room(LATE_SECONDS))
        for name, program in self._programs.items():
            self._memory_mb[name]["end"] = program.memory_mb()
            self._threads[name]["end"] = program.threads()
        status = client.ask({"request": "status"}, self._runtime)
        delays_ms = _delays_ms(self._spoken_s, self._heard_s)
        return {
            "model": status["model"]["name"],
            "block_ms": BLOCK_MS,
            "end_of_word_to_event_ms": {
                f"p{p}": float(np.percentile(delays_ms, p)) if delays_ms else None for p in (50, 95, 100)
            },
            "words": len(self._spoken_s),
            "missed": len(self._spoken_s) - len(delays_ms),
            "cpu_ms_per_s": self._cpu_ms_per_s,
            "cpu_ratio": _ratio(self._cpu_ms_per_s),
            "memory_mb": self._memory_mb,
            "threads": self._threads,
            "wakeups_per_s": status["cpu"]["wakeups_per_s"],
            "gate": status["gate"],
            "lost_ms": status["audio"]["lost_ms"],
            "latency_ms": status["latency_ms"]["since_start"],
            **environment(),
        }

    def _wait(self) -> None:
        """Until the daemon hears something."""
        end_s = time.monotonic() + WARM_UP_SECONDS
        while True:
            for program in self._programs.values():
                program.check()
            try:
                if client.ask({"request": "status"}, self._runtime)["audio"]["received_s"] > 0:
                    return
            except KwsError:  # not yet
                pass
            if time.monotonic() > end_s:
                raise KwsError("the daemon hears nothing from the virtual microphone; try again")
            time.sleep(0.1)

    def _follow(self) -> None:
        """Note when each detection arrives, until the daemon ends."""
        with contextlib.suppress(KwsError):
            for event in client.events(self._runtime):
                if event["event"] == "detection":
                    self._heard_s.append(time.monotonic())


def _daemon(folder: Path, model: Model, config: Path | None) -> list[str]:
    """The daemon's command line; its settings are written to the folder."""
    settings: dict[str, Any] = (read_yaml(config) if config else None) or {}
    settings["model"] = str(model.folder.resolve())
    settings["microphone"] = (settings.get("microphone") or {}) | {"device": NAME}
    path = folder / "kws.yaml"
    path.write_text(json.dumps(settings))  # which is YAML too
    return [sys.executable, "-m", "kws", "run", "--config", str(path)]


def _ratio(cpu_ms_per_s: dict[str, dict[str, float]]) -> dict[str, float] | None:
    if "peer" not in cpu_ms_per_s:
        return None
    return {kind: ours / cpu_ms_per_s["peer"][kind] for kind, ours in cpu_ms_per_s["kws"].items()}


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
