"""Noise that is made for training windows."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs the train extra")

from conftest import RATE_HZ  # noqa: E402

from kws.train.noise import made_noise  # noqa: E402

OCTAVES_HZ = 100 * 2.0 ** np.arange(7)
"""Bounds of six octaves."""


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(RATE_HZ // 2, 3 * RATE_HZ))
def test_any_length_at_one_level_and_the_same_again(seed: int, count: int) -> None:
    noise = made_noise(count, RATE_HZ, np.random.default_rng(seed))
    assert noise.shape == (count,)
    assert noise.dtype == np.float32
    assert np.isfinite(noise).all()
    assert np.sqrt(np.mean(np.square(noise))) == pytest.approx(0.1, rel=1e-3)
    np.testing.assert_array_equal(noise, made_noise(count, RATE_HZ, np.random.default_rng(seed)))


def test_noises_differ_in_colour_and_rhythm() -> None:
    rng = np.random.default_rng(0)
    noises = [made_noise(2 * RATE_HZ, RATE_HZ, rng) for _ in range(100)]
    slopes = [np.polyfit(range(6), octave_levels_db(noise), 1)[0] for noise in noises]
    assert min(slopes) < -5
    assert max(slopes) > 4
    # Loudest against quietest tenth of a second: from steady hiss to dishes in a quiet kitchen.
    spans = [np.ptp(10 * np.log10(np.square(noise).reshape(20, -1).mean(1))) for noise in noises]
    assert min(spans) < 4
    assert max(spans) > 25


def octave_levels_db(noise: np.ndarray) -> np.ndarray:
    """Power in each of six octaves."""
    power = np.square(np.abs(np.fft.rfft(noise)))
    hz = np.fft.rfftfreq(len(noise), 1 / RATE_HZ)
    bounds = itertools.pairwise(OCTAVES_HZ)
    return np.array([10 * np.log10(power[(hz >= low) & (hz < high)].sum()) for low, high in bounds])
