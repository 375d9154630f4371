"""What the system tells about this process and its machine: CPU time, wake-ups, memory, heat, voltage.

Everything is text in /proc and /sys. Each reader takes the folder that holds them as `root`, so that a test
can show it any machine; the firmware of a Raspberry Pi is asked through `vcgencmd`, which is found by PATH.
"""

import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path("/")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
"""Unit of the CPU times in /proc."""
VCGENCMD_TIMEOUT_S = 2.0
FIRMWARE_PERIOD_S = 60.0
"""Asking the firmware starts a process: at most this often."""
THROTTLED = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")
"""Bits 0 to 3 of `vcgencmd get_throttled`; bits 16 to 19 say the same of the time since boot."""
PROCESSOR_ZONES = re.compile(r"cpu|x86_pkg|soc", re.IGNORECASE)
PROCESSOR_SENSORS = ("coretemp", "k10temp", "zenpower")
ABSENT_SENSOR_MC = -100_000
"""Drivers give -274 degrees and the like for a sensor that is switched off."""
SLOWING = re.compile(r"cpufreq|processor", re.IGNORECASE)
"""Cooling devices that cool by slowing the processor."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used since it started, at one moment."""

    time_s: float
    """Monotonic clock."""
    cpu_s: float
    """User and system time of all threads, in steps of 10 ms."""
    switches: Mapping[int, int]
    """Thread id -> how often it went to sleep by itself; each time it was woken up again."""
    rss_mb: float
    """Resident memory."""


def usage(root: Path = ROOT, clock: Callable[[], float] = time.monotonic) -> Usage:
    """Read this process's `Usage`; OSError where /proc is hidden."""
    process = root / "proc/self"
    fields = (
        (process / "stat").read_text().rpartition(")")[2].split()
    )  # the name may hold spaces and brackets
    switches = {
        int(task.name): int(found.group(1))
        for task in (process / "task").iterdir()
        if (
            found := re.search(
                r"^voluntary_ctxt_switches:\s*(\d+)", read(task / "status") or "", re.MULTILINE
            )
        )
    }
    resident = re.search(r"^VmRSS:\s*(\d+)", (process / "status").read_text(), re.MULTILINE)
    return Usage(
        time_s=clock(),
        cpu_s=(int(fields[11]) + int(fields[12])) / TICKS_PER_S,
        switches=switches,
        rss_mb=int(resident.group(1)) * 1024 / 1e6 if resident else 0.0,
    )


def rates(old: Usage, new: Usage) -> dict[str, Any]:
    """What was used per second between two readings, as the status shows it; None for no time at all.

    Returns:
        "ms_per_s" of CPU time, "wakeups_per_s", "threads" and "rss_mb" of the newer reading.
    """
    elapsed_s = new.time_s - old.time_s
    woken = sum(
        count - before
        if count >= (before := old.switches.get(thread, 0))
        else count  # an id that was used again
        for thread, count in new.switches.items()
    )
    return {
        "ms_per_s": round(1000 * (new.cpu_s - old.cpu_s) / elapsed_s, 3) if elapsed_s > 0 else None,
        "wakeups_per_s": round(woken / elapsed_s, 2) if elapsed_s > 0 else None,
        "threads": len(new.switches),
        "rss_mb": round(new.rss_mb, 1),
    }


def board_name(root: Path = ROOT) -> str:
    """The board's or the processor's name, e.g. "Raspberry Pi Zero 2 W Rev 1.0"."""
    board = read(root / "proc/device-tree/model")
    if board:
        return board.strip("\0")
    names = re.findall(r"^model name\s*:\s*(.+)$", read(root / "proc/cpuinfo") or "", re.MULTILINE)
    return names[0] if names else platform.machine()


@dataclass(frozen=True, slots=True)
class Busy:
    """What the processors of a machine have done since it booted, in seconds of CPU time."""

    busy_s: float
    total_s: float
    """Busy and idle, of all processors together."""
    processors: int


def busy(root: Path = ROOT) -> Busy | None:
    """Read how busy the machine was; None where /proc/stat is hidden."""
    lines = (read(root / "proc/stat") or "").splitlines()
    if not lines or not re.fullmatch(r"cpu +\d{1,19}( \d{1,19}){4,}", lines[0]):
        return None
    ticks = [int(field) for field in lines[0].split()[1:9]]  # guest time is part of user time
    idle = sum(ticks[3:5])  # idle, waiting for a disk
    processors = sum(re.match(r"cpu\d", line) is not None for line in lines)
    return Busy((sum(ticks) - idle) / TICKS_PER_S, sum(ticks) / TICKS_PER_S, max(1, processors))


class Load:
    """How busy the machine is, from one question to the next."""

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root
        self._last = Busy(0.0, 0.0, 1)

    def cores(self) -> float | None:
        """Mean number of busy cores since this was last asked, at first since boot; None if unknown."""
        old, new = self._last, busy(self._root)
        if new is None or new.total_s <= old.total_s:
            return None
        self._last = new
        return new.processors * (new.busy_s - old.busy_s) / (new.total_s - old.total_s)


def temperature_c(root: Path = ROOT) -> float | None:
    """Degrees Celsius of the processor, else of the first thermal zone, else None."""
    zones = [
        (read(zone / "type") or "", zone / "temp")
        for zone in entries(root, "sys/class/thermal", "thermal_zone")
    ]
    zones.sort(key=lambda zone: PROCESSOR_ZONES.search(zone[0]) is None)
    files = [file for _, file in zones] + [
        chip / "temp1_input"
        for chip in entries(root, "sys/class/hwmon", "hwmon")
        if read(chip / "name") in PROCESSOR_SENSORS
    ]
    found = (number(file) for file in files)
    return next((round(m / 1000, 1) for m in found if m is not None and m > ABSENT_SENSOR_MC), None)


def throttled(root: Path = ROOT) -> list[str]:
    """Why the processor is, or since boot was, slower than it should be; empty when nothing is known.

    The firmware of a Raspberry Pi knows most; the kernel's voltage monitor and cooling devices know a part.
    """
    flags = _throttled_flags(root)
    if flags is not None:
        return [
            word if flags >> bit & 1 else f"{word} since boot"
            for bit, word in enumerate(THROTTLED)
            if flags >> bit & 0x10001
        ]
    words = [
        THROTTLED[0]
        for chip in entries(root, "sys/class/hwmon", "hwmon")
        if read(chip / "name") == "rpi_volt" and number(chip / "in0_lcrit_alarm")
    ]
    cooling = entries(root, "sys/class/thermal", "cooling_device")
    if any(
        SLOWING.search(read(device / "type") or "") and number(device / "cur_state") for device in cooling
    ):
        words.append("slowed down by heat")
    return words


class Machine:
    """Board, temperature and throttling for the status; the firmware is asked once a minute at most."""

    def __init__(self, root: Path = ROOT, clock: Callable[[], float] = time.monotonic) -> None:
        self._root, self._clock = root, clock
        self.board = board_name(root)
        self._throttled: list[str] = []
        self._asked_s: float | None = None

    def report(self) -> dict[str, Any]:
        """{"board", "temperature_c": degrees or None, "throttled": words}."""
        now_s = self._clock()
        if self._asked_s is None or now_s - self._asked_s >= FIRMWARE_PERIOD_S:
            self._asked_s, self._throttled = now_s, throttled(self._root)
        return {
            "board": self.board,
            "temperature_c": temperature_c(self._root),
            "throttled": list(self._throttled),
        }


def vcgencmd(*question: str) -> str:
    """What the firmware of a Raspberry Pi answers.

    Raises:
        OSError: the program is missing, may not open the firmware's device, or the firmware does not answer.
    """
    program = shutil.which("vcgencmd")
    if program is None:
        raise FileNotFoundError("vcgencmd is not installed; install raspi-utils")
    try:
        done = subprocess.run(
            [program, *question],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=VCGENCMD_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError("vcgencmd does not answer; restart the machine") from None
    answer = done.stdout.strip()
    if done.returncode or not answer or answer.startswith("error="):
        reason = (done.stderr.strip() or answer).partition("\n")[0]
        raise OSError(f"vcgencmd {question[0]} failed ({reason or 'no answer'}); it needs the group video")
    return answer


def read(file: Path) -> str | None:
    """The text of a file of the kernel without its line end; None when it is missing or may not be read."""
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def number(file: Path) -> int | None:
    """The whole number in a file of the kernel, at most 64 bits; None when it has none."""
    try:
        value = int(read(file) or "")
    except ValueError:
        return None
    return value if abs(value) < 1 << 64 else None


def entries(root: Path, folder: str, prefix: str) -> Iterator[Path]:
    """The devices of a class in /sys, by number: hwmon2 before hwmon10."""
    try:
        found = [path for path in (root / folder).iterdir() if path.name.startswith(prefix)]
    except OSError:
        return
    yield from sorted(found, key=lambda path: [int(digits) for digits in re.findall(r"\d+", path.name)])


def _throttled_flags(root: Path) -> int | None:
    """Bits of the firmware of a Raspberry Pi; None on any other machine."""
    try:
        return int(vcgencmd("get_throttled").rpartition("=")[2], 16)
    except (OSError, ValueError):
        pass
    # The kernel logs once that this file is deprecated, so it comes second. Hexadecimal without 0x.
    for file in (root / "sys/devices/platform").glob("soc*/soc*:firmware/get_throttled"):
        text = read(file)
        if text:
            try:
                return int(text, 16)
            except ValueError:
                return None
    return None
