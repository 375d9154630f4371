"""The installed wheel, in an environment of its own: it listens, and training is neither there nor missed."""

import os
import re
import subprocess
import tomllib
import zipfile
from pathlib import Path

import pytest

from kws.errors import MissingExtra

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "models" / "default" / "example.flac"
HAS_MODEL = (EXAMPLE.parent / "manifest.yaml").is_file()


def run(program: Path, home: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "KWS", "VIRTUAL_ENV"))}
    return subprocess.run(
        [program, *map(str, arguments)],
        cwd=home,
        env=environment | {"HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_wheel_holds_the_program_the_models_and_the_licence(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"kws/py.typed", "kws/cli.py", "kws/_models/default/example.flac"} <= names
    assert ("kws/_models/default/model.onnx" in names) == HAS_MODEL
    assert {"kws/_service/kws.service", "kws/_service/user/kws.service", "kws/_configs/kws.yaml"} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tests/", "models/", "configs/"))]


def test_installed_program_knows_its_version(program: Path, tmp_path: Path) -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        version = tomllib.load(file)["project"]["version"]
    done = run(program, tmp_path, "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"kws {version}\n", "")


def test_installed_program_listens(program: Path, tmp_path: Path, toy_folder: Path, notes_wav: Path) -> None:
    done = run(program, tmp_path, "listen", "--model", toy_folder, "--source", notes_wav)
    assert (done.returncode, done.stderr) == (0, "")
    assert [re.split(r"\s{2,}", line.strip())[1] for line in done.stdout.splitlines()] == [
        "low note",
        "high note",
    ]


@pytest.mark.skipif(not HAS_MODEL, reason="the shipped model is not there yet")
def test_installed_program_hears_the_shipped_model_s_words(program: Path, tmp_path: Path) -> None:
    done = run(program, tmp_path, "listen", "--source", EXAMPLE)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[2] for line in done.stdout.splitlines()] == ["alexa", "computer", "jarvis"]


def test_copy_of_the_program_runs_without_it(program: Path, tmp_path: Path) -> None:
    code = """if True:
        from pathlib import Path
        from kws import program
        first, second = Path("kws-1").absolute(), Path("kws-2").absolute()
        program.copy(first)
        program.link(Path("kws").absolute(), first)
        first.rename(second)
        program.link(Path("kws").absolute(), second)
    """
    done = run(program.with_name("python"), tmp_path, "-c", code)
    assert (done.returncode, done.stderr) == (0, "")
    copied = tmp_path / "kws" / "bin" / "kws"
    done = run(copied, tmp_path, "listen", "--source", EXAMPLE)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 3
    code = "import sys, kws, importlib.util as u; print(kws.__file__, sys.path[1:], bool(u.find_spec('pip')))"
    done = run(copied.with_name("python"), tmp_path, "-c", code)
    assert str(program.parent.parent) not in done.stdout
    assert done.stdout.endswith(" False\n")  # what is needed to listen, and nothing else
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in (tmp_path / "kws-2").rglob("*"))


def test_training_is_an_extra(program: Path, tmp_path: Path) -> None:
    code = "import importlib.util as u; print([m for m in ('torch', 'onnx', 'matplotlib') if u.find_spec(m)])"
    done = run(program.with_name("python"), tmp_path, "-c", code)
    assert done.stdout == "[]\n"
    config = ROOT / "configs" / "train" / "default.yaml"
    done = run(program, tmp_path, "train", config)
    assert done.returncode == MissingExtra.exit_code
    assert "pip install 'kws[train]'" in done.stderr
    assert done.stderr.count("\n") == 1
