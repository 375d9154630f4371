"""Connections: who is served, for how long, and how a conversation ends. One thread serves all clients."""

import asyncio
import contextlib
import logging
import os
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

from wyoming.error import Error

from kws.errors import ConfigError, KwsError
from kws.gate import GateSettings
from kws.network.wyoming.announcement import announced
from kws.network.wyoming.catalogue import Catalogue
from kws.network.wyoming.session import Session
from kws.network.wyoming.settings import Address, WyomingSettings
from kws.network.wyoming.wire import HEADER_BYTES_MAX, BadEvent, read_event, write_event

SILENT_SECONDS = 60.0
"""A client that has said nothing for so long is let go when another one needs its place. Not before: the
satellites that send audio only while somebody speaks would be away at the wrong moment."""
_FAREWELL_SECONDS = 1.0
"""For the last words to a client to leave this machine."""
_KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 20, "TCP_KEEPCNT": 3}
"""A client that lost its power is let go after two minutes."""

_log = logging.getLogger(__name__)


class Server:
    """Serves the words of a catalogue until it is told to stop."""

    def __init__(
        self, settings: WyomingSettings, catalogue: Catalogue, gate: GateSettings | None = None
    ) -> None:
        self.settings, self._catalogue, self._gate = settings, catalogue, gate
        self._conversations: dict[asyncio.Task[None], float] = {}  # and when its client was last heard

    async def run(self, stopping: asyncio.Event) -> None:
        """Serve until `stopping` is set, or, over stdio, until the client has gone.

        Raises:
            OSError: the address cannot be listened on.
            KwsError: another program serves at that unix socket.
        """
        address = self.settings.address
        if address.scheme == "stdio":
            await self._run_stdio(stopping)
            return
        async with self._listening(address) as server, announced(self.settings.zeroconf, server):
            await stopping.wait()
            server.close()  # no new ones
            for task in self._conversations:
                task.cancel()
            await asyncio.gather(*self._conversations, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def _listening(self, address: Address) -> AsyncIterator[asyncio.Server]:
        if address.scheme == "tcp":
            server = await asyncio.start_server(
                self._welcome, address.host, address.port, limit=HEADER_BYTES_MAX
            )
            ports = {door.getsockname()[1] for door in server.sockets}
            _log.info("Wyoming: serving at tcp://%s:%s", address.host, ", ".join(map(str, sorted(ports))))
            if address.is_exposed:
                _log.warning(
                    "Wyoming: every machine that reaches %s may send audio and ask for the list of models, "
                    "without a password and unencrypted; keep it inside a network that you trust",
                    address.host,
                )
        else:
            await _refuse_second(address.path)
            server = await asyncio.start_unix_server(self._welcome, address.path, limit=HEADER_BYTES_MAX)
            Path(address.path).chmod(0o660)
            _log.info("Wyoming: serving at unix://%s", address.path)
        try:
            yield server
        finally:
            server.close()
            if address.scheme == "unix":
                Path(address.path).unlink(missing_ok=True)

    async def _run_stdio(self, stopping: asyncio.Event) -> None:
        reader, writer = await _stdio()
        conversation = asyncio.create_task(self._converse(reader, writer))
        waiting = asyncio.create_task(stopping.wait())
        await asyncio.wait((conversation, waiting), return_when=asyncio.FIRST_COMPLETED)
        for task in (conversation, waiting):
            task.cancel()
        await asyncio.gather(conversation, waiting, return_exceptions=True)

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its beginning to its end; it never raises."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (asyncio makes one for each connection)
        _keep_alive(writer.get_extra_info("socket"))
        self._conversations[task] = time.monotonic()
        try:
            if self._has_room():
                await self._converse(reader, writer)
            else:
                del self._conversations[task]  # it takes nobody's place while it is told so
                await _refuse(reader, writer, "too many clients are connected")
        except asyncio.CancelledError:
            pass  # the server ends
        finally:
            self._conversations.pop(task, None)

    def _has_room(self) -> bool:
        """Whether the newest client may stay; one that is silent may have to go for it."""
        if len(self._conversations) <= self.settings.clients_max:
            return True
        silent = min(self._conversations, key=lambda task: self._conversations[task])
        if time.monotonic() - self._conversations[silent] < SILENT_SECONDS:
            return False
        del self._conversations[silent]
        silent.cancel()
        return True

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        try:
            session = Session(self._catalogue, self.settings.refractory_seconds, self._gate)
            while (event := await read_event(reader)) is not None:
                if task in self._conversations:
                    self._conversations[task] = time.monotonic()
                for reply in session.handle(event):
                    if reply is not None:
                        await write_event(reply, writer)
                    await asyncio.sleep(0)  # what has arrived is read without waiting: let others in between
                await asyncio.sleep(0)
        except BadEvent as error:
            _log.warning("Wyoming: a client is let go: %s", error)
            await _refuse(reader, writer, str(error))
        except (OSError, TimeoutError):
            pass  # it has gone, or does not go on, or does not read
        except Exception:
            _log.exception("Wyoming: a client is let go after an error of kws")
        finally:
            await _close(writer)


async def _refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, text: str) -> None:
    """Say why, and end the connection."""
    with contextlib.suppress(OSError, TimeoutError):
        await write_event(Error(text=text).event(), writer)
        if writer.can_write_eof():
            writer.write_eof()
        # A connection that is closed before all has been read is reset, and the reason is lost on its way.
        async with asyncio.timeout(_FAREWELL_SECONDS):
            while await reader.read(HEADER_BYTES_MAX):
                pass
    await _close(writer)


async def _close(writer: asyncio.StreamWriter) -> None:
    """Send what is still to be sent, but do not keep it for who does not read."""
    try:
        writer.close()
        async with asyncio.timeout(_FAREWELL_SECONDS):
            await writer.wait_closed()
    except (OSError, TimeoutError):
        pass
    finally:
        writer.transport.abort()


def _keep_alive(connection: socket.socket) -> None:
    if connection.family != socket.AF_UNIX:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


async def _refuse_second(path: str) -> None:
    """A socket that a dead program left is replaced, one that is served is not."""
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_unix_connection(path)
        writer.close()
        raise KwsError(f"another program serves at {path}; stop it, or choose another uri")


async def _stdio() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Standard input and output, which must be pipes; nothing else may print."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=HEADER_BYTES_MAX)
    try:
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        transport, protocol = await loop.connect_write_pipe(
            asyncio.streams.FlowControlMixin, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
        )
    except ValueError:
        raise ConfigError("stdio:// needs pipes or sockets as standard input and output; use them") from None
    return reader, asyncio.StreamWriter(transport, protocol, None, loop)
