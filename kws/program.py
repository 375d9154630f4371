"""The running program as files, and a copy of it that depends on no home folder and no checkout.

A copy is a virtual environment: the package, what it needs to listen (of the extras those of the daemon),
and the Python it runs now. It is made from what is installed here, without a package index or a network.
"""

import compileall
import importlib.metadata
import os
import re
import shutil
import sys
from importlib.metadata import Distribution, PackageNotFoundError
from pathlib import Path

from kws.errors import KwsError
from kws.files import shipped

PACKAGE = Path(__file__).parent
EXTRAS = ("led", "mqtt", "wyoming")
"""Copied as far as they are installed here: what the service may speak to belongs to it too."""
DATA = ("models", "service", "configs")
"""Folders of a checkout; `kws/_models` and so on in an installed package."""

_PROGRAM = """#!{python}
import sys
from kws.cli import main
sys.exit(main())
"""


def distributions() -> list[Distribution]:
    """The package, every package that it needs to listen, and those of `EXTRAS`, as installed here.

    KwsError when one is missing, or was installed without a list of its files.
    """
    found: dict[str, Distribution] = {}
    wanted = [PACKAGE.name]
    while wanted:
        requirement = wanted.pop()
        condition = requirement.partition(";")[2]
        name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
        extra = re.search(r"extra\s*==\s*['\"]([\w-]+)", condition)
        if (extra and extra[1] not in EXTRAS) or _key(name) in found:
            continue
        try:
            distribution = importlib.metadata.distribution(name)
        except PackageNotFoundError:
            if condition:  # of another system or Python, or pip would have installed it
                continue
            raise KwsError(f"{name} is not installed; run: pip install kws") from None
        if distribution.files is None:
            raise KwsError(
                f"{name} came without a list of its files; install kws by pip in a venv of its own"
            )
        found[_key(name)] = distribution
        wanted += distribution.requires or []
    return list(found.values())


def base_python() -> Path:
    """The interpreter itself, not the link to it in a virtual environment."""
    return Path(sys.executable).resolve()


def copy(folder: Path) -> None:
    """Make `folder`, which must not exist, a virtual environment with the program and `bin/python`.

    It holds no path to itself: it runs wherever it is moved, and by any link to it.
    """
    folder.mkdir(parents=True)
    try:
        library = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
        for name, source in _files().items():
            target = library / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            target.chmod(0o644)  # a home's files may be private, a service's must be readable
        python = base_python()
        (folder / "bin").mkdir()
        (folder / "bin" / "python").symlink_to(python)
        (folder / "pyvenv.cfg").write_text(
            f"home = {python.parent}\ninclude-system-site-packages = false\n", encoding="utf-8"
        )
        # Compiled now, as the service cannot write, and a small board would compile at every start.
        compileall.compile_dir(library, quiet=2)
    except BaseException:
        shutil.rmtree(folder)
        raise


def link(path: Path, folder: Path) -> None:
    """Make `path` a link to the copy `folder` beside it, at once: it is never missing."""
    program = folder / "bin" / "kws"
    program.write_text(_PROGRAM.format(python=path / "bin" / "python"), encoding="utf-8")
    program.chmod(0o755)
    os.sync()  # a power cut must not find the link, and the files still in memory
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(folder.name)
    new.replace(path)


def _files() -> dict[Path, Path]:
    """Every file of the program: its place in site-packages, and where it is now."""
    files = {}
    for distribution in distributions():
        for file in distribution.files or ():
            # Of ours only the metadata: an editable installation lists no modules. They follow below.
            is_wanted = _key(distribution.name) != PACKAGE.name or file.parts[0].endswith(".dist-info")
            is_inside = file.parts[0] not in ("..", "/")
            if is_wanted and is_inside and file.suffix != ".pyc":
                files[Path(file)] = Path(str(distribution.locate_file(file)))
    folders = {PACKAGE: Path(PACKAGE.name)}
    folders |= {shipped(name): Path(PACKAGE.name) / f"_{name}" for name in DATA}
    for folder, place in folders.items():
        for path in folder.rglob("*"):
            if path.is_file() and path.suffix != ".pyc":
                files[place / path.relative_to(folder)] = path
    return files


def _key(name: str) -> str:
    """One spelling of a package's name: PyYAML and pyyaml are the same."""
    return re.sub(r"[-_.]+", "-", name).lower()
