"""Noise that is made instead of recorded: fans, rain and taps, machines that turn, dishes that clatter.

A corpus holds an hour or two of noise, and a network that has met each tap in it a hundred times knows those
taps. What is steady in a home is much like Gaussian noise of some colour whose level wanders or beats, what
clatters is like short bursts of it, and both can be drawn anew for every window.
"""

import numpy as np
from numpy.typing import NDArray

Audio = NDArray[np.float32]
SLOPE_DB = (-9.0, 3.0)
"""Slope of the spectrum per octave: from a rumble below brown noise (-6) past pink (-3) and white (0)."""
BUMPS_DB = (0.0, 12.0)
"""Around that slope: how far the smooth bumps and hollows of a steady noise reach."""
RESONANCES_DB = 24.0
"""The same of what is struck: plates and keys ring at a few frequencies."""
LOWEST_HZ = 50.0
"""The spectrum is flat below."""
WANDER_DB = (0.0, 10.0)
"""How far the level wanders, up or down, from moment to moment; and how far it beats."""
MOMENT_SECONDS = (0.05, 1.0)
"""From one moment to the next."""
BEAT_HZ = (0.5, 15.0)
"""What turns or walks repeats itself this often."""
BEAT_PROBABILITY = 0.3
STRIKE_PROBABILITY = 0.4
"""Chance that something clatters over the steady noise."""
STRIKES_PER_SECOND = (0.7, 12.0)
DECAY_SECONDS = (0.005, 0.15)
"""Until a strike has lost 8.7 dB."""
STRIKE_DB = (-5.0, 25.0)
"""RMS of all strikes over that of the steady noise."""


def made_noise(count: int, sample_rate_hz: int, rng: np.random.Generator) -> Audio:
    """One noise of a home that nobody recorded, (count,), with an RMS of 0.1."""
    bumps = rng.uniform(*BUMPS_DB)
    noise = _coloured(count, sample_rate_hz, bumps, 8, rng) * _level(count, sample_rate_hz, rng)
    noise /= _rms(noise)
    if rng.random() < STRIKE_PROBABILITY:
        strikes = _strikes(count, sample_rate_hz, rng)
        noise += strikes * 10 ** (rng.uniform(*STRIKE_DB) / 20)
    return (noise * (0.1 / _rms(noise))).astype(np.float32)


def _coloured(
    count: int, sample_rate_hz: int, bumps_db: float, knots: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Gaussian noise of a random colour, (count,): a slope and, along the octaves, smooth bumps."""
    hz = np.fft.rfftfreq(count, 1 / sample_rate_hz)
    octave = np.log2(np.maximum(hz, LOWEST_HZ) / LOWEST_HZ)
    places = np.linspace(0, octave[-1], knots)
    curve_db = octave * rng.uniform(*SLOPE_DB) + np.interp(
        octave, places, rng.uniform(-bumps_db, bumps_db, knots)
    )
    spectrum = rng.standard_normal(len(hz)) + 1j * rng.standard_normal(len(hz))
    return np.fft.irfft(spectrum * 10 ** (curve_db / 20), count)


def _level(count: int, sample_rate_hz: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Factor of each sample, (count,): the level wanders, and sometimes beats."""
    seconds = np.arange(count) / sample_rate_hz
    moments = np.arange(0, seconds[-1] + 2 * MOMENT_SECONDS[1], _log_uniform(MOMENT_SECONDS, rng))
    wander_db = rng.uniform(*WANDER_DB)
    level_db = np.interp(seconds, moments, rng.uniform(-wander_db, wander_db, len(moments)))
    if rng.random() < BEAT_PROBABILITY:
        turns = seconds * _log_uniform(BEAT_HZ, rng) + rng.random()
        level_db += rng.uniform(*WANDER_DB) * np.cos(2 * np.pi * turns)
    return np.asarray(10 ** (level_db / 20))


def _strikes(count: int, sample_rate_hz: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """One thing that is struck at random moments, now softly, now hard, (count,), with an RMS of 1."""
    ringing = _coloured(count, sample_rate_hz, RESONANCES_DB, 32, rng)
    ringing *= np.exp(-np.arange(count) / (sample_rate_hz * _log_uniform(DECAY_SECONDS, rng)))
    struck = rng.random(count) < _log_uniform(STRIKES_PER_SECOND, rng) / sample_rate_hz
    struck[rng.integers(count)] = True  # once at least
    force = struck * rng.standard_exponential(count)
    # As if what rings at the end went on at the beginning: noise has neither.
    heard = np.fft.irfft(np.fft.rfft(force) * np.fft.rfft(ringing), count)
    return heard / _rms(heard)


def _log_uniform(bounds: tuple[float, float], rng: np.random.Generator) -> float:
    return float(np.exp(rng.uniform(*np.log(bounds))))


def _rms(samples: NDArray[np.floating]) -> float:
    return float(np.sqrt(np.mean(np.square(samples))))
