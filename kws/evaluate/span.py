"""Where in a recording the word is, from its energy alone.

Real recordings of one word are pasted between digital silence, dither or room noise of any level, with clicks
and breaths around them. So three things decide: the level below the loudest vowel, how long a pause inside a
word can be, and how long a word can last. The last one tells background noise from a quiet final "s", which
has the same level but not the same length.
"""

import numpy as np
from numpy.typing import NDArray

from kws.features import Samples

FRAME_SECONDS = 0.01
RANGE_DB = 35.0
"""A frame is speech while it is at most this far below the loudest vowel: a final "s" lies 25-32 dB below."""
NARROWEST_DB = 11.0
"""The range shrinks no further than this, however long the result."""
STEP_DB = 3.0
VOWEL_SECONDS = 0.07
"""A loudest level must last about this long: clicks and taps do not."""
PAUSE_SECONDS = 0.25
"""Longest quiet stretch inside a phrase: stop closures last up to 0.15 s, slow speakers take longer."""
PAD_SECONDS = 0.02
"""Kept before the first and after the last frame of the result."""

Levels = NDArray[np.float64]


def word_span(samples: Samples, sample_rate_hz: int, longest_s: float = 1.0) -> tuple[int, int]:
    """Find the one word of a recording among silence, noise and clicks.

    Args:
        samples: int16 or float32 (-1..1), shape (n,): a recording of one word or short phrase.
        sample_rate_hz: Samples per second.
        longest_s: A longer result must hold background; only louder frames count then.

    Returns:
        First sample of the word and the sample after its last; (0, n) when nothing but silence is there.
    """
    level_db = _levels_db(samples, sample_rate_hz)
    if not level_db.size:
        return 0, len(samples)
    range_db = RANGE_DB
    first, last = _largest_run(level_db, range_db)
    while (last - first) * FRAME_SECONDS > longest_s and range_db > NARROWEST_DB:
        range_db -= STEP_DB
        first, last = _largest_run(level_db, range_db)
    return _padded(first, last, len(samples), sample_rate_hz)


def speech_span(samples: Samples, sample_rate_hz: int) -> tuple[int, int]:
    """From the first to the last loud frame, whatever lies between: for clean (synthetic) sentences.

    Arguments and result are those of `word_span`.
    """
    level_db = _levels_db(samples, sample_rate_hz)
    if not level_db.size:
        return 0, len(samples)
    active = np.flatnonzero(level_db > -RANGE_DB)
    return _padded(int(active[0]), int(active[-1]) + 1, len(samples), sample_rate_hz)


def _levels_db(samples: Samples, sample_rate_hz: int) -> Levels:
    """Power of every whole frame in dB over the loudest vowel, clicks included; empty for digital silence."""
    frame = round(FRAME_SECONDS * sample_rate_hz)
    whole = samples[: len(samples) // frame * frame].astype(np.float64).reshape(-1, frame)
    power = whole.var(axis=1)  # not the mean square: a constant offset is not sound
    if not power.any():
        return np.zeros(0)
    reach = round(VOWEL_SECONDS / FRAME_SECONDS) // 2
    around = np.lib.stride_tricks.sliding_window_view(np.pad(power, reach), 2 * reach + 1)
    vowel = np.median(around, axis=1).max() or power.max()
    level_db: Levels = 10 * np.log10(np.maximum(power / vowel, 1e-12))
    return level_db


def _largest_run(level_db: Levels, range_db: float) -> tuple[int, int]:
    """Frames [first, last) of the run that rises most above the range; runs less than a pause apart are one.

    "Most" is the sum of decibels, so that a long word wins against a loud click.
    """
    rise_db = np.maximum(level_db + range_db, 0)
    active = np.flatnonzero(rise_db)
    breaks = np.flatnonzero(np.diff(active) > PAUSE_SECONDS / FRAME_SECONDS)
    firsts = active[np.r_[0, breaks + 1]]
    lasts = active[np.r_[breaks, len(active) - 1]] + 1
    total = np.r_[0, np.cumsum(rise_db)]
    largest = int(np.argmax(total[lasts] - total[firsts]))
    return int(firsts[largest]), int(lasts[largest])


def _padded(first: int, last: int, n_samples: int, sample_rate_hz: int) -> tuple[int, int]:
    frame, pad = round(FRAME_SECONDS * sample_rate_hz), round(PAD_SECONDS * sample_rate_hz)
    return max(0, first * frame - pad), min(n_samples, last * frame + pad)
