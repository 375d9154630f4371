"""The word is found among silence, dither, noise and clicks; levels and times are drawn by hand."""

import csv
from pathlib import Path

import numpy as np
import pytest

from kws.audio import read_audio
from kws.evaluate.span import PAD_SECONDS, speech_span, word_span

RATE_HZ = 16_000
TOLERANCE_S = 0.03
CORPUS = Path("../shared/data")


def recording(*parts):
    """White noise in parts of (seconds, dB of full scale)."""
    rng = np.random.default_rng(1)
    noise = [rng.standard_normal(round(s * RATE_HZ)) * 10 ** (level_db / 20) for s, level_db in parts]
    return np.concatenate(noise).astype(np.float32)


def seconds(span):
    """Start and end of the span in seconds, without its padding."""
    return span[0] / RATE_HZ + PAD_SECONDS, span[1] / RATE_HZ - PAD_SECONDS


def test_word_span_between_dither_keeps_the_quiet_end():
    """A final "s" 28 dB below the vowel still belongs to the word."""
    word = recording((0.5, -85), (0.4, -12), (0.2, -40), (0.6, -85))
    assert seconds(word_span(word, RATE_HZ)) == pytest.approx((0.5, 1.1), abs=TOLERANCE_S)


def test_word_span_leaves_out_steady_background():
    """The same level as that "s", but lasting: background."""
    word = recording((0.7, -40), (0.5, -12), (0.9, -40))
    assert seconds(word_span(word, RATE_HZ)) == pytest.approx((0.7, 1.2), abs=TOLERANCE_S)


def test_word_span_ignores_a_click_louder_than_the_word():
    word = recording((0.3, -70), (0.02, -5), (0.6, -70), (0.5, -20), (0.6, -70))
    assert seconds(word_span(word, RATE_HZ)) == pytest.approx((0.92, 1.42), abs=TOLERANCE_S)


def test_word_span_joins_over_a_stop_but_not_over_a_pause():
    stop = recording((0.3, -70), (0.2, -15), (0.12, -70), (0.2, -15), (0.3, -70))
    pause = recording((0.3, -70), (0.1, -15), (0.4, -70), (0.3, -15), (0.3, -70))
    assert seconds(word_span(stop, RATE_HZ)) == pytest.approx((0.3, 0.82), abs=TOLERANCE_S)
    assert seconds(word_span(pause, RATE_HZ)) == pytest.approx((0.8, 1.1), abs=TOLERANCE_S)


def test_speech_span_keeps_pauses():
    sentence = recording((0.3, -90), (0.5, -15), (0.5, -90), (0.5, -20), (0.4, -90))
    assert seconds(speech_span(sentence, RATE_HZ)) == pytest.approx((0.3, 1.8), abs=TOLERANCE_S)


@pytest.mark.parametrize("find", [word_span, speech_span])
@pytest.mark.parametrize("count", [0, 100, 16_000])
def test_silence_is_all_word(find, count):
    assert find(np.zeros(count, np.int16), RATE_HZ) == (0, count)


def test_word_span_does_not_depend_on_gain_offset_or_type():
    word = recording((0.4, -80), (0.5, -15), (0.4, -80))
    as_int16 = np.round(word * 32767).astype(np.int16)
    expected = word_span(word, RATE_HZ)
    assert word_span(word * np.float32(0.1), RATE_HZ) == expected
    assert word_span(word + np.float32(0.05), RATE_HZ) == expected
    assert word_span(as_int16, RATE_HZ) == expected


@pytest.mark.corpus
def test_word_span_of_real_recordings_is_as_long_as_a_word():
    if not (CORPUS / "manifest.csv").is_file():
        pytest.skip(f"no development data in {CORPUS}")
    with (CORPUS / "manifest.csv").open(encoding="utf-8") as file:
        paths = [row["path"] for row in csv.DictReader(file) if row["path"].startswith("wwb/computer/")]
    clips = [read_audio(CORPUS / path, RATE_HZ) for path in paths[::10]]
    lengths_s = [float(np.diff(seconds(word_span(clip, RATE_HZ)))[0]) for clip in clips]
    assert 0.3 < min(lengths_s) < max(lengths_s) < 1.2
    assert 0.55 < np.median(lengths_s) < 0.85
