"""Setting up the service: everything that must happen, as a list of steps, before anything happens.

`kws service` prints the steps (`--dry-run`) or does them. The program that runs is a copy (`kws.program`)
behind a link, so that an upgrade switches in one moment; if it does not start, the old one is put back.
"""

import contextlib
import ctypes.util
import grp
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import kws
from kws import program
from kws.errors import ConfigError, KwsError
from kws.files import shipped, write_text

HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 - these the unit's sandbox hides
UNITS = ("kws.service", "kws@.service")
DROP_INS = ("network.conf", "led.conf")
"""What a user may ask for beyond the units."""


@dataclass(frozen=True)
class Step:
    """One thing to do, and how it is told."""

    text: str
    do: Callable[[], object]


@dataclass(frozen=True)
class Layout:
    """Where the pieces of a service belong."""

    program: Path
    """Link to the copy that runs; the copies lie beside it."""
    configs: Path
    units: Path
    states: tuple[Path, ...]
    """Where systemd keeps the state folders of services."""
    rules: Path | None = None
    """udev's rules; a user has none."""
    systemctl: tuple[str, ...] = ("systemctl", "--user")

    @property
    def is_system(self) -> bool:
        """Whether the service is the machine's, and not one user's."""
        return self.rules is not None

    def copies(self) -> list[Path]:
        """Copies of the program, the one that runs among them."""
        pattern = re.compile(rf"{re.escape(self.program.name)}-.+-\d{{10,}}")
        return sorted(path for path in self.program.parent.glob("*") if pattern.fullmatch(path.name))

    def instances(self) -> list[str]:
        """Names of the enabled instances: `kitchen` of kws@kitchen.service."""
        return sorted({link.stem.partition("@")[2] for link in self.units.glob("*.wants/kws@*.service")})

    def config(self, instance: str | None) -> Path:
        """The configuration of one service."""
        return self.configs / f"{instance or 'kws'}.yaml"


SYSTEM = Layout(
    program=Path("/opt/kws"),
    configs=Path("/etc/kws"),
    units=Path("/etc/systemd/system"),
    states=(Path("/var/lib"), Path("/var/lib/private")),
    rules=Path("/etc/udev/rules.d"),
    systemctl=("systemctl",),
)


def user_layout() -> Layout:
    """Of the user who runs this, by the XDG base directory specification."""
    home = Path.home()
    configs = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    states = Path(os.environ.get("XDG_STATE_HOME") or home / ".local" / "state")
    return Layout(
        program=home / ".local" / "share" / "kws" / "program",  # so it stands in the unit
        configs=configs / "kws",
        units=configs / "systemd" / "user",
        states=(states, configs),  # before systemd 254 a user's state lay among the configurations
    )


def command(*words: str) -> Step:
    """A step that runs a program; KwsError if it fails."""

    def do() -> None:
        if subprocess.run(words, check=False).returncode:
            raise KwsError(f"{shlex.join(words)} failed; find the reason in: journalctl -n 30")

    return Step(shlex.join(words), do)


def status_line(layout: Layout, instance: str | None) -> str:
    """What a service says of itself to systemd, e.g. "listening: USB microphone"."""
    query = [*layout.systemctl, "show", "--property=StatusText", "--value", _unit(instance)]
    return subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()


def check_instance(name: str | None) -> None:
    """Refuse a name that is no part of a unit's name; ConfigError."""
    if name is not None and (name == "kws" or not re.fullmatch(r"[A-Za-z0-9_-]+", name)):
        raise ConfigError(f"--instance {name!r} is no name; use letters, digits, - and _, e.g. kitchen")


def check(layout: Layout) -> None:
    """Refuse a program that the service could not run; KwsError says what to do instead."""
    if sys.maxsize < 2**32:
        raise KwsError(
            "ONNX Runtime has no 32-bit build; use a 64-bit system such as Raspberry Pi OS (64-bit)"
        )
    python = program.base_python()
    if layout.is_system and any(python.is_relative_to(folder) for folder in HIDDEN):
        raise KwsError(
            f"the service may not look into a home, where {python} is; install kws in an environment of the "
            "system's Python, made by: /usr/bin/python3 -m venv"
        )
    if ctypes.util.find_library("portaudio") is None:
        raise KwsError("PortAudio (the microphone) is missing; run: sudo apt install libportaudio2")


def check_led(layout: Layout) -> None:
    """Refuse rights to the pins that systemd could not give; KwsError says what to do instead."""
    if not layout.is_system:
        raise KwsError("a user's own service has the user's rights; run: sudo usermod -aG gpio $USER")
    if "gpio" not in {group.gr_name for group in grp.getgrall()}:
        raise KwsError("there is no group gpio that may use /dev/gpiochip*; make it, see docs/led.md")


def check_rights(layout: Layout) -> None:
    """Refuse to begin without root, or without a systemd that runs."""
    if layout.is_system and os.geteuid() != 0:
        raise KwsError(
            f"this needs root; run it by sudo: sudo {Path(sys.executable).with_name('kws')} service ..."
        )
    runtime = "/run" if layout.is_system else os.environ.get("XDG_RUNTIME_DIR", "")
    if not Path(runtime, "systemd").is_dir():
        whose = "" if layout.is_system else "of this user "
        raise KwsError(f"no systemd {whose}is running; start the daemon by hand: kws run --config FILE")


def install(layout: Layout, instance: str | None = None, drop_ins: Iterable[str] = ()) -> list[Step]:
    """Set up and start one service, with some of `DROP_INS`; those that run already get the new program."""
    config = layout.config(instance)
    steps = [_write(config, (shipped("configs") / "kws.yaml").read_text(encoding="utf-8"))]
    if config.exists():
        steps = [Step(f"keep {config}", lambda: None)]
    for name in drop_ins:
        text = (shipped("service") / name).read_text(encoding="utf-8")
        steps += [_write(folder / name, text) for folder in _drop_in_folders(layout)]
    return steps + _switch(layout, [_unit(instance)])


def upgrade(layout: Layout) -> list[Step]:
    """Give the services the program that runs this; configurations and state stay."""
    if not layout.program.is_symlink():
        raise KwsError(f"there is no {layout.program} to upgrade; run: kws service install")
    return _switch(layout, [])


def uninstall(layout: Layout, instance: str | None = None, is_purge: bool = False) -> list[Step]:
    """Stop and remove one instance, or without a name everything; a purge takes settings and state too."""
    instances = [instance] if instance else [None, *layout.instances()]
    steps = []
    if any((layout.units / unit).exists() for unit in UNITS):
        stop = [_unit(instance)] if instance else [_unit(None), _unit("*")]
        steps += [command(*layout.systemctl, "stop", *stop)]
        steps += [command(*layout.systemctl, "disable", *map(_unit, instances))]
    if not instance:
        rules = [layout.rules / rule.name for rule in _rules()] if layout.rules else []
        steps += _remove([*(layout.units / unit for unit in UNITS), *_our_drop_ins(layout), *rules])
        steps += [command(*layout.systemctl, "daemon-reload")]
    if is_purge:
        names = ["kws" if name is None else f"kws-{name}" for name in instances]
        settings = layout.config(instance) if instance else layout.configs
        states = [folder / name for folder in layout.states for name in names]
        steps += _remove(dict.fromkeys([settings, *states]))  # a user's may be one and the same
    if not instance:
        programs = [layout.program, *layout.copies()] if layout.is_system else [layout.program.parent]
        steps += _remove(programs)  # last: it may be the program that runs this
    return steps


def _switch(layout: Layout, start: list[str]) -> list[Step]:
    """Copy the program, put units and link in place, and let what runs, and what is to `start`, run it."""
    if layout.program.exists() and not layout.program.is_symlink():
        raise KwsError(f"{layout.program} is not a link that kws has made; move it away")
    old_copies, source = layout.copies(), shipped("service")
    folder = layout.program.with_name(f"{layout.program.name}-{kws.__version__}-{int(time.time())}")
    units = {layout.units / unit: source / ("." if layout.is_system else "user") / unit for unit in UNITS}
    rules = {layout.rules / rule.name: rule for rule in _rules()} if layout.rules else {}
    files = {path: shipped_file.read_text(encoding="utf-8") for path, shipped_file in (units | rules).items()}
    packages = ", ".join(f"{each.name} {each.version}" for each in program.distributions())
    renew = [command(*layout.systemctl, "daemon-reload")]
    if rules and Path("/run/udev/control").exists():
        renew += [command("udevadm", "control", "--reload"), command("udevadm", "trigger", "-s", "powercap")]
    running = _running(layout)
    begin = [command(*layout.systemctl, "restart", *running)] if running else []
    begin += [command(*layout.systemctl, "enable", "--now", unit) for unit in start]
    return [
        Step(f"copy to {folder}: {packages}", lambda: program.copy(folder)),
        *(_write(path, text) for path, text in files.items()),
        Step(f"link {layout.program} to {folder.name}", lambda: program.link(layout.program, folder)),
        *renew,
        *_or_back(begin, _way_back(layout, files), renew),
        *_remove(old_copies),
    ]


def _way_back(layout: Layout, files: Iterable[Path]) -> list[Step]:
    """What restores the program and the files that are installed now; nothing where none is."""
    if not layout.program.is_symlink():
        return []
    old = layout.program.resolve()
    texts = {path: path.read_text(encoding="utf-8") for path in files if path.exists()}
    return [
        Step(f"link {layout.program} to {old.name}", lambda: program.link(layout.program, old)),
        *(_write(path, text) for path, text in texts.items()),
    ]


def _or_back(begin: list[Step], way_back: list[Step], renew: list[Step]) -> list[Step]:
    """The steps `begin`; if one fails, the old program is put back and the services begin again with it."""

    def guarded(step: Step) -> Callable[[], object]:
        def do() -> None:
            try:
                step.do()
            except KwsError as error:
                if not way_back:
                    raise
                for back in [*way_back, *renew]:
                    back.do()
                for again in begin:
                    with contextlib.suppress(KwsError):  # it may have failed with the old program too
                        again.do()
                raise KwsError(f"{error}; until then the old program runs again") from error

        return do

    return [Step(step.text, guarded(step)) for step in begin]


def _unit(instance: str | None) -> str:
    return f"kws@{instance}.service" if instance else "kws.service"


def _running(layout: Layout) -> list[str]:
    """Our services that run. A stopped one shall stay so; one that fails tries the new program anyway."""
    states = "--state=active,reloading"
    query = [*layout.systemctl, "list-units", "--plain", "--no-legend", states, _unit(None), _unit("*")]
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    return [line.split()[0] for line in done.stdout.splitlines()]


def _drop_in_folders(layout: Layout) -> list[Path]:
    return [layout.units / f"{unit}.d" for unit in UNITS]


def _our_drop_ins(layout: Layout) -> list[Path]:
    """Those that are there; or their folder, unless it holds others too, which are somebody's own."""
    found = []
    for folder in filter(Path.is_dir, _drop_in_folders(layout)):
        ours = [folder / name for name in DROP_INS if (folder / name).exists()]
        found += [folder] if set(folder.iterdir()) == set(ours) else ours
    return found


def _rules() -> list[Path]:
    return sorted(shipped("service").glob("*.rules"))


def _write(path: Path, text: str) -> Step:
    def do() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)

    return Step(f"write {path}", do)


def _remove(paths: Iterable[Path]) -> list[Step]:
    """One step for each path that is there now."""

    def remove(path: Path) -> None:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    there = [path for path in paths if path.exists() or path.is_symlink()]
    return [Step(f"remove {path}", partial(remove, path)) for path in there]
