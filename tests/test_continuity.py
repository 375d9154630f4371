"""Gaps are found by the clock, and nothing else is taken for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kws.daemon.continuity import Continuity
from kws.daemon.flat_line import FlatLine
from kws.daemon.lookout import Lookout

RATE_HZ, BLOCK = 16_000, 1280
NOISE_S = 0.015  # how late a read returns


def gaps(steps, ppm=0.0, rate_hz=RATE_HZ, block=BLOCK):
    """Gaps found in a stream of reads, each being (seconds of noise, frames lost before, frames waiting)."""
    continuity, found, device = Continuity(rate_hz, block), [], 0
    for number, (noise_s, lost, waiting) in enumerate(steps):
        device += block + lost
        time_s = 100 + (device + waiting) / (rate_hz * (1 + ppm * 1e-6)) + noise_s
        if gap := continuity.feed(block, waiting, time_s):
            found.append((number, gap))
    return found


noise = st.floats(0, NOISE_S)
calm = st.lists(st.tuples(noise, st.just(0), st.integers(0, 8000)), min_size=1, max_size=60)


@given(calm, st.floats(-500, 500))
def test_noise_backlog_and_drift_are_no_gap(steps, ppm):
    assert gaps(steps, ppm) == []


@pytest.mark.parametrize("ppm", [-500, -50, 50, 500])
def test_an_hour_of_drift_is_no_gap(ppm):
    assert gaps([(0.0, 0, 0)] * 45_000, ppm) == []


@given(
    calm, st.integers(BLOCK, 10 * RATE_HZ), st.lists(noise, min_size=12, max_size=20), st.floats(-200, 200)
)
def test_a_loss_is_one_gap_of_its_length_within_a_second(before, lost, after, ppm):
    steps = [*before, (after[0], lost, 0), *((late, 0, 0) for late in after[1:])]
    ((number, gap),) = gaps(steps, ppm)
    assert number == len(before) + 11
    assert gap == pytest.approx(lost, abs=2 * NOISE_S * RATE_HZ)


@given(st.lists(noise, min_size=1, max_size=9), st.integers(2, 9))
def test_audio_that_is_only_late_is_no_gap(before, late_blocks):
    """One read returns late; what queued up meanwhile waits behind it."""
    waiting = [(0.0, 0, BLOCK * n) for n in reversed(range(late_blocks))]
    assert gaps([*((late, 0, 0) for late in before), *waiting, (0.0, 0, 0)]) == []


@given(st.lists(st.integers(1, 4), min_size=1, max_size=40))
def test_audio_that_comes_in_pieces_of_several_blocks_is_no_gap(pieces):
    """A read of the first block of a piece leaves the others waiting."""
    steps = [(0.0, 0, BLOCK * left) for blocks in pieces for left in reversed(range(blocks))]
    assert gaps(steps) == []


def test_a_server_that_holds_more_than_the_buffer_shows_has_lost_nothing():
    steps = [(0.0, 0, 0)] * 5 + [(1.0, 0, 6 * BLOCK)] * 10 + [(0.0, 0, 2 * BLOCK), (0.0, 0, BLOCK)]
    assert gaps(steps + [(0.0, 0, 0)] * 19) == []


def test_a_reader_that_is_always_late_loses_all_the_same():
    steps = [(0.0, 0, 0)] * 5 + [(0.0, BLOCK, 6 * BLOCK)] * 300
    assert sum(gap for _, gap in gaps(steps)) == pytest.approx(300 * BLOCK, rel=0.05)


def test_small_losses_add_up():
    steps = ([(0.0, 0, 0)] * 20 + [(0.0, 300, 0)]) * 10 + [(0.0, 0, 0)] * 20
    assert sum(gap for _, gap in gaps(steps)) == pytest.approx(10 * 300, abs=700)


def test_flat_line_asks_ever_more_rarely():
    line = FlatLine(10)
    asked = [second for second in range(300) if line.feed(is_flat=True, seconds=1)]
    assert asked == [9, 29, 69, 129, 189, 249]
    assert line.is_silent
    assert not line.feed(is_flat=False, seconds=1)
    assert not line.is_silent
    assert [second for second in range(15) if line.feed(is_flat=True, seconds=1)] == [9]


def test_flat_line_of_limit_zero_is_never_silent():
    line = FlatLine(0)
    assert not any(line.feed(is_flat=True, seconds=100) for _ in range(100))
    assert not line.is_silent


def test_lookout_is_eager_at_first_then_waits_for_a_sound_server(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    lookout = Lookout()
    now_s = lookout._looked_s
    assert lookout.wants_look(now_s)
    long_ago_s = now_s - 3600
    assert not lookout.wants_look(long_ago_s)
    (tmp_path / "pulse").mkdir()
    (tmp_path / "pulse/native").touch()
    assert lookout.wants_look(long_ago_s)
    assert not lookout.wants_look(long_ago_s)
    (tmp_path / "pulse/native").unlink()
    assert lookout.wants_look(long_ago_s)
