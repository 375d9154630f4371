"""What a user can choose about the Wyoming server, and where it is found."""

import importlib.util
import ipaddress
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from kws.errors import ConfigError, MissingExtra

DEFAULT_URI = "tcp://127.0.0.1:10400"


class Address(NamedTuple):
    """A parsed URI."""

    scheme: Literal["tcp", "unix", "stdio"]
    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def is_exposed(self) -> bool:
        """Whether other machines may reach it."""
        if self.scheme != "tcp":
            return False
        try:
            return not ipaddress.ip_address(self.host).is_loopback
        except ValueError:  # a name
            return self.host != "localhost"


@dataclass(frozen=True)
class WyomingSettings:
    """Where to serve, and which models to whom."""

    uri: str = DEFAULT_URI
    """tcp://HOST:PORT, unix:///PATH or stdio://; port 0 is any free one."""
    models: tuple[str, ...] = ()
    """Names or folders; the first one's words are heard for a client that asks for none. Empty: all that are
    installed, `default` first."""
    false_accepts_per_day: float | None = None
    """How often each word may be heard wrongly; None: the models' own thresholds."""
    refractory_seconds: float = 2.0
    """Audio time after a detection in which the same client is told of no other one."""
    clients_max: int = 128
    """More connections than that are refused."""
    zeroconf: str | None = None
    """Name under which Home Assistant finds the server by itself; None: it is not announced."""

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        is_exposed = self.address.is_exposed
        if not 0 <= self.refractory_seconds < float("inf"):
            raise ConfigError("refractory_seconds must be 0 or more; correct it")
        if not 1 <= self.clients_max <= 10_000:
            raise ConfigError("clients_max must lie in 1..10000; correct it")
        rate = self.false_accepts_per_day
        if rate is not None and not 0 < rate < float("inf"):
            raise ConfigError(f"false_accepts_per_day must be above 0, not {rate:g}; correct it")
        if self.zeroconf is not None and not (self.zeroconf and is_exposed):
            raise ConfigError(
                "zeroconf announces a server that other machines reach; "
                "set uri to tcp://0.0.0.0:10400, or remove zeroconf"
            )

    @cached_property
    def address(self) -> Address:
        """Parsed `uri`; ConfigError when it is none of the three forms."""
        try:
            parts = urlsplit(self.uri)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise _not_a_uri(self.uri) from None
        if parts.scheme == "tcp" and host and port is not None and parts.path in ("", "/"):
            return Address("tcp", host=host, port=port)
        if parts.scheme == "unix" and not parts.netloc and parts.path.startswith("/"):
            return Address("unix", path=parts.path)
        if parts.scheme == "stdio" and not parts.netloc and not parts.path:
            return Address("stdio")
        raise _not_a_uri(self.uri)


def require(settings: WyomingSettings) -> None:
    """MissingExtra when a package is not installed that the server needs with these settings."""
    for package in ("wyoming", *(["zeroconf"] if settings.zeroconf else [])):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(package, "wyoming")


def _not_a_uri(uri: str) -> ConfigError:
    return ConfigError(
        f"uri {uri!r} leads nowhere; write tcp://127.0.0.1:10400, unix:///run/kws/wyoming or stdio://"
    )
