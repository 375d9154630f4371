"""Log-mel features against their definition, in any cut."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kws.errors import AudioError, ConfigError
from kws.features import FeatureSettings, LogMel, hann_window, mel_matrix

SETTINGS = FeatureSettings()
WINDOW, HOP = 400, 160


def test_window_and_hop_are_in_samples():
    assert (SETTINGS.window_samples, SETTINGS.hop_samples) == (WINDOW, HOP)


def test_frames_equal_the_definition(notes):
    """Written out once more, slowly and in double precision."""
    frames = LogMel(SETTINGS).feed(notes)
    mel = mel_matrix(SETTINGS).astype(np.float64)
    for i in range(0, len(frames), 17):
        windowed = notes[i * HOP : i * HOP + WINDOW].astype(np.float64) * hann_window(SETTINGS)
        power = np.abs(np.fft.rfft(windowed, SETTINGS.fft_size)) ** 2
        np.testing.assert_allclose(frames[i], np.log10(1 + power @ mel), atol=2e-4)


def test_silence_is_exactly_zero_and_loud_noise_stays_below_ten_bel():
    assert not LogMel(SETTINGS).feed(np.zeros(16_000, np.int16)).any()
    square = np.where(np.arange(16_000) % 40 < 20, 32767, -32768).astype(np.int16)
    noise = np.random.default_rng(0).choice([-1, 1], 16_000).astype(np.float32)
    for loud in (square, noise):
        frames = LogMel(SETTINGS).feed(loud)
        assert frames.min() >= 0
        assert frames.mean() < 10


@pytest.mark.parametrize("tone_hz", [200, 440, 1000, 3000, 7000])
def test_tone_is_loudest_in_its_band(tone_hz):
    tone = np.sin(2 * np.pi * tone_hz * np.arange(8000) / 16_000).astype(np.float32)
    loudest = int(LogMel(SETTINGS).feed(tone).mean(axis=0).argmax())
    response = mel_matrix(SETTINGS)[round(tone_hz / 16_000 * SETTINGS.fft_size)]
    assert abs(loudest - int(response.argmax())) <= 1


@given(st.lists(st.integers(0, 9_000), max_size=12))
def test_any_cut_gives_the_same_bits(notes, cuts):
    stream = LogMel(SETTINGS)
    parts = [stream.feed(part) for part in np.split(notes[:9_000], sorted(cuts))]
    np.testing.assert_array_equal(np.concatenate(parts), LogMel(SETTINGS).feed(notes[:9_000]))


def test_int16_and_float32_give_the_same_bits(notes):
    as_int16 = (notes * 32768).astype(np.int16)
    as_float32 = as_int16.astype(np.float32) / np.float32(32768)
    np.testing.assert_array_equal(LogMel(SETTINGS).feed(as_int16), LogMel(SETTINGS).feed(as_float32))


def test_strided_samples_are_heard_as_they_are(notes):
    stereo = np.stack([notes, -notes], axis=1)
    np.testing.assert_array_equal(LogMel(SETTINGS).feed(stereo[:, 0]), LogMel(SETTINGS).feed(notes))


def test_frames_come_in_whole_blocks_as_soon_as_they_can():
    needed = WINDOW + 7 * HOP
    stream = LogMel(SETTINGS)
    assert len(stream.feed(np.zeros(needed - 1, np.int16))) == 0
    assert len(stream.feed(np.zeros(1, np.int16))) == 8
    assert len(stream.feed(np.zeros(8 * HOP - 1, np.int16))) == 0
    assert len(stream.feed(np.zeros(1 + 8 * HOP, np.int16))) == 16


@pytest.mark.parametrize(
    ("count", "blocks"), [(0, 0), (WINDOW - HOP, 0), (WINDOW - HOP + 1, 1), (1519, 1), (1520, 1), (1521, 2)]
)
def test_flush_fills_the_last_block_with_silence(count, blocks):
    samples = np.random.default_rng(0).standard_normal(count).astype(np.float32)
    stream = LogMel(SETTINGS)
    frames = np.concatenate([stream.feed(samples), stream.flush()])
    padded = np.concatenate([samples, np.zeros(2000, np.float32)])
    assert len(frames) == 8 * blocks
    np.testing.assert_array_equal(frames, LogMel(SETTINGS).feed(padded)[: len(frames)])
    assert len(stream.flush()) == 0


def test_reset_forgets_carried_samples(notes):
    stream = LogMel(SETTINGS)
    stream.feed(notes[:1000])
    stream.reset()
    np.testing.assert_array_equal(stream.feed(notes), LogMel(SETTINGS).feed(notes))


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros((10, 1), np.int16),
        np.zeros(10, np.float64),
        np.zeros(10, np.int32),
        np.array([np.nan], np.float32),
        np.array([-np.inf], np.float32),
    ],
)
def test_samples_that_cannot_be_heard_are_refused(samples):
    with pytest.raises(AudioError, match="; "):
        LogMel(SETTINGS).feed(samples)


@pytest.mark.parametrize(
    "wrong",
    [
        {"high_hz": 8001.0},
        {"low_hz": 7600.0},
        {"low_hz": -1.0},
        {"fft_size": 256},
        {"hop_ms": 26},
        {"hop_ms": 0},
    ],
)
def test_settings_that_cannot_work_are_refused(wrong):
    with pytest.raises(ConfigError, match="; "):
        replace(SETTINGS, **wrong)


def test_every_band_hears_something():
    assert (mel_matrix(SETTINGS).max(axis=0) > 0).all()
