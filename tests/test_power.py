"""Power on whole fake machines: which figure is told, of which kind, and why not a better one."""

import json
import math
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import get_args

import pytest
import trees
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kws import health
from kws.config import parse
from kws.errors import ConfigError
from kws.power import Power, PowerSettings
from kws.power.figure import Kind
from kws.power.pmic import GAIN, OFFSET_W
from kws.power.rapl import RULE

ZERO_2_W = "Raspberry Pi Zero 2 W Rev 1.0"


@dataclass(frozen=True)
class Settings:
    """As the daemon's settings hold it."""

    power: PowerSettings = field(default_factory=PowerSettings)


@pytest.fixture
def clock() -> trees.Clock:
    return trees.Clock()


def test_board_without_a_meter_is_estimated_from_the_table(tmp_path: Path, clock: trees.Clock) -> None:
    trees.load(trees.board(tmp_path, ZERO_2_W), busy_s=200, idle_s=3800)
    report = Power(root=tmp_path, clock=clock).report(cpu_s_per_s=0.01)
    # 5 % of 4 cores are 0.2 busy cores; a busy core adds (2.3 - 0.5) / 4 = 0.45 W.
    assert report["machine"]["watts"] == pytest.approx(0.5 + 0.2 * 0.45)
    assert report["daemon"]["watts"] == pytest.approx(0.01 * 0.45)
    assert report["machine"]["kind"] == report["daemon"]["kind"] == "estimated"
    assert report["energy_per_day_wh"] == pytest.approx({"daemon": 24 * 0.0045, "machine": 24 * 0.59})
    assert report["reason"] == f"no meter; estimated from CPU time for {ZERO_2_W}"
    assert "jeffgeerling.com" in report["daemon"]["basis"]
    assert json.loads(json.dumps(report)) == report


def test_estimate_follows_the_load_of_the_last_seconds(tmp_path: Path, clock: trees.Clock) -> None:
    trees.load(trees.board(tmp_path, ZERO_2_W), busy_s=0, idle_s=4000)
    power = Power(root=tmp_path, clock=clock)
    assert power.report(0.0)["machine"]["watts"] == 0.5
    trees.load(tmp_path, busy_s=40, idle_s=4000)  # ten seconds of everything
    clock.now_s += 1
    assert power.report(0.0)["machine"]["watts"] == 0.5  # asked again too soon
    clock.now_s += 9
    assert power.report(0.0)["machine"]["watts"] == pytest.approx(2.3)


def test_meter_measures_the_board_and_the_table_the_daemon(tmp_path: Path, clock: trees.Clock) -> None:
    trees.load(trees.board(tmp_path, ZERO_2_W), 200, 3800)
    report = Power(root=trees.hwmon(tmp_path, 3, trees.INA219), clock=clock).report(0.01)
    assert (report["machine"]["watts"], report["machine"]["kind"]) == (2.09, "measured-board")
    assert (report["daemon"]["watts"], report["daemon"]["kind"]) == (pytest.approx(0.0045), "estimated")
    assert report["reason"] == "measured by ina219 (hwmon3)"


def test_meter_that_vanishes_and_returns(tmp_path: Path, clock: trees.Clock) -> None:
    trees.load(trees.board(tmp_path, ZERO_2_W), 200, 3800)
    trees.hwmon(tmp_path, 3, trees.INA219)
    power = Power(root=tmp_path, clock=clock)
    kinds = [power.report(0.01)["machine"]["kind"]]
    chip = tmp_path / "sys/class/hwmon/hwmon3"
    chip.rename(tmp_path / "unplugged")
    clock.now_s += 10
    kinds.append(power.report(0.01)["machine"]["kind"])
    (tmp_path / "unplugged").rename(chip)
    clock.now_s += 10
    kinds.append(power.report(0.01)["machine"]["kind"])
    assert kinds == ["measured-board", "estimated", "measured-board"]


def test_useless_meter_is_named_and_the_next_best_taken(tmp_path: Path, clock: trees.Clock) -> None:
    trees.load(trees.board(tmp_path, ZERO_2_W), 200, 3800)
    trees.hwmon(tmp_path, 3, trees.INA219 | {"power1_input": "0"})
    trees.supply(tmp_path, "ups", type="Battery", status="Discharging", power_now=1_200_000)
    report = Power(root=tmp_path, clock=clock).report(0.01)
    assert report["machine"]["watts"] == 1.2
    assert report["reason"].startswith("measured by power_supply ups; ina219 (hwmon3) shows 0 W")


def test_pi_5_is_asked_once_a_minute(
    tmp_path: Path, clock: trees.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = trees.vcgencmd(tmp_path, monkeypatch, f"/bin/cat <<'E'\n{trees.PMIC}E")
    trees.load(trees.board(tmp_path, "Raspberry Pi 5 Model B Rev 1.0"), 200, 3800)
    power = Power(root=tmp_path, clock=clock)
    for _ in range(13):  # at 0, 5, ... 60 s
        report = power.report(0.01)
        clock.now_s += 5
    assert log.read_text().split() == ["pmic_read_adc"] * 2
    assert (report["machine"]["watts"], report["machine"]["kind"]) == (
        pytest.approx(8.878, abs=1e-3),
        "measured-board",
    )
    assert report["daemon"]["watts"] == pytest.approx(0.01 * (9.8 - 3.3) / 4)


def test_x86_learns_what_the_daemon_takes_from_its_own_counter(tmp_path: Path, clock: trees.Clock) -> None:
    trees.plant(tmp_path, "proc", {"cpuinfo": "processor\t: 0\nmodel name\t: Some Chip N100\n"})
    power, joules, busy_s, idle_s = Power(root=tmp_path, clock=clock), 0.0, 0.0, 0.0
    reports = []
    for cores in [0.1, 0.4, 0.2, 1.0, 0.1] * 5:
        trees.rapl(tmp_path, {"intel-rapl:0": ("package-0", round(1e6 * joules))})
        trees.load(tmp_path, busy_s, idle_s)
        reports.append(power.report(0.02))
        clock.now_s += 60
        joules += 60 * (6.0 + 5.0 * cores)  # 6 W idle, 5 W for a busy core
        busy_s, idle_s = busy_s + 60 * cores, idle_s + 60 * (4 - cores)
    assert reports[0]["machine"]["kind"] == "unavailable"
    assert "first time" in reports[0]["reason"]
    assert reports[1]["machine"]["kind"] == "measured-package"
    assert reports[1]["daemon"]["kind"] == "unavailable"
    assert "being learned" in reports[1]["daemon"]["basis"]
    assert reports[-1]["machine"]["watts"] == pytest.approx(6.0 + 5.0 * 1.0)
    assert reports[-1]["daemon"]["kind"] == "measured-package"
    assert reports[-1]["daemon"]["watts"] == pytest.approx(0.02 * 5.0, rel=1e-3)


def test_unknown_machine_has_no_figure_and_says_what_to_do(tmp_path: Path, clock: trees.Clock) -> None:
    trees.plant(tmp_path, "proc", {"cpuinfo": "model name\t: AMD EPYC\n"})
    report = Power(root=tmp_path, clock=clock).report(0.01)
    assert report["machine"]["watts"] is report["daemon"]["watts"] is None
    assert report["machine"]["kind"] == report["daemon"]["kind"] == "unavailable"
    assert report["energy_per_day_wh"] == {"daemon": None, "machine": None}
    assert report["reason"] == (
        "no meter, and no figures for AMD EPYC; set power.idle_w and power.load_w, or connect an INA219"
    )


def test_own_measurements_replace_the_table(tmp_path: Path, clock: trees.Clock) -> None:
    settings = parse({"idle_w": 3, "load_w": 7}, PowerSettings)
    trees.load(tmp_path, busy_s=100, idle_s=100, processors=2)
    report = Power(settings, tmp_path, clock).report(0.1)
    assert report["machine"]["watts"] == pytest.approx(3 + 1 * 2)  # half of two cores, 2 W each
    assert report["daemon"]["watts"] == pytest.approx(0.1 * 2)
    assert "power.idle_w" in report["daemon"]["basis"]


@pytest.mark.parametrize(
    "changed", [{"idle_w": 1}, {"load_w": 1}, {"idle_w": 2, "load_w": 1}, {"idle_w": 0, "load_w": 1}]
)
def test_half_or_reversed_measurements_are_refused(changed: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"power\.idle_w"):
        parse({"power": changed}, Settings)


def test_hidden_proc_gives_no_figure(tmp_path: Path, clock: trees.Clock) -> None:
    report = Power(root=trees.board(tmp_path, ZERO_2_W), clock=clock).report(None)
    assert report["machine"]["basis"] == "/proc/stat does not tell how busy the machine is"
    assert report["daemon"]["basis"] == "no CPU time was measured yet"


def test_energy_of_a_day_is_the_mean_over_time(tmp_path: Path, clock: trees.Clock) -> None:
    power = Power(root=trees.board(tmp_path, ZERO_2_W), clock=clock)
    for cpu, seconds in [(0.01, 30), (0.01, 10), (0.03, 20), (0.03, 0)]:
        report = power.report(cpu)
        clock.now_s += seconds
    # 30 s at 0.01, 10 s from 0.01 to 0.03, 20 s at 0.03 make a mean of 0.0183; 0.45 W a busy core
    mean_w = 0.45 * (30 * 0.01 + 10 * 0.02 + 20 * 0.03) / 60
    assert report["energy_per_day_wh"]["daemon"] == pytest.approx(24 * mean_w, rel=1e-5)


def test_energy_starts_anew_when_the_kind_changes(tmp_path: Path, clock: trees.Clock) -> None:
    trees.load(trees.board(tmp_path, ZERO_2_W), 0, 4000)
    power = Power(root=tmp_path, clock=clock)
    power.report(0.0)
    clock.now_s += 60
    trees.hwmon(tmp_path, 0, trees.INA219)
    assert power.report(0.0)["energy_per_day_wh"]["machine"] == pytest.approx(24 * 2.09)


NUMBERS = st.integers(-(2**70), 2**70).map(str) | st.sampled_from(
    ["", "nan", "1e9", "-0", "0x1", "Discharging"]
)
FILES = (
    *(
        f"sys/class/hwmon/hwmon0/{name}"
        for name in ("power1_input", "in1_input", "curr1_input", "energy1_input")
    ),
    *(
        f"sys/class/power_supply/a/{name}"
        for name in ("status", "power_now", "voltage_now", "current_now", "online")
    ),
    *(f"sys/class/powercap/intel-rapl:0/{name}" for name in ("energy_uj", "max_energy_range_uj")),
    *(f"sys/class/thermal/thermal_zone0/{name}" for name in ("type", "temp")),
    "proc/stat",
)


@given(
    texts=st.lists(st.fixed_dictionaries({name: NUMBERS | st.text(max_size=9) for name in FILES}), max_size=3)
)
def test_whatever_the_kernel_says_there_is_a_sober_answer(texts: list[dict[str, str]]) -> None:
    clock = trees.Clock()
    with tempfile.TemporaryDirectory() as folder:
        root = trees.board(Path(folder), ZERO_2_W)
        trees.hwmon(root, 0, {"name": "ina238"})
        trees.rapl(root, {"intel-rapl:0": ("package-0", 5)})
        trees.supply(root, "a", type="Battery", status="Discharging")
        power, machine = Power(root=root, clock=clock), health.Machine(root, clock)
        for files in texts:
            for name, text in files.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(text, encoding="utf-8", errors="replace")
            for figure in (power.report(0.01)["machine"], power.report(0.01)["daemon"]):
                assert (figure["watts"] is None) == (figure["kind"] == "unavailable")
                assert figure["watts"] is None or 0 <= figure["watts"] < math.inf
            machine.report()
            clock.now_s += 60


def test_document_names_every_kind_setting_and_the_rule() -> None:
    root = Path(__file__).parent.parent
    text = (root / "docs/power.md").read_text(encoding="utf-8")
    assert all(f"| `{kind}` |" in text for kind in get_args(Kind))
    section = yaml.safe_load(re.search(r"```yaml\n(.*?)```", text, re.DOTALL).group(1))
    assert parse(section, Settings) == Settings()
    assert set(section["power"]) == {field.name for field in fields(PowerSettings)}
    assert f"service/{RULE}" in text
    assert re.search(rf"{GAIN} .*\+ {OFFSET_W} W", text)
    assert (root / "service" / RULE).exists()


def test_this_machine_answers_something() -> None:
    report = Power().report(0.01)
    assert report["machine"]["kind"] in ("measured-board", "measured-package", "estimated", "unavailable")
    assert report["reason"]


def test_power_and_health_load_no_library() -> None:
    code = "import sys, kws.power, kws.health, kws.prometheus; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "yaml", "onnxruntime", "sounddevice"} & set(done.stdout.split())
