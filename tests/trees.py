"""Fake /proc and /sys trees, with texts as machines have them, and a fake `vcgencmd`.

Sources of the texts: pmic_read_adc of a Raspberry Pi 5 (tests of ml-energy/zeus), an INA219 on a battery
(networkupstools/nut#2960), RAPL of an Intel i7-4770S (intel/thermal_daemon#45) and the zones of an i7-8550U
(powercap/powercap#3), /proc/self of a Linux machine. The other numbers are made up.
"""

from pathlib import Path

import pytest

PMIC = """\
 3V7_WL_SW_A current(0)=0.09368929A
   3V3_SYS_A current(1)=0.08783370A
   1V8_SYS_A current(2)=0.18054710A
  DDR_VDD2_A current(3)=0.22543980A
  DDR_VDDQ_A current(4)=0.06666720A
   1V1_SYS_A current(5)=0.17566740A
    0V8_SW_A current(6)=0.37670900A
  VDD_CORE_A current(7)=6.22421000A
   3V3_DAC_A current(17)=0.00006105A
   3V3_ADC_A current(18)=0.00036630A
   0V8_AON_A current(16)=0.00305250A
      HDMI_A current(22)=0.02417580A
 3V7_WL_SW_V volt(8)=3.69977600V
   3V3_SYS_V volt(9)=3.31003300V
   1V8_SYS_V volt(10)=1.80512600V
  DDR_VDD2_V volt(11)=1.10476100V
  DDR_VDDQ_V volt(12)=0.60146460V
   1V1_SYS_V volt(13)=1.11025500V
    0V8_SW_V volt(14)=0.80146440V
  VDD_CORE_V volt(15)=0.86173300V
   3V3_DAC_V volt(20)=3.31318300V
   3V3_ADC_V volt(21)=3.30677300V
   0V8_AON_V volt(19)=0.80029220V
      HDMI_V volt(23)=5.08664000V
     EXT5V_V volt(24)=5.09066000V
      BATT_V volt(25)=0.00000000V
"""
INA219 = {
    "name": "ina219",
    "in0_input": "12",
    "in1_input": "5072",
    "curr1_input": "412",
    "power1_input": "2090000",
    "shunt_resistor": "100000",
}
INA219_ON_A_BATTERY = {
    "name": "ina219",
    "in0_input": "-4",
    "in1_input": "4228",
    "power1_input": "176000",
    "curr1_input": "-40",
    "shunt_resistor": "100000",
}
PI_HWMON = {
    "hwmon0/name": "cpu_thermal",
    "hwmon0/temp1_input": "48312",
    "hwmon1/name": "rpi_volt",
    "hwmon1/in0_lcrit_alarm": "0",
    "hwmon2/name": "rp1_adc",
    "hwmon2/in1_input": "1489",
    "hwmon2/temp1_input": "45210",
}
RANGE_UJ = 262_143_328_850
"""Of most Intel packages: 262 kJ."""


def plant(root: Path, folder: str, files: dict[str, str]) -> Path:
    """Write `files` below `root`/`folder`, each with the line end that the kernel writes."""
    for name, text in files.items():
        path = root / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text if "\n" in text or "\0" in text else f"{text}\n")
    return root


def hwmon(root: Path, number: int, files: dict[str, str]) -> Path:
    return plant(root, f"sys/class/hwmon/hwmon{number}", files)


def board(root: Path, model: str) -> Path:
    return plant(root, "proc/device-tree", {"model": f"{model}\0"})


def load(root: Path, busy_s: float, idle_s: float, processors: int = 4) -> Path:
    """/proc/stat after so many seconds of all processors together; a tenth of the busy ones is the system."""
    user, system, idle = (round(100 * s) for s in (0.9 * busy_s, 0.1 * busy_s, idle_s))
    each = "".join(f"cpu{i} {user} 0 {system} {idle} 0 0 0 0 0 0\n" for i in range(processors))
    text = f"cpu  {user} 0 {system} {idle} 0 0 0 0 0 0\n{each}intr 1234 0\nctxt 99\nprocs_running 1\n"
    return plant(root, "proc", {"stat": text})


def rapl(root: Path, domains: dict[str, tuple[str, int]], range_uj: int = RANGE_UJ) -> Path:
    """Zones by folder, "intel-rapl:0:2": ("dram", microjoules)."""
    for folder, (name, energy_uj) in domains.items():
        files = {
            "name": name,
            "energy_uj": str(energy_uj),
            "max_energy_range_uj": str(range_uj),
            "enabled": "1",
        }
        plant(root, f"sys/class/powercap/{folder}", files)
    return plant(root, "sys/class/powercap/intel-rapl", {"enabled": "1"})


def supply(root: Path, name: str, **files: object) -> Path:
    return plant(root, f"sys/class/power_supply/{name}", {key: str(value) for key, value in files.items()})


def vcgencmd(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    """A `vcgencmd` in the PATH, alone there; $1 is the question. The answer is a log of questions."""
    program, log = folder / "bin/vcgencmd", folder / "asked"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(f"#!/bin/sh\necho $1 >>{log}\n{script}\n")
    program.chmod(0o755)
    log.write_text("")
    monkeypatch.setenv("PATH", str(program.parent))
    return log


class Clock:
    """Monotonic time that a test sets."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s
