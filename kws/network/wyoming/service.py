"""`kws wyoming`: the server as a process of its own."""

import asyncio
import signal

from kws.errors import INTERRUPTED
from kws.gate import GateSettings
from kws.network.wyoming.catalogue import Catalogue
from kws.network.wyoming.server import Server
from kws.network.wyoming.settings import WyomingSettings


def serve(settings: WyomingSettings, gate: GateSettings | None) -> int:
    """Serve until SIGTERM (returns 0), Ctrl-C (130), or, over stdio, until the client has gone (0).

    Raises:
        ModelError: a model is missing or damaged.
        OSError: the address is taken, or is none of this machine.
    """
    return asyncio.run(_serve(Server(settings, Catalogue(settings), gate)))


async def _serve(server: Server) -> int:
    stopping, loop = asyncio.Event(), asyncio.get_running_loop()
    received: list[int] = []

    def stop(number: int) -> None:
        received.append(number)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    await server.run(stopping)
    return INTERRUPTED if signal.SIGINT in received else 0
