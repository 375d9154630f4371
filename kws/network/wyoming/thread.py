"""The server as a thread of the daemon. Without `wyoming:` in kws.yaml nothing of it is even loaded."""

import logging
import random
import threading
from typing import TYPE_CHECKING

from kws.errors import ConfigError, KwsError, MissingExtra
from kws.gate import GateSettings
from kws.manifest import MANIFEST_FILE, find_model, installed_models
from kws.network.wyoming.settings import WyomingSettings, require

if TYPE_CHECKING:
    import asyncio

_RETRY_SECONDS = (1.0, 60.0)
"""Before the second attempt, and at most."""
_STOP_SECONDS = 3.0

_log = logging.getLogger(__name__)


class Wyoming:
    """What the daemon has of the server: none until `configure` is given settings."""

    def __init__(self) -> None:
        self._wanted: tuple[WyomingSettings, GateSettings, list[bytes]] | None = None
        self._serving: _Serving | None = None

    def configure(self, settings: WyomingSettings | None, gate: GateSettings) -> None:
        """Serve with these settings and today's models from now on, None: not at all.

        Clients are let go if any of that has changed: a satellite keeps its connection for months, comes
        back by itself, and would hear with the old model until then.
        """
        wanted = None if settings is None else (settings, gate, _manifests(settings))
        if wanted == self._wanted and (self._serving is None or self._serving.is_alive()):
            return
        self.close()
        if settings is not None:
            self._wanted, self._serving = wanted, _Serving(settings, gate)
            self._serving.start()

    def close(self) -> None:
        """Let go of all clients; returns when the thread has ended, or after a few seconds."""
        if self._serving is not None:
            self._serving.stop()
        self._wanted = self._serving = None


def _manifests(settings: WyomingSettings) -> list[bytes]:
    """What tells one set of models from another: a manifest has the checksum of its network."""
    manifests = []
    for name in settings.models or installed_models():
        try:
            manifests.append((find_model(name) / MANIFEST_FILE).read_bytes())
        except (KwsError, OSError):
            manifests.append(b"")  # the thread says so
    return manifests


class _Serving(threading.Thread):
    """Whatever happens here ends in the log; what may pass is tried again."""

    def __init__(self, settings: WyomingSettings, gate: GateSettings) -> None:
        super().__init__(name="wyoming", daemon=True)
        self._settings, self._gate = settings, gate
        self._is_over = threading.Event()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    def stop(self) -> None:
        self._is_over.set()
        with self._lock:
            if self._loop is not None and self._stopping is not None:
                self._loop.call_soon_threadsafe(self._stopping.set)
        self.join(_STOP_SECONDS)

    def run(self) -> None:
        wait_s, most_s = _RETRY_SECONDS
        while not self._is_over.is_set():
            try:
                self._serve()
            except (ConfigError, MissingExtra) as error:
                _log.error("Wyoming: not served: %s", error)
                return
            except (KwsError, OSError) as error:
                _log.error("Wyoming: not served, trying again: %s", error)
            except Exception:
                _log.exception("Wyoming: not served, trying again")
            self._is_over.wait(wait_s * random.uniform(0.5, 1))  # noqa: S311 (no secret)
            wait_s = min(2 * wait_s, most_s)

    def _serve(self) -> None:
        require(self._settings)
        if self._settings.address.scheme == "stdio":
            raise ConfigError("a daemon has no standard input; set wyoming.uri to tcp://127.0.0.1:10400")
        import asyncio  # noqa: PLC0415 (megabytes, only when wanted)

        from kws.network.wyoming.catalogue import Catalogue  # noqa: PLC0415
        from kws.network.wyoming.server import Server  # noqa: PLC0415

        server = Server(self._settings, Catalogue(self._settings), self._gate)

        async def serve() -> None:
            stopping = asyncio.Event()
            with self._lock:
                self._loop, self._stopping = asyncio.get_running_loop(), stopping
            try:
                if not self._is_over.is_set():
                    await server.run(stopping)
            finally:
                with self._lock:
                    self._loop = self._stopping = None

        asyncio.run(serve())
