"""The gain of each band against its definition, its memory, and its copy in torch."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kws.errors import ConfigError
from kws.features import FeatureSettings, LogMel
from kws.gain import GainSettings

GAIN = GainSettings(frames=20, decay=0.9)
SETTINGS = FeatureSettings(gain=GAIN)


def standing_out(samples, settings=None):
    """The second half of the frames."""
    return LogMel(settings or SETTINGS).feed(samples)[:, SETTINGS.n_mels :]


def noise(seconds, dbfs, seed=0):
    count = round(seconds * SETTINGS.sample_rate_hz)
    return (10 ** (dbfs / 20) * np.random.default_rng(seed).standard_normal(count)).astype(np.float32)


def test_frames_equal_the_definition(notes):
    """Written out once more, slowly and in double precision."""
    frames = standing_out(notes)
    power = 10 ** LogMel(SETTINGS.log_mel).feed(notes).astype(np.float64) - 1
    for i in range(0, len(frames), 13):
        recent = range(max(0, i - GAIN.frames + 1), i + 1)
        whole = sum(GAIN.decay**age for age in range(GAIN.frames))
        level = sum(GAIN.decay ** (i - j) * power[j] for j in recent) / whole
        value = power[i] / (1 + level) ** GAIN.exponent
        want = GAIN.scale * (np.sqrt(value + GAIN.bias) - np.sqrt(GAIN.bias))
        np.testing.assert_allclose(frames[i], want, atol=1e-3)


def test_first_half_is_the_log_mel_of_always(notes):
    half = LogMel(SETTINGS).feed(notes)[:, : SETTINGS.n_mels]
    np.testing.assert_array_equal(half, LogMel(SETTINGS.log_mel).feed(notes))


@given(st.lists(st.integers(0, 9_000), max_size=12))
def test_any_cut_gives_the_same_bits(notes, cuts):
    stream = LogMel(SETTINGS)
    parts = [stream.feed(part) for part in np.split(notes[:9_000], sorted(cuts))]
    np.testing.assert_array_equal(np.concatenate(parts), LogMel(SETTINGS).feed(notes[:9_000]))
    stream.reset()
    np.testing.assert_array_equal(stream.feed(notes[:9_000]), LogMel(SETTINGS).feed(notes[:9_000]))


def test_silence_is_zero_and_the_loudest_start_fits_a_code():
    assert not LogMel(SETTINGS).feed(np.zeros(16_000, np.int16)).any()
    start = np.concatenate((np.zeros(16_000, np.float32), np.clip(noise(1, 0), -1, 1)))
    for settings in (SETTINGS, FeatureSettings(gain=GainSettings())):
        frames = standing_out(start, settings)
        assert frames.min() >= 0
        assert frames.max() <= 10


def test_steady_noise_is_the_same_at_any_level_and_what_rises_above_it_stands_out():
    quiet, loud = (standing_out(noise(3, dbfs))[100:] for dbfs in (-60, -20))
    np.testing.assert_allclose(quiet.mean(0), loud.mean(0), rtol=0.2)
    burst = noise(3, -40)
    burst[32_000:34_000] *= 10
    frames = standing_out(burst)
    assert frames[200:203].mean() > 2 * frames[150:190].mean()


def test_what_was_heard_before_the_mean_changes_no_bit():
    after = noise(2, -30)
    streams = [
        LogMel(SETTINGS).feed(np.concatenate((before, after)))[200:]
        for before in (noise(2, -10, seed=1), np.zeros(32_000, np.float32))
    ]
    past = SETTINGS.past_frames
    assert not np.array_equal(streams[0][past - 1], streams[1][past - 1])
    np.testing.assert_array_equal(streams[0][past:], streams[1][past:])


def test_training_hears_the_same(notes):
    torch = pytest.importorskip("torch", reason="needs the train extra")
    from kws.train.frontend import GainBatch  # noqa: PLC0415

    samples = np.tile(notes, 8)  # longer than what is computed at once
    log_mel = torch.from_numpy(LogMel(SETTINGS.log_mel).feed(samples).T[None])
    heard = GainBatch(SETTINGS)(log_mel)[0].T.numpy()
    np.testing.assert_allclose(heard, LogMel(SETTINGS).feed(samples), atol=2e-3)
    went_on = GainBatch(SETTINGS)(log_mel.expand(2, -1, -1), goes_on=True)[1].T.numpy()
    assert not np.allclose(went_on[: GAIN.frames - 1], heard[: GAIN.frames - 1], atol=2e-3)
    np.testing.assert_allclose(went_on[GAIN.frames :], heard[GAIN.frames :], atol=2e-3)
    assert GainBatch(SETTINGS.log_mel)(log_mel) is log_mel


@pytest.mark.parametrize("wrong", [{"frames": 0}, {"decay": 0.0}, {"decay": 1.5}])
def test_settings_that_are_no_mean_are_refused(wrong):
    with pytest.raises(ConfigError, match="; "):
        replace(GAIN, **wrong)
