"""Fixtures that most tests share: the toy model, audio that it hears, and the program as a user runs it."""

import os
import re
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import toy
from hypothesis import settings
from numpy.typing import NDArray

import kws
from kws.model import Model, load_model

RATE_HZ = 16_000
# The package wyoming imports audioop until Python 3.13.
WARNINGS = "error,ignore::DeprecationWarning:wyoming.audio"
ROOT = Path(__file__).parent.parent
NO_INDEX = re.compile(r"No matching distribution|Could not find a version|Failed to establish|Connection")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch: tiny tensors lose more than they gain by threads

# A test machine shares its cores: time limits would fail for reasons that are not in the code.
settings.register_profile("kws", deadline=None, max_examples=50)
settings.load_profile("kws")


def noise_band(low_hz: float, high_hz: float, seconds: float, seed: int = 0) -> NDArray[np.float32]:
    """Noise between two frequencies, peak 0.3."""
    count = round(seconds * RATE_HZ)
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(count))
    hz = np.fft.rfftfreq(count, 1 / RATE_HZ)
    spectrum[(hz < low_hz) | (hz > high_hz)] = 0
    wave = np.fft.irfft(spectrum, count)
    return (0.3 * wave / np.abs(wave).max()).astype(np.float32)


def quiet(seconds: float, seed: int = 0) -> NDArray[np.float32]:
    """Faint noise, about -60 dB of full scale."""
    count = round(seconds * RATE_HZ)
    return (1e-3 * np.random.default_rng(seed).standard_normal(count)).astype(np.float32)


@pytest.fixture(scope="session")
def notes() -> NDArray[np.float32]:
    """Four seconds of faint noise, with a low note from 1.0 to 1.5 s and a high note from 2.5 to 3.0 s."""
    low, high = noise_band(100, 1600, 0.5), noise_band(2200, 7500, 0.5)
    return np.concatenate([quiet(1), low, quiet(1, 1), high, quiet(1, 2)])


@pytest.fixture(scope="session")
def notes_wav(notes: NDArray[np.float32], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("audio") / "notes.wav"
    soundfile.write(path, notes, RATE_HZ)
    return path


@pytest.fixture(scope="session")
def toy_folder() -> Path:
    return toy.FOLDER


@pytest.fixture(scope="session")
def toy_model(toy_folder: Path) -> Model:
    return load_model(toy_folder)


@pytest.fixture
def run_kws(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`kws` with these arguments in a process of its own, whose home and working directory are empty."""

    def run(*arguments: object, stdin: bytes = b"", **environment: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "kws", *map(str, arguments)],
            input=stdin,
            capture_output=True,
            timeout=60,
            check=False,
            cwd=tmp_path,
            env=program_environment(tmp_path) | environment,
        )
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )

    return run


def program_environment(home: Path) -> dict[str, str]:
    """Environment for a subprocess: this kws, a home of its own, no debugging left on."""
    source = str(Path(kws.__file__).parent.parent)
    keep = {k: v for k, v in os.environ.items() if k != "KWS_DEBUG"}
    return keep | {"HOME": str(home), "PYTHONPATH": source, "PYTHONWARNINGS": WARNINGS}


def run_python(
    code: str, home: Path, *arguments: object, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a few lines in a fresh interpreter."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=program_environment(home) | environment,
    )


def until(condition: Callable[[], bool], within_s: float = 10) -> None:
    """Wait for it."""
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and only waits to be asked does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def pip(python: Path | str, *arguments: object) -> None:
    """Run pip; without a package index the test is skipped, except where CI must not be fooled."""
    done = subprocess.run(
        [python, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode and NO_INDEX.search(done.stderr) and not os.environ.get("CI"):
        pytest.skip("pip reaches no package index")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    pip(sys.executable, "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT)
    (path,) = folder.glob("kws-*.whl")
    return path


@pytest.fixture(scope="session")
def program(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `kws` of a clean environment that holds the wheel and what it depends on."""
    home = tmp_path_factory.mktemp("clean") / "venv"
    venv.create(home, with_pip=True)
    pip(home / "bin" / "python", "install", "--quiet", wheel)
    return home / "bin" / "kws"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs root and the right to mount")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder in which nothing can be written, not even by root where root may mount."""
    place = tmp_path / "read-only"
    place.mkdir(mode=0o500)
    if os.geteuid():
        yield place
        return
    mount = ["mount", "-t", "tmpfs", "-o", "ro,size=64k", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("root writes everywhere, and may not mount here")
    yield place
    subprocess.run(["umount", str(place)], check=True)
