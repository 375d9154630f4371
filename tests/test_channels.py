"""Channels of the robustness test: each does to a voice what its name says, and nothing else."""

import numpy as np
import pytest
from conftest import RATE_HZ, noise_band
from hypothesis import given
from hypothesis import strategies as st

from kws.errors import ConfigError
from kws.evaluate import channels
from kws.evaluate.channels import ChannelSettings, make_channels

WORD = (4000, 12000)


def tone(hz, seconds=1.0, peak=0.1):
    return (peak * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE_HZ)) / RATE_HZ)).astype(np.float32)


def level_db(samples):
    return 10 * np.log10(np.mean(np.square(samples, dtype=np.float64)))


@pytest.mark.parametrize(
    ("hz", "loss_db"), [(150, 60), (350, 0), (1000, 0), (3300, 0), (3600, 60), (6000, 60)]
)
def test_telephone_passes_its_band_only(hz, loss_db):
    sound = tone(hz)
    found = level_db(sound) - level_db(channels.telephone((300.0, 3400.0), RATE_HZ, sound, WORD))
    assert found > loss_db if loss_db else found == pytest.approx(0, abs=0.1)


def test_quiet_sets_the_level_of_the_word_and_keeps_sixteen_bits():
    track = tone(500) * np.r_[np.zeros(WORD[0]), np.ones(WORD[1] - WORD[0]), np.zeros(RATE_HZ - WORD[1])]
    heard = channels.quiet(-45.0, track.astype(np.float32), WORD)
    assert level_db(heard[slice(*WORD)]) == pytest.approx(-45, abs=0.1)
    assert np.array_equal(heard * 32768, np.rint(heard * 32768))


def test_overdriven_clips_what_is_over_full_scale():
    """A sine of four times full scale is cut for all but 2 asin(1/4) / pi of the time."""
    heard = channels.overdriven(12.0412, tone(50), WORD)
    assert np.abs(heard).max() == 1
    assert np.mean(np.abs(heard) == 1) == pytest.approx(1 - 2 * np.arcsin(0.25) / np.pi, abs=0.01)


def test_fast_microphone_gives_nearly_the_same_at_the_same_time():
    track = noise_band(200, 5000, 1.0)
    heard = channels.fast(48_000, RATE_HZ, track, WORD)
    common = min(len(heard), len(track))
    assert common > 0.95 * len(track)
    assert level_db(heard[:common] - track[:common]) < level_db(track) - 40


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 100))
def test_convolution_is_whole_and_linear(n, taps, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal(n).astype(np.float32), rng.standard_normal(taps).astype(np.float32)
    assert channels.convolved(a, b) == pytest.approx(np.convolve(a, b), abs=1e-4)


def test_reverberation_time_of_a_known_decay():
    """Noise that falls by 60 dB in 0.4 s."""
    t = np.arange(RATE_HZ) / RATE_HZ
    decay = np.random.default_rng(1).standard_normal(RATE_HZ) * 10 ** (-3 * t / 0.4)
    assert channels.reverberation_time_s(decay.astype(np.float32), RATE_HZ) == pytest.approx(0.4, rel=0.05)


@pytest.mark.train
def test_rooms_ring_as_long_as_they_are_called_and_move_no_word():
    pytest.importorskip("pyroomacoustics", reason="needs the train extra")
    settings = ChannelSettings(reverberation_s=(0.3,), rooms=2)
    room, *others = make_channels(settings, RATE_HZ)
    assert room.name == "far field, T60 0.3 s"
    assert [c.name for c in others] == [
        "telephone band",
        "level -45 dBFS",
        "clipped +12 dB",
        "48 kHz microphone",
    ]
    for response in room.rooms:
        assert channels.reverberation_time_s(response, RATE_HZ) == pytest.approx(0.3, rel=0.05)
        assert np.argmax(np.abs(response)) == 0
        assert np.sum(response**2) == pytest.approx(1, abs=1e-3)
    click = np.zeros(100, np.float32)
    click[40] = 1
    assert [np.argmax(np.abs(room.voice(click, seed))) for seed in (0, 1)] == [40, 40]
    assert not np.array_equal(room.voice(click, 0), room.voice(click, 1))
    assert np.array_equal(room.voice(click, 0), make_channels(settings, RATE_HZ)[0].voice(click, 2))


@pytest.mark.parametrize("wrong", [{"telephone_hz": (3400.0, 300.0)}, {"rooms": 0}, {"distance_m": 9.0}])
def test_settings_that_nothing_can_pass_are_refused(wrong):
    with pytest.raises(ConfigError, match="correct"):
        ChannelSettings(**wrong)
