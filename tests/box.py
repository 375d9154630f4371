"""A small Debian with a systemd of its own, in a container: where the service is installed in earnest."""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kws.files import cache_folder

SUITES = {(3, 11): "bookworm", (3, 13): "trixie"}
"""Debian's release by its Python, which must be ours: compiled packages are shared."""

PACKAGES = (
    "systemd systemd-sysv dbus dbus-user-session libpam-systemd procps python3 strace "
    "libportaudio2 libasound2-plugins pulseaudio pulseaudio-utils pipewire pipewire-pulse wireplumber"
)

# The microphone of the machine: a sound server as a service; stopping it is pulling the plug.
MICROPHONE = """
[Service]
Type=notify
NotifyAccess=all
RuntimeDirectory=fakemic
RuntimeDirectoryMode=0755
Environment=XDG_RUNTIME_DIR=/run/fakemic HOME=/run/fakemic
ExecStart=/usr/bin/pulseaudio -n --daemonize=no --exit-idle-time=-1 --log-target=stderr \\
  -L "module-native-protocol-unix auth-anonymous=1 socket=/run/fakemic/native" \\
  -L "module-null-sink sink_name=kwsmic rate=48000 channels=2 format=s16le norewinds=1"
"""

# "desk" is the microphone of the user pi, on the PipeWire of his desktop.
ALSA_CONFIGURATION = """
pcm.desk {
  type pulse
  device "desk.monitor"
  hint {
    show on
    description "kws virtual microphone of a desktop"
  }
}
pcm.kwsmic {
  type pulse
  device "kwsmic.monitor"
  server "unix:/run/fakemic/native"
  hint {
    show on
    description "kws virtual microphone"
  }
}
"""


class Box:
    """A booted container; files of the host are read-only under /host."""

    def __init__(self, leader: int) -> None:
        self._enter = ["nsenter", "-t", str(leader), "-m", "-u", "-i", "-n", "-p", "-C", "--", "env", "-i"]

    def try_run(
        self, *command: object, user: str = "root", seconds: float = 60, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in the container, as root or as pi; its result, whatever that is."""
        return subprocess.run(
            self._inside(command, user),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def start(self, *command: object) -> subprocess.Popen[bytes]:
        """Run a program meanwhile."""
        return subprocess.Popen(self._inside(command, "root"))

    def _inside(self, command: tuple[object, ...], user: str) -> list[str]:
        home = "/root" if user == "root" else f"/home/{user}"
        environment = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", f"HOME={home}"]
        if user != "root":
            environment += ["XDG_RUNTIME_DIR=/run/user/1000", "runuser", "-u", user, "--"]
        return [*self._enter, *environment, *map(str, command)]

    def run(self, *command: object, **options) -> str:
        """The output of a program that must succeed."""
        done = self.try_run(*command, **options)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def write(self, path: str, text: str) -> None:
        """Make a file, and its folder."""
        self.run("sh", "-c", f"mkdir -p $(dirname {path}) && cat > {path}", stdin=text)

    def show(self, unit: str, name: str) -> str:
        """One property of a unit."""
        return self.run("systemctl", "show", unit, "--property", name, "--value").strip()

    def wait(self, condition: Callable[[], object], what: str, seconds: float = 20) -> None:
        """Wait until something is so."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"waited {seconds} s for {what}\n{self.journal()[-3000:]}"
            time.sleep(0.1)

    def journal(self, *options: str) -> str:
        """What is in the journal, all or the end of it."""
        return self.run("journalctl", "--no-pager", *(options or ("-n", "60")))


@contextlib.contextmanager
def booted(*shared: tuple[Path, str]) -> Iterator[Box]:
    """A container started from the cached tree, of which it changes nothing; skips where it cannot be."""
    suite = _suite()
    # One at a time on this machine: all would have the same control groups.
    with Path("/run/lock/kws-box").open("w") as turn, tempfile.TemporaryFile("w+") as errors:
        fcntl.flock(turn, fcntl.LOCK_EX)
        options = ["--register=no", "--keep-unit", "--volatile=overlay", "--console=read-only"]
        binds = [f"--bind-ro={path}:/host/{name}" for path, name in shared]
        process = subprocess.Popen(
            ["systemd-nspawn", "--quiet", "--machine=kwsbox", *options, *binds, "--boot", "-D", _tree(suite)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
        try:
            box = _ready(process)
            if box is None:
                errors.seek(0)
                pytest.skip(f"systemd-nspawn cannot boot a container here: {errors.read().strip()[-300:]}")
            yield box
        finally:
            process.terminate()  # a clean shutdown
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _ready(process: subprocess.Popen[bytes]) -> Box | None:
    """The container when its systemd has started everything; None if it does not."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        leader = children.read_text().split()
        if leader:
            box = Box(int(leader[0]))
            if box.try_run("systemctl", "is-system-running").stdout.strip() in ("running", "degraded"):
                return box
        time.sleep(0.2)
    return None


def _suite() -> str:
    """The Debian to boot; skips where none can be."""
    suite = SUITES.get(sys.version_info[:2])
    if suite is None:
        pytest.skip("no Debian release has this Python")
    if os.geteuid() != 0:
        pytest.skip("a container needs root")
    missing = [name for name in ("mmdebstrap", "systemd-nspawn", "nsenter") if not shutil.which(name)]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    return suite


def _tree(suite: str) -> Path:
    """The root of a Debian with everything but kws; made once, in about a minute, and kept in the cache."""
    recipe = PACKAGES + MICROPHONE + ALSA_CONFIGURATION
    tree = cache_folder() / "boxes" / f"{suite}-{zlib.crc32(recipe.encode()):08x}"
    if not tree.is_dir():
        _build(suite, tree)
    return tree


def _build(suite: str, tree: Path) -> None:
    partial = tree.with_name(f"{tree.name}.{os.getpid()}.part")
    partial.mkdir(parents=True)
    hooks = [
        "--customize-hook=chroot $1 useradd --create-home pi",
        "--customize-hook=chroot $1 systemctl --global mask pulseaudio.service pulseaudio.socket",
    ]
    include = f"--include={PACKAGES.replace(' ', ',')}"
    # Without a sync after every file.
    options = ["--quiet", "--variant=minbase", "--dpkgopt=force-unsafe-io", include, *hooks]
    try:
        done = subprocess.run(
            ["mmdebstrap", *options, suite, partial],
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=600,
        )
        if done.returncode:
            pytest.skip(f"there are no Debian packages to be had: {done.stderr.strip()[-300:]}")
        (partial / "etc" / "systemd" / "system" / "fakemic.service").write_text(MICROPHONE)
        (partial / "etc" / "asound.conf").write_text(ALSA_CONFIGURATION)
        partial.rename(tree)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
