"""Listening is light and private: what a fresh interpreter loads, and that it opens no network socket."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import program_environment, run_python
from sockets import Running

HEAVY = ("torch", "onnx", "matplotlib", "rich", "pyroomacoustics", "kws.train")


def python(code, home, *arguments):
    done = run_python(code, home, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded(code, home, *arguments):
    """Modules in memory after `code`."""
    return set(python(f"{code}\nimport sys; print(*sys.modules, sep=chr(10))", home, *arguments).split())


LISTEN = """
import sys
from kws.cli import main
main(["listen", "--model", sys.argv[1], "--source", sys.argv[2]])
"""


def test_help_loads_none_of_the_libraries(tmp_path):
    modules = loaded("import kws, kws.cli; kws.cli._parser().format_help()", tmp_path)
    assert not modules & {"numpy", "onnxruntime", "yaml", "sounddevice", "soundfile", *HEAVY}


def test_listening_loads_no_training_code(tmp_path, toy_folder, notes_wav):
    modules = loaded(LISTEN, tmp_path, toy_folder, notes_wav)
    assert {"onnxruntime", "soundfile"} <= modules
    assert not modules & {"sounddevice", "soxr", *HEAVY}


@pytest.mark.parametrize("command", ["listen", "detect", "classify", "devices", "models"])
def test_runtime_command_loads_no_training_code(tmp_path, command):
    assert not loaded(f"import kws.commands.{command}", tmp_path) & set(HEAVY)


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_asking_for_the_status_loads_little(tmp_path, form):
    with Running(tmp_path / "kws", lambda *_: {"state": "listening"}) as running:
        code = f"""
import os
os.environ["XDG_RUNTIME_DIR"] = {str(running.folder.parent)!r}
from kws.cli import main
assert main(["status", *{form}]) == 0
"""
        modules = loaded(code, tmp_path)
    assert "kws.client" in modules
    slow = {
        "asyncio",
        "contextlib",
        "dataclasses",
        "importlib.metadata",
        "logging",
        "pathlib",
        "shutil",
        "struct",
        "subprocess",
        "traceback",
        "typing",
    }
    assert not modules & {"numpy", "onnxruntime", "yaml", "sounddevice", "soundfile", *slow, *HEAVY}


def test_public_names_are_there_and_lazy(tmp_path):
    code = "import kws, sys; assert 'numpy' not in sys.modules; print([getattr(kws, n) for n in dir(kws)])"
    assert "load_model" in python(code, tmp_path)
    assert "AttributeError" in python(
        "import kws\ntry: kws.nothing\nexcept Exception as e: print(repr(e))", tmp_path
    )


def test_listening_opens_no_network_socket(tmp_path, toy_folder, notes_wav):
    guard = """
import sys
def refuse(event, arguments):
    if event.startswith("socket."):
        raise SystemExit(f"network use: {event} {arguments}")
sys.addaudithook(refuse)
"""
    assert "low note" in python(guard + LISTEN, tmp_path, toy_folder, notes_wav)


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_kernel_sees_no_network_socket_while_listening(tmp_path, toy_folder, notes_wav):
    log = tmp_path / "strace.log"
    program = [
        sys.executable,
        "-m",
        "kws",
        "listen",
        "--model",
        toy_folder,
        "--source",
        notes_wav,
        "--realtime",
    ]
    done = subprocess.run(
        ["strace", "-f", "-qq", "-e", "trace=socket,connect", "-o", log, *program],
        capture_output=True,
        text=True,
        timeout=60,
        env=program_environment(tmp_path),
        check=False,
    )
    if "ptrace" in done.stderr or "PTRACE" in done.stderr:
        pytest.skip("tracing is not allowed here")
    assert (done.returncode, done.stderr) == (0, "")
    assert "AF_INET" not in log.read_text()
    # onnxruntime's telemetry would also have left a database in the home folder.
    assert not list(Path(tmp_path).rglob("*onnxruntime*"))
