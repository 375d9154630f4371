"""Energy counters: wrap-around, resets, packages and memory of RAPL, and what is learned from them."""

import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trees
from hypothesis import given
from hypothesis import strategies as st
from trees import RANGE_UJ

from kws.power.counter import PLAUSIBLE_WATTS, Counter
from kws.power.figure import MeterError
from kws.power.rapl import RULE, Rapl
from kws.power.slope import Slope

SERVICE = Path(__file__).parent.parent / "service"


@given(
    start=st.integers(0, RANGE_UJ),
    steps=st.lists(
        st.tuples(st.floats(1, 300), st.floats(0.01, PLAUSIBLE_WATTS - 1)), min_size=1, max_size=10
    ),
)
def test_counter_gives_the_true_mean_however_it_wraps(start: int, steps: list[tuple[float, float]]) -> None:
    counter, now_s, total_uj = Counter("a", RANGE_UJ), 0.0, start
    with pytest.raises(MeterError, match="first time"):
        counter.watts(now_s, total_uj)
    for seconds, watts in steps:
        now_s += seconds
        total_uj += round(1e6 * seconds * watts)
        found = counter.watts(now_s, total_uj % (RANGE_UJ + 1))
        assert found == pytest.approx(watts, abs=2e-6)


def test_counter_wraps_by_hand() -> None:
    counter = Counter("a", range_uj=999_999_999)
    with pytest.raises(MeterError):
        counter.watts(0, 999_000_000)
    assert counter.watts(1, 4_000_000) == 5.0  # 1 J up to the wrap, 4 J after it


def test_counter_that_was_reset_recovers_at_the_next_reading() -> None:
    counter = Counter("a", RANGE_UJ)
    with pytest.raises(MeterError, match="first time"):
        counter.watts(0, 200_000_000_000)
    with pytest.raises(MeterError, match="reset"):  # would be 62 kJ in 10 s
        counter.watts(10, 0)
    assert counter.watts(20, 100_000_000) == 10.0


def test_counter_without_range_never_wraps() -> None:
    counter = Counter("a")
    with pytest.raises(MeterError):
        counter.watts(0, 1_000_000)
    with pytest.raises(MeterError, match="reset"):
        counter.watts(10, 0)


@pytest.mark.parametrize(
    ("now_s", "energy_uj", "why"), [(600, 1, "wrapped"), (10, 5, "stands still"), (0, 9, "first")]
)
def test_counter_refuses_what_it_cannot_know(now_s: float, energy_uj: int, why: str) -> None:
    counter = Counter("a", RANGE_UJ)  # 262 kJ: at 500 W full after 524 s
    with pytest.raises(MeterError):
        counter.watts(0, 5)
    with pytest.raises(MeterError, match=why):
        counter.watts(now_s, energy_uj)


def test_rapl_adds_packages_and_their_memory(tmp_path: Path) -> None:
    zones = {
        "intel-rapl:0": ("package-0", 81_234_567_890),
        "intel-rapl:0:0": ("core", 1),
        "intel-rapl:0:1": ("uncore", 1),
        "intel-rapl:0:2": ("dram", 2_469_474_853),
        "intel-rapl:1": ("package-1", RANGE_UJ - 9_999_999),
        "intel-rapl:1:0": ("dram", 5),
        "intel-rapl-mmio:0": ("package-0", 7),  # the same package by another way
    }
    meter = Rapl(trees.rapl(tmp_path, zones))
    with pytest.raises(MeterError, match="first time"):
        meter.read(0)
    grown = {
        "intel-rapl:0": 120,
        "intel-rapl:0:0": 99,
        "intel-rapl:0:2": 20,
        "intel-rapl:1": 80,
        "intel-rapl:1:0": 15,
    }
    for folder, joules in grown.items():
        name, energy_uj = zones[folder]
        zones[folder] = name, (energy_uj + joules * 1_000_000) % (RANGE_UJ + 1)
    trees.rapl(tmp_path, zones)
    figure = meter.read(10)
    assert figure is not None
    assert figure.watts == pytest.approx(12 + 2 + 8 + 1.5)
    assert (figure.kind, figure.is_mean) == ("measured-package", True)
    assert figure.basis == "RAPL dram-0 + dram-1 + package-0 + package-1"


@pytest.mark.parametrize(
    ("psys_w", "kind", "watts"), [(14, "measured-board", 14), (3, "measured-package", 11)]
)
def test_rapl_platform_counts_only_if_it_can_be_the_platform(
    tmp_path: Path, psys_w: int, kind: str, watts: int
) -> None:
    def zones(second: int) -> dict[str, tuple[str, int]]:
        return {
            "intel-rapl:0": ("package-0", 10_000_000 * second),
            "intel-rapl:0:0": ("dram", 1_000_000 * second),
            "intel-rapl:1": ("psys", psys_w * 1_000_000 * second),
        }

    meter = Rapl(trees.rapl(tmp_path, zones(1)))
    with pytest.raises(MeterError):
        meter.read(1)
    trees.rapl(tmp_path, zones(11))
    figure = meter.read(11)
    assert figure is not None
    assert (figure.kind, figure.watts) == (kind, watts)


def test_rapl_of_amd_has_the_same_names(tmp_path: Path) -> None:
    zones = {"intel-rapl:0": ("package-0", 1_000_000), "intel-rapl:0:0": ("core", 1_000_000)}
    meter = Rapl(trees.rapl(tmp_path, zones, range_uj=65_532_610_987))
    with pytest.raises(MeterError):
        meter.read(0)
    trees.rapl(tmp_path, {"intel-rapl:0": ("package-0", 31_000_000)}, range_uj=65_532_610_987)
    figure = meter.read(10)
    assert figure is not None
    assert (figure.watts, figure.basis) == (3.0, "RAPL package-0")


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder that everybody may enter, and a user who is not root."""
    was = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        try:
            yield Path(folder)
        finally:
            os.seteuid(was)


def test_rapl_for_root_only_names_the_shipped_rule(unprivileged: Path) -> None:
    trees.rapl(unprivileged, {"intel-rapl:0": ("package-0", 1), "intel-rapl:0:0": ("dram", 1)})
    for counter in unprivileged.rglob("energy_uj"):
        counter.chmod(0o400 if os.geteuid() == 0 else 0)
    if os.geteuid() == 0:
        os.seteuid(65534)
    with pytest.raises(MeterError, match=RULE):
        Rapl(unprivileged).read(0)
    assert "energy_uj" in (SERVICE / RULE).read_text()


@pytest.mark.parametrize("text", ["", "soon"])
def test_rapl_with_nonsense_says_so(tmp_path: Path, text: str) -> None:
    trees.rapl(tmp_path, {"intel-rapl:0": ("package-0", 1)})
    (tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj").write_text(text)
    with pytest.raises(MeterError, match="cannot be read"):
        Rapl(tmp_path).read(0)


def test_no_rapl_is_no_complaint(tmp_path: Path) -> None:
    assert Rapl(tmp_path).read(0) is None
    assert Rapl(trees.plant(tmp_path, "sys/class/powercap/dtpm", {"enabled": "0"})).read(1) is None


def pairs(slope: Slope, cores: list[float], noise: float = 0.0) -> Slope:
    for x, sign in zip(cores, itertools.cycle((1, -1)), strict=False):
        slope.add(x, 5.0 + 7.0 * x + sign * noise)
    return slope


def test_slope_finds_what_a_core_adds() -> None:
    cores = [0.1, 0.9, 0.3, 0.2, 1.4, 0.1, 0.5] * 3
    assert pairs(Slope(), cores).watts_per_core == pytest.approx(7.0)
    assert pairs(Slope(), cores, noise=0.3).watts_per_core == pytest.approx(7.0, rel=0.1)


@pytest.mark.parametrize(
    ("cores", "noise"),
    [([0.1, 0.9] * 5, 0.0), ([0.2] * 50, 0.1), ([0.1, 0.2, 0.15] * 9, 3.0), ([1e6] * 20, 0.0)],
)
def test_slope_is_silent_while_it_does_not_know(cores: list[float], noise: float) -> None:
    assert pairs(Slope(), cores, noise).watts_per_core is None


def test_slope_forgets() -> None:
    slope = pairs(Slope(), [0.1, 0.9] * 50)
    for x in [0.1, 0.9] * 200:
        slope.add(x, 3.0 + 2.0 * x)
    assert slope.watts_per_core == pytest.approx(2.0, rel=0.02)
