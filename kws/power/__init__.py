"""Power of the daemon and of the machine below it; every figure says how it is known (docs/power.md)."""

from kws.power.report import Power, PowerSettings

__all__ = ["Power", "PowerSettings"]
