"""Being muted outlives a restart, and never ends by accident."""

import logging
import math
import time

import pytest

from kws.daemon.mute import FILE, Mute


def test_lasts_over_a_restart_until_it_is_taken_back(tmp_path):
    Mute(tmp_path).begin(None)
    again = Mute(tmp_path)
    assert again.left_s == math.inf
    again.end()
    assert Mute(tmp_path).left_s == 0
    assert list(tmp_path.iterdir()) == []


def test_ends_by_itself(tmp_path):
    Mute(tmp_path).begin(60)
    assert 59 < Mute(tmp_path).left_s <= 60
    Mute(tmp_path).begin(1e-9)
    assert Mute(tmp_path).left_s == 0


@pytest.mark.parametrize("jump_s", [-86_400, 86_400])
def test_clock_that_jumps_does_not_unmute(tmp_path, monkeypatch, jump_s):
    mute = Mute(tmp_path)
    mute.begin(60)
    now_s = time.time()
    monkeypatch.setattr("kws.daemon.mute.time.time", lambda: now_s + jump_s)
    assert 59 < mute.left_s <= 60
    assert Mute(tmp_path).left_s <= 60  # started before the clock was set: no longer than was asked for
    assert (Mute(tmp_path).left_s > 0) is (jump_s < 0)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"until_s": "soon", "seconds": 1}', '{"until": 1}'])
def test_damaged_file_stays_muted(tmp_path, content, caplog):
    (tmp_path / FILE).write_text(content)
    assert Mute(tmp_path).left_s == math.inf
    assert "kws unmute" in caplog.text


def test_folder_that_cannot_be_written_costs_a_warning(read_only, caplog):
    with caplog.at_level(logging.WARNING):
        mute = Mute(read_only)
        mute.begin(60)
    assert mute.left_s > 59
    assert "a restart would unmute" in caplog.text
    mute.end()
    assert mute.left_s == 0


def test_full_disk_leaves_no_half_file(small_disk, caplog):
    (small_disk / "fill").write_bytes(bytes(60_000))
    with pytest.raises(OSError, match="No space"):
        (small_disk / "more").write_bytes(bytes(60_000))
    Mute(small_disk).begin(60)
    assert not (small_disk / FILE).exists()
    assert "a restart would unmute" in caplog.text
