"""Folds: every person is held out once, and nobody is trained on and held out in one run."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kws.corpus import Clip
from kws.errors import ConfigError
from kws.folds import folded, group_of, parse_fold, person

WORDS = ("alexa", "hey jarvis")


def clip(number: int, speaker: str, label: str = "alexa", **columns) -> Clip:
    plain = {
        "source": "wwb",
        "kind": "keyword",
        "split": "train",
        "recording": "",
        "lang": "en",
        "licence": "",
    }
    path = Path(f"wwb/{number}.wav")
    return Clip(path, label=label, speaker=speaker, seconds=1.0, start_s=None, end_s=None, **plain | columns)


clips = st.lists(
    st.builds(
        clip,
        st.integers(0, 1000),
        st.sampled_from(["", *"abcdefghij"]),
        st.sampled_from(["alexa", "jarvis", "hey jarvis", "other"]),
        source=st.sampled_from(["wwb", "mine"]),
        kind=st.sampled_from(["keyword", "speech", "synthetic"]),
        split=st.sampled_from(["train", "dev"]),
        recording=st.sampled_from(["", "r1", "r2"]),
    ),
    max_size=30,
)


@given(clips, st.integers(2, 6))
def test_nobody_who_says_a_keyword_is_on_both_sides_and_everybody_is_held_out_once(corpus, count):
    speakers = {person(c) for c in corpus if c.kind == "keyword" and c.label in WORDS}
    held_out = []
    for index in range(1, count + 1):
        found = folded(corpus, WORDS, "dev", f"{index}/{count}")
        assert [c.path for c in found] == [c.path for c in corpus]
        sides = {
            split: {person(c) for c in found if c.split == split} & speakers for split in ("train", "dev")
        }
        assert not sides["train"] & sides["dev"]
        assert sides["train"] | sides["dev"] == speakers
        held_out += sides["dev"]
        # Who says no keyword stays, and so does everything when there is nobody to divide.
        moved = [(a, b) for a, b in zip(corpus, found, strict=True) if person(a) not in speakers]
        assert all(a == b for a, b in moved)
    assert sorted(held_out) == sorted(speakers)


def test_a_person_brings_all_recordings_and_copies_move_together():
    corpus = [
        clip(1, "ann"),
        clip(2, "ann", "other"),
        clip(3, "", recording="r1"),
        clip(4, "", recording="r1"),
    ]
    for index in (1, 2, 3):
        splits = [c.split for c in folded(corpus, WORDS, "dev", f"{index}/3")]
        assert splits[0] == splits[1]
        assert splits[2] == splits[3]


def test_test_split_never_moves_and_without_a_fold_nothing_does():
    corpus = [clip(1, "ann", split="test"), clip(2, "bob")]
    assert folded(corpus, WORDS, "dev", "") == corpus
    for index in (1, 2):
        assert folded(corpus, WORDS, "dev", f"{index}/2")[0] == corpus[0]


def test_group_of_a_person_depends_on_the_name_alone():
    """Fixed for good: another hash would mix up runs that are compared."""
    assert [group_of(f"wwb/{n}", 5) for n in range(8)] == [5, 1, 2, 5, 1, 4, 4, 5]
    counts = [sum(group_of(f"wwb/{n}", 5) == g for n in range(1000)) for g in range(1, 6)]
    assert min(counts) > 150


@pytest.mark.parametrize("text", ["", "5", "0/5", "6/5", "1/1", "a/b", "1/5/2", "-1/5"])
def test_what_is_no_fold_is_refused(text):
    with pytest.raises(ConfigError, match="is not of the form 2/5"):
        parse_fold(text)
