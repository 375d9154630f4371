"""The sockets of a daemon in its folder: one daemon a folder, and what a dead one left is cleared away."""

import contextlib
import fcntl
import grp
import os
import socket
import stat
import struct
from pathlib import Path

from kws.errors import KwsError
from kws.protocol import CONTROL, STATUS, address

CONTROL_GROUP = "audio"
"""Who may use the sound device may mute this program."""

_LOCK = "lock"


class Doors:
    """The sockets where clients come in.

    Args:
        folder: where the sockets appear; made if it is not there.
        backlog: how many clients may wait at each.

    Attributes:
        listening: By file descriptor, each socket, and whether who comes in there may control the daemon.
    """

    def __init__(self, folder: Path, backlog: int) -> None:
        self._folder, self._backlog = folder, backlog
        self._lock: int | None = None
        self.listening: dict[int, tuple[socket.socket, bool]] = {}

    def open(self) -> None:
        """Take the folder and listen; KwsError as `Server.open`."""
        try:
            if not self._folder.is_dir():
                self._folder.mkdir(parents=True)
                self._folder.chmod(0o755)  # whatever the umask: everybody may ask for the status
            self._take_lock()
            self._listen(STATUS, 0o666, may_control=False)
            self._listen(CONTROL, 0o660, may_control=True)
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise KwsError(
                    f"cannot open sockets in {self._folder} ({error.strerror or error}); "
                    "make it writable, or set RUNTIME_DIRECTORY to a folder that is"
                ) from error
            raise

    def close(self) -> None:
        """Remove the sockets, then let the next daemon in."""
        for door, _ in self.listening.values():
            path = door.getsockname()
            door.close()
            if path:  # bound, so it is ours
                Path(path).unlink(missing_ok=True)
        self.listening.clear()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _take_lock(self) -> None:
        """Keep a second daemon out: the kernel drops the lock with the process, however that dies."""
        self._lock = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(self._lock, 20, 0).decode(errors="replace").strip()
            raise _taken(self._folder, owner) from error
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def _listen(self, name: str, mode: int, may_control: bool) -> None:
        path = address(self._folder, name)
        _remove_stale(Path(path))
        door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listening[door.fileno()] = door, may_control
        door.setblocking(False)
        door.bind(path)
        if may_control:
            # Fails for who is not in the group, or where there is none: then it stays the daemon's own.
            with contextlib.suppress(OSError, KeyError):
                os.chown(path, -1, grp.getgrnam(CONTROL_GROUP).gr_gid)
        Path(path).chmod(mode)
        door.listen(self._backlog)  # only now can anyone connect


def _remove_stale(path: Path) -> None:
    """Remove the socket of a daemon that died; refuse what is no such socket."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise KwsError(f"{path} is no socket of kws; remove it, or move it away")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except BlockingIOError:  # its queue is full, so it is there
            raise _taken(path.parent, "") from None
        except OSError:
            path.unlink()
            return
        pid, _uid, _gid = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        raise _taken(path.parent, str(pid))


def _taken(folder: Path, pid: str) -> KwsError:
    whose = f"process {pid}" if pid else "another process"
    return KwsError(f"{whose} serves {folder} already; stop it, or set RUNTIME_DIRECTORY to another folder")
