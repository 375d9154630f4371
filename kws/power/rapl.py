"""Energy counters of x86 processors (RAPL), Intel's and AMD's alike, in /sys/class/powercap.

Each socket is a domain "package-N"; its cores and graphics are parts of it, its memory ("dram") is not.
"psys", where a machine has it, counts the whole platform. Only root may read the counters, since they can
betray what a processor computes (the PLATYPUS attack); the udev rule of kws lets the group audio read them.
Units and names: https://docs.kernel.org/power/powercap/powercap.html
"""

from dataclasses import dataclass
from pathlib import Path

from kws import health
from kws.power.counter import Counter
from kws.power.figure import Figure, MeterError

RULE = "70-kws-power.rules"


@dataclass(frozen=True)
class _Domain:
    name: str
    folder: Path


class Rapl:
    """The packages' mean power between two readings."""

    period_s = 10.0

    def __init__(self, root: Path) -> None:
        self._root = root
        self._counters: dict[Path, Counter] = {}

    def read(self, now_s: float) -> Figure | None:
        """Watts of all packages and their memory, or of the platform; None without RAPL."""
        domains = self._domains()
        if not any(domain.name.startswith("package") for domain in domains):
            return None
        # Every counter is read before any may fail: each is then ready for the next reading.
        watts, failures = {}, []
        for domain in domains:
            try:
                watts[domain.name] = self._counter(domain).watts(now_s, _energy_uj(domain))
            except MeterError as error:
                failures.append((domain.name, error))
        for name, failure in failures:
            if name.startswith("package"):
                raise failure
        inside = {name: value for name, value in watts.items() if name != "psys"}
        package_w = sum(inside.values())
        if watts.get("psys", 0.0) >= package_w:  # some machines count nonsense there
            return Figure(watts["psys"], "measured-board", "RAPL psys: the platform, by its firmware", True)
        return Figure(package_w, "measured-package", "RAPL " + " + ".join(sorted(inside)), True)

    def _domains(self) -> list[_Domain]:
        """Packages, their memory, and the platform; names are unique: a second dram is "dram-1"."""
        found = []
        for folder in health.entries(self._root, "sys/class/powercap", "intel-rapl:"):
            name = health.read(folder / "name") or ""
            if name == "dram":
                name = f"dram-{folder.name.split(':')[1]}"
            if name == "psys" or name.startswith(("package", "dram")):
                found.append(_Domain(name, folder))
        return found

    def _counter(self, domain: _Domain) -> Counter:
        if domain.folder not in self._counters:
            range_uj = health.number(domain.folder / "max_energy_range_uj")
            self._counters[domain.folder] = Counter(f"RAPL {domain.name}", range_uj)
        return self._counters[domain.folder]


def _energy_uj(domain: _Domain) -> int:
    try:
        return int((domain.folder / "energy_uj").read_text())
    except PermissionError:
        raise MeterError(
            f"RAPL may not be read; install the udev rule {RULE} (sudo kws service install does) "
            "and join group audio"
        ) from None
    except (OSError, ValueError) as error:
        raise MeterError(f"RAPL {domain.name} cannot be read ({error})") from None
