"""What /proc, /sys and the firmware say of process and machine, on fake trees and on this machine."""

import threading
import time
from pathlib import Path

import pytest
import trees

from kws import health
from kws.health import Usage

STAT = (
    "7997 (kws (x) run) R 7993 7993 4651 0 -1 4194304 2855 6539 0 1 300 200 5 1 20 0 2 0 540752 92479488 "
    "3376 18446744073709551615 1 1 0 0 0 0 0 16781312 1 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
)
STATUS = "Name:\tpython3\nThreads:\t2\nVmHWM:\t  99999 kB\nVmRSS:\t   78125 kB\n"


def process(root: Path, switches: dict[int, int]) -> Path:
    trees.plant(root, "proc/self", {"stat": STAT, "status": STATUS})
    for thread, count in switches.items():
        text = f"Name:\tpython3\nvoluntary_ctxt_switches:\t{count}\nnonvoluntary_ctxt_switches:\t19\n"
        trees.plant(root, f"proc/self/task/{thread}", {"status": text})
    return root


def test_usage_is_read_as_the_kernel_writes_it(tmp_path: Path) -> None:
    process(tmp_path, {7997: 13, 8001: 30})
    (tmp_path / "proc/self/task/8002").mkdir()  # a thread that ended between two readings
    used = health.usage(tmp_path, trees.Clock())
    assert used.cpu_s == 500 / health.TICKS_PER_S
    assert used.rss_mb == pytest.approx(80.0)
    assert used.switches == {7997: 13, 8001: 30}


def test_rates_are_differences_and_threads_come_and_go() -> None:
    old = Usage(time_s=100, cpu_s=5.0, switches={1: 100, 2: 50, 3: 900}, rss_mb=70)
    new = Usage(time_s=110, cpu_s=5.1, switches={1: 300, 3: 20, 4: 30}, rss_mb=71.26)  # 2 ended, 3 is another
    assert health.rates(old, new) == {
        "ms_per_s": 10.0,
        "wakeups_per_s": 25.0,  # (200 + 20 + 30) / 10
        "threads": 3,
        "rss_mb": 71.3,
    }
    assert health.rates(new, new)["ms_per_s"] is None


def test_usage_of_this_process_counts_work_and_sleep() -> None:
    before = health.usage()
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    for _ in range(20):
        time.sleep(0.001)
    burnt = time.process_time()
    while time.process_time() - burnt < 0.1:
        pass
    after = health.usage()
    done.set()
    thread.join()
    found = health.rates(before, after)
    assert found["wakeups_per_s"] * (after.time_s - before.time_s) >= 20
    assert after.cpu_s - before.cpu_s >= 0.08
    assert after.cpu_s == pytest.approx(time.process_time(), abs=0.05)
    assert found["threads"] == len(before.switches) + 1
    assert 5 < found["rss_mb"] < 2000


def test_board_name_prefers_the_board_and_survives_nothing(tmp_path: Path) -> None:
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    assert health.board_name(tmp_path)
    trees.plant(
        tmp_path, "proc", {"cpuinfo": "processor\t: 0\nmodel name\t: Some Chip 3000\nmodel name\t: b\n"}
    )
    assert health.board_name(tmp_path) == "Some Chip 3000"
    trees.board(tmp_path, "Raspberry Pi Zero 2 W Rev 1.0")
    assert health.board_name(tmp_path) == "Raspberry Pi Zero 2 W Rev 1.0"


def test_load_is_busy_cores_between_two_questions(tmp_path: Path) -> None:
    load = health.Load(trees.load(tmp_path, busy_s=100, idle_s=300))
    assert load.cores() == pytest.approx(1.0)  # since boot: a quarter of four
    assert load.cores() is None  # no time has passed
    trees.load(tmp_path, busy_s=130, idle_s=310)
    assert load.cores() == pytest.approx(3.0)
    (tmp_path / "proc/stat").unlink()
    assert load.cores() is None


def test_waiting_for_a_disk_is_idle_and_guests_count_once(tmp_path: Path) -> None:
    stat = "cpu  100 10 20 500 300 5 5 60 90 9\ncpu0 100 10 20 500 300 5 5 60 90 9\n"
    found = health.busy(trees.plant(tmp_path, "proc", {"stat": stat}))
    assert found == health.Busy(200 / health.TICKS_PER_S, 1000 / health.TICKS_PER_S, 1)


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({"thermal/thermal_zone0/type": "cpu-thermal", "thermal/thermal_zone0/temp": "48312"}, 48.3),
        (
            {
                "thermal/thermal_zone0/type": "acpitz",
                "thermal/thermal_zone0/temp": "27800",
                "thermal/thermal_zone10/type": "x86_pkg_temp",
                "thermal/thermal_zone10/temp": "51000",
            },
            51.0,
        ),
        ({"thermal/thermal_zone0/type": "acpitz", "thermal/thermal_zone0/temp": "27800"}, 27.8),
        ({"hwmon/hwmon4/name": "k10temp", "hwmon/hwmon4/temp1_input": "39500"}, 39.5),
        ({"thermal/thermal_zone0/type": "cpu0", "thermal/thermal_zone0/temp": "-274000"}, None),
        ({"thermal/thermal_zone0/type": "cpu0", "thermal/thermal_zone0/temp": ""}, None),
        ({"hwmon/hwmon4/name": "nvme", "hwmon/hwmon4/temp1_input": "39500"}, None),
        ({}, None),
    ],
)
def test_temperature_is_the_processors(tmp_path: Path, files: dict[str, str], wanted: float | None) -> None:
    assert health.temperature_c(trees.plant(tmp_path, "sys/class", files)) == wanted


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("0x0", []),
        ("0x50005", ["under-voltage", "throttled"]),
        ("0x50000", ["under-voltage since boot", "throttled since boot"]),
        ("0xa0002", ["frequency capped", "soft temperature limit since boot"]),
        ("0x80008", ["soft temperature limit"]),
    ],
)
def test_throttling_flags_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, words: list[str]
) -> None:
    trees.vcgencmd(tmp_path, monkeypatch, f"echo throttled={flags}")
    assert health.throttled(tmp_path) == words


@pytest.mark.parametrize("soc", ["soc/soc:firmware", "soc@107c000000/soc@107c000000:firmware"])
def test_throttling_without_vcgencmd_comes_from_the_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, soc: str
) -> None:
    monkeypatch.setenv("PATH", "")
    trees.plant(
        tmp_path, f"sys/devices/platform/{soc}", {"get_throttled": "50005"}
    )  # hexadecimal, without 0x
    assert health.throttled(tmp_path) == ["under-voltage", "throttled"]


def test_throttling_of_a_firmware_that_may_not_be_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trees.vcgencmd(tmp_path, monkeypatch, "echo 'Can not open /dev/vcio: Permission denied' >&2; exit 1")
    trees.plant(tmp_path, "sys/class/hwmon", trees.PI_HWMON)
    assert health.throttled(tmp_path) == []
    trees.plant(tmp_path, "sys/class/hwmon", {"hwmon1/in0_lcrit_alarm": "1"})
    assert health.throttled(tmp_path) == ["under-voltage"]


@pytest.mark.parametrize(
    ("kind", "state", "words"),
    [("thermal-cpufreq-0", "2", ["slowed down by heat"]), ("Processor", "0", []), ("pwm-fan", "3", [])],
)
def test_heat_that_slows_other_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, state: str, words: list[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    trees.plant(
        tmp_path, "sys/class/thermal/cooling_device0", {"type": kind, "cur_state": state, "max_state": "4"}
    )
    assert health.throttled(tmp_path) == words


def test_machine_asks_the_firmware_once_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = trees.vcgencmd(tmp_path, monkeypatch, "echo throttled=0x1")
    clock = trees.Clock()
    machine = health.Machine(trees.board(tmp_path, "Raspberry Pi 4 Model B Rev 1.5"), clock)
    for _ in range(13):
        report = machine.report()
        clock.now_s += 5
    assert log.read_text().split() == ["get_throttled"] * 2
    assert report == {
        "board": "Raspberry Pi 4 Model B Rev 1.5",
        "temperature_c": None,
        "throttled": ["under-voltage"],
    }


def test_firmware_that_hangs_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "VCGENCMD_TIMEOUT_S", 0.1)
    trees.vcgencmd(tmp_path, monkeypatch, "exec /bin/sleep 60")
    start = time.monotonic()
    assert health.throttled(tmp_path) == []
    assert time.monotonic() - start < 5


def test_this_machine_has_a_name_and_a_load() -> None:
    assert health.Machine().report()["board"]
    cores = health.Load().cores()
    assert cores is not None
    assert 0 <= cores <= 4096
