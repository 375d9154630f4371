"""Telling the local network that the server is there, so that Home Assistant offers to use it."""

import asyncio
import contextlib
import ipaddress
import logging
import socket
from collections.abc import AsyncIterator

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

SERVICE = "_wyoming._tcp.local."

_log = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def announced(name: str | None, server: asyncio.Server) -> AsyncIterator[None]:
    """While inside, `server` is announced as `name` by multicast DNS; None announces nothing.

    A network that does not take part is reported, and the server serves all the same.
    """
    if name is None:
        yield
        return
    from zeroconf import Error  # noqa: PLC0415 (only when wanted)
    from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf  # noqa: PLC0415

    zeroconf = None
    try:
        address, port = _reached_at(server)
        info = AsyncServiceInfo(
            SERVICE, f"{name}.{SERVICE}", addresses=[address.packed], port=port, server=f"{name}.local."
        )
        zeroconf = AsyncZeroconf(interfaces=[str(address)])
        await zeroconf.async_register_service(info, allow_name_change=True)
        _log.info("Wyoming: announced as %s at %s:%s", info.name, address, port)
    except (Error, OSError) as error:
        _log.warning("Wyoming: served, but not announced as %s: %r", name, error)
    try:
        yield
    finally:
        if zeroconf is not None:
            await zeroconf.async_unregister_all_services()
            await zeroconf.async_close()


def _reached_at(server: asyncio.Server) -> tuple[Address, int]:
    """Address and port under which the server is reached, where multicast goes.

    Of a server on all interfaces that is the one that multicast leaves by. To ask for all of them would need
    a netlink socket, which the sandbox of the service refuses, and each of them has another address anyway.
    """
    host, port = server.sockets[0].getsockname()[:2]
    address: Address = ipaddress.ip_address(host)
    if address.is_unspecified:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:  # sends nothing
            probe.connect(("224.0.0.251", 5353))
            address = ipaddress.ip_address(probe.getsockname()[0])
    return address, port
