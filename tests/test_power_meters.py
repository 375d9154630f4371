"""Meters of power on fake machines: figure, absence, or why there is none; and the table of boards."""

from pathlib import Path

import pytest
import trees

from kws.power.boards import BOARDS, find_board
from kws.power.figure import MeterError
from kws.power.hwmon import Hwmon
from kws.power.pmic import Pmic, rails_w
from kws.power.supply import Supply


def test_ina219_is_read_among_other_chips(tmp_path: Path) -> None:
    trees.plant(tmp_path, "sys/class/hwmon", trees.PI_HWMON)
    figure = Hwmon(trees.hwmon(tmp_path, 3, trees.INA219)).read(0)
    assert figure is not None
    assert (figure.watts, figure.kind) == (2.09, "measured-board")
    assert figure.basis == "ina219 (hwmon3)"


def test_current_the_other_way_round_is_power_all_the_same(tmp_path: Path) -> None:
    figure = Hwmon(trees.hwmon(tmp_path, 2, trees.INA219_ON_A_BATTERY)).read(0)
    assert figure is not None
    assert figure.watts == 0.176
    without_power = {k: v for k, v in trees.INA219_ON_A_BATTERY.items() if k != "power1_input"}
    (tmp_path / "sys/class/hwmon/hwmon2/power1_input").unlink()
    figure = Hwmon(trees.hwmon(tmp_path, 2, without_power)).read(0)
    assert figure is not None
    assert figure.watts == pytest.approx(4.228 * 0.040)


@pytest.mark.parametrize(
    "files", [{"name": "amdgpu", "power1_average": "9000000"}, trees.PI_HWMON, {"name": "ina219"}]
)
def test_chips_that_are_no_board_meter_are_left_alone(tmp_path: Path, files: dict[str, str]) -> None:
    assert Hwmon(trees.hwmon(tmp_path, 0, files)).read(0) is None


INA3221 = {
    "name": "ina3221",
    **{"in1_label": "VDD_IN", "in1_input": "5000", "curr1_input": "1000"},
    **{"in2_label": "VDD_CPU", "in2_input": "5000", "curr2_input": "200"},
    **{"in3_label": "VDD_SOC", "in3_input": "5000", "curr3_input": "300"},
}


@pytest.mark.parametrize(
    ("meter", "watts", "basis"),
    [
        (None, 5.0, "ina3221 (VDD_IN), the highest of 4 meters"),
        ("VDD_CPU", 1.0, "ina3221 (VDD_CPU)"),
        ("ina219", 2.09, "ina219 (hwmon10)"),
    ],
)
def test_of_several_meters_the_named_or_the_highest(
    tmp_path: Path, meter: str | None, watts: float, basis: str
) -> None:
    trees.hwmon(tmp_path, 2, INA3221)
    figure = Hwmon(trees.hwmon(tmp_path, 10, trees.INA219), meter).read(0)
    assert figure is not None
    assert (figure.watts, figure.basis) == (watts, basis)


def test_a_chip_can_be_named_that_is_not_in_the_list(tmp_path: Path) -> None:
    trees.hwmon(tmp_path, 0, {"name": "newchip", "power1_input": "1500000"})
    figure = Hwmon(tmp_path, "newchip").read(0)
    assert figure is not None
    assert figure.watts == 1.5
    with pytest.raises(MeterError, match="no meter 'typo'"):
        Hwmon(tmp_path, "typo").read(0)


def test_energy_counter_of_a_chip_is_a_mean(tmp_path: Path) -> None:
    chip = {"name": "ina238", "power1_input": "3000000", "energy1_input": "50000000"}
    meter = Hwmon(trees.hwmon(tmp_path, 0, chip))
    first = meter.read(0)
    trees.hwmon(tmp_path, 0, chip | {"energy1_input": "75000000"})
    second = meter.read(10)
    trees.hwmon(tmp_path, 0, chip | {"energy1_input": "0"})  # reset: the power of the moment stands in
    third = meter.read(20)
    assert [(f.watts, f.is_mean) for f in (first, second, third) if f] == [
        (3.0, False),
        (2.5, True),
        (3.0, False),
    ]


def test_meter_that_shows_nothing_is_doubted(tmp_path: Path) -> None:
    with pytest.raises(MeterError, match="connected"):
        Hwmon(trees.hwmon(tmp_path, 0, trees.INA219 | {"power1_input": "0"})).read(0)


def test_pmic_of_a_real_pi_5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trees.vcgencmd(tmp_path, monkeypatch, f"/bin/cat <<'E'\n{trees.PMIC}E")
    figure = Pmic(trees.board(tmp_path, "Raspberry Pi 5 Model B Rev 1.0")).read(0)
    assert figure is not None
    assert figure.kind == "measured-board"
    assert figure.watts == pytest.approx(1.1451 * 7.2398 + 0.5879, abs=1e-3)
    assert "12 rails 7.24 W" in figure.basis


def test_rails_are_paired_by_name_and_only_whole_pairs_count() -> None:
    rails = rails_w(trees.PMIC)
    assert sum(rails.values()) == pytest.approx(7.2398, abs=1e-4)
    assert len(rails) == 12
    assert not {"EXT5V", "BATT"} & set(rails)
    lines = trees.PMIC.replace("0V8_SW_", "0V8_SYS_").splitlines()  # as early firmware names it, in any order
    assert rails_w("\n".join(reversed(lines))) == pytest.approx(
        {name.replace("0V8_SW", "0V8_SYS"): watts for name, watts in rails.items()}
    )
    assert "1V8_SYS" not in rails_w(trees.PMIC.replace("=0.18054710A", "=nanA"))
    assert "HDMI" not in rails_w(trees.PMIC.replace("      HDMI_V volt(23)=5.08664000V\n", ""))
    assert rails_w("") == rails_w("garbage\nVDD_CORE_A current(7)=\n") == {}


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo 'error=1 error_msg=\"Command not registered\"'", "Command not registered"),
        ("echo 'VCHI initialization failed' >&2; exit 255", "initialization failed.*group video"),
        ("exit 0", "no answer"),
        ("echo '  VDD_CORE_A current(7)=nanA'", "no power of VDD_CORE"),
    ],
)
def test_pmic_that_does_not_answer_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, why: str
) -> None:
    trees.vcgencmd(tmp_path, monkeypatch, script)
    with pytest.raises(MeterError, match=why):
        Pmic(trees.board(tmp_path, "Raspberry Pi Compute Module 5 Rev 1.0")).read(0)


def test_other_boards_are_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = trees.vcgencmd(tmp_path, monkeypatch, "echo 'error=1'")
    assert Pmic(trees.board(tmp_path, "Raspberry Pi 4 Model B Rev 1.5")).read(0) is None
    assert log.read_text() == ""


@pytest.mark.parametrize("current_ua", [-401_000, 401_000])
def test_battery_feeds_when_it_discharges_whatever_its_sign(tmp_path: Path, current_ua: int) -> None:
    trees.supply(
        tmp_path,
        "ups",
        type="Battery",
        status="Discharging",
        voltage_now=3_912_000,
        current_now=current_ua,
        capacity=83,
    )
    figure = Supply(tmp_path).read(0)
    assert figure is not None
    assert figure.watts == pytest.approx(3.912 * 0.401)
    assert (figure.kind, figure.basis) == ("measured-board", "power_supply ups")


@pytest.mark.parametrize("status", ["Charging", "Full", "Not charging", "Unknown"])
def test_battery_that_does_not_discharge_says_nothing_of_the_machine(tmp_path: Path, status: str) -> None:
    trees.supply(tmp_path, "ups", type="Battery", status=status, voltage_now=4_100_000, current_now=900_000)
    with pytest.raises(MeterError, match="ups is not discharging"):
        Supply(tmp_path).read(0)


def test_input_counts_unless_a_battery_charges_from_it(tmp_path: Path) -> None:
    trees.supply(tmp_path, "axp20x-usb", type="USB", online=1, voltage_now=5_000_000, current_now=500_000)
    trees.supply(tmp_path, "ac", type="Mains", online=1)
    figure = Supply(tmp_path).read(0)
    assert figure is not None
    assert figure.watts == 2.5
    trees.supply(
        tmp_path,
        "axp20x-battery",
        type="Battery",
        status="Charging",
        voltage_now=4_000_000,
        current_now=250_000,
    )
    with pytest.raises(MeterError):
        Supply(tmp_path).read(0)
    trees.supply(tmp_path, "axp20x-battery", status="Discharging")  # the input is too weak: both feed
    figure = Supply(tmp_path).read(0)
    assert figure is not None
    assert figure.watts == 3.5


@pytest.mark.parametrize(
    ("name", "files"),
    [
        (
            "ucsi-source-psy-USBC000:001",
            {"type": "USB", "online": 1, "voltage_now": 20_000_000, "current_now": 3_250_000},
        ),
        (
            "tcpm-source-psy-4-0022",
            {"type": "USB", "online": 1, "voltage_now": 5_000_000, "current_now": 3_000_000},
        ),
        ("usb", {"type": "USB", "online": 0, "voltage_now": 5_000_000, "current_now": 100_000}),
        ("hidpp_battery_0", {"type": "Battery", "scope": "Device", "status": "Discharging", "power_now": 9}),
        ("ac", {"type": "Mains", "online": 1}),
    ],
)
def test_what_is_no_measurement_of_the_machine_is_left_out(
    tmp_path: Path, name: str, files: dict[str, object]
) -> None:
    trees.supply(tmp_path, name, **files)
    assert Supply(tmp_path).read(0) is None


def test_every_board_of_the_table_is_sourced_and_sane() -> None:
    assert len({row.name for row in BOARDS}) == len(BOARDS)
    for row in BOARDS:
        assert "https://" in row.source
        assert 0.2 < row.idle_w < row.load_w < 20
        assert row.watts_per_core == pytest.approx((row.load_w - row.idle_w) / row.cores)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("Raspberry Pi Zero 2 W Rev 1.0", "Raspberry Pi Zero 2 W"),
        ("Raspberry Pi 3 Model B Rev 1.2", "Raspberry Pi 3 Model B"),
        ("Raspberry Pi 3 Model B Plus Rev 1.3", "Raspberry Pi 3 Model B Plus"),
        ("Raspberry Pi 5 Model B Rev 1.1", "Raspberry Pi 5 Model B"),
        ("Raspberry Pi 500 Rev 1.0", "Raspberry Pi 500"),
        ("Raspberry Pi 5", None),
        ("Raspberry Pi 3 Model Bx", None),
        ("", None),
    ],
)
def test_board_is_found_by_its_whole_name(model: str, name: str | None) -> None:
    found = find_board(model)
    assert (found.name if found else None) == name
