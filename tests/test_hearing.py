"""What the audio thread does with blocks: words, lost audio, and another model in the middle of a word."""

import time

import numpy as np
import pytest
from conftest import RATE_HZ, quiet
from hypothesis import given
from hypothesis import strategies as st

from kws.daemon.hearing import Chain, Hearing
from kws.daemon.ring import Ring
from kws.daemon.settings import Settings
from kws.events import Detection
from kws.microphone import Block

BLOCK = 1280


def blocks(samples):
    """A recording as a microphone delivers it."""
    whole = np.round(32767 * samples[: len(samples) // BLOCK * BLOCK]).astype(np.int16)
    for part in whole.reshape(-1, BLOCK):
        now_s = time.monotonic()
        yield Block(part, BLOCK, now_s - 0.08, now_s, 0.0, overflowed=False, is_flat=False)


@pytest.fixture(scope="module")
def settings(toy_folder):
    return Settings(model=str(toy_folder))


@pytest.fixture
def hearing(settings):
    hearing = Hearing(Chain.for_settings(settings, "it is a test"), lambda: None)
    hearing.ring.samples = 4 * RATE_HZ
    return hearing


def words(hearing):
    found = [heard.what for heard in hearing.take()]
    return [(what.keyword, what.time_s) for what in found if isinstance(what, Detection)]


def test_words_come_with_the_time_of_the_daemon(hearing, notes):
    hearing.lost(RATE_HZ)
    for block in blocks(notes):
        hearing.hear(block)
    (low, low_s), (high, high_s) = words(hearing)
    assert (low, high) == ("low note", "high note")
    assert low_s == pytest.approx(1 + 1.4, abs=0.4)
    assert high_s - low_s == pytest.approx(1.5, abs=0.1)
    assert hearing.samples == RATE_HZ + len(notes) // BLOCK * BLOCK
    assert hearing.latency["total"].since_start()["n"] == len(notes) // BLOCK
    assert hearing.take() == []


def test_lost_audio_in_a_word_does_not_double_it(hearing, notes):
    for i, block in enumerate(blocks(notes[: 2 * RATE_HZ])):
        if i in (17, 18):  # after the word was heard, in the same word
            hearing.lost(640)
        hearing.hear(block)
    assert [word for word, _ in words(hearing)] == ["low note"]


@pytest.mark.parametrize("at", range(10, 40, 3))
def test_another_chain_in_the_middle_loses_and_doubles_nothing(hearing, settings, notes, at):
    expected = {"low note": 1.4, "high note": 2.9}
    for i, block in enumerate(blocks(notes)):
        if i == at:
            hearing.change(Chain.for_settings(settings, "it changed"))
        hearing.hear(block)
    found = words(hearing)
    assert [word for word, _ in found] == list(expected)
    assert all(when == pytest.approx(expected[word], abs=0.4) for word, when in found)
    assert hearing.chain.reason[0] == "model notes: it changed"


def test_scores_are_of_the_last_block_and_none_while_the_gate_is_closed(hearing):
    for block in blocks(quiet(25)):
        hearing.hear(block)
    assert not hearing.chain.pipeline.gate.is_open
    assert len(hearing.scores) == 0
    assert hearing.latency["model"].since_start()["n"] < 25 * RATE_HZ // BLOCK


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 60)), max_size=30), st.integers(1, 200))
def test_ring_gives_back_what_was_put_in(pieces, size):
    """Each piece is a gap and a length; sample n of the stream has the value n."""
    ring, end, present = Ring(size), 0, []
    for gap, length in pieces:
        start, end = end + gap, end + gap + length
        ring.append(start, np.arange(start, end, dtype=np.int16))
        present += range(start, end)
        kept = [n for n in present if n >= end - size]
        first, found = ring.between(end - size, end)
        assert found.tolist() == kept
        assert not kept or first == kept[0]
        joined = [n for n in kept if n >= end - length] or kept
        assert ring.last(size).tolist()[-len(joined) :] == joined[-size:]
        last = ring.last(size)
        assert len(last) <= size
        assert (np.diff(last) == 1).all()
    ring.clear()
    assert len(ring.last(size)) == 0
    assert len(ring.between(0, end)[1]) == 0
