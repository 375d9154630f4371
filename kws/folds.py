"""Cross-validation: which speakers are trained on and which are held out, decided by a hash of their names.

A fold is written "2/5": of everybody who was recorded saying a keyword, in training and held-out recordings
alike, the second of five groups is held out and the others are trained on. A person is in the same group in
every run, on every machine, whoever else is added or removed; all recordings of a person move together.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import replace

from kws.corpus import Clip, keyword_of
from kws.errors import ConfigError


def parse_fold(text: str) -> tuple[int, int]:
    """Read "2/5" as (2, 5); ConfigError for anything but i/n with 1 <= i <= n and n >= 2."""
    index, _, count = text.partition("/")
    if index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count) and int(count) >= 2:
        return int(index), int(count)
    raise ConfigError(f"fold {text!r} is not of the form 2/5, the second of five; correct it")


def person(clip: Clip) -> str:
    """Who speaks, across sources; a recording of an unknown speaker is a person of its own."""
    return f"{clip.source}/{clip.speaker or clip.recording or clip.path.name}"


def group_of(name: str, count: int) -> int:
    """The group, 1 to `count`, of a person."""
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % count + 1


def folded(clips: list[Clip], keywords: Iterable[str], held_out: str, fold: str) -> list[Clip]:
    """The same clips in other splits.

    Args:
        clips: A whole corpus.
        keywords: People who say one of them, in real recordings, are divided; everybody else stays.
        held_out: The split of those in the fold; the others are in "train".
        fold: "2/5", or empty: nothing moves.
    """
    if not fold:
        return clips
    index, count = parse_fold(fold)
    keywords = tuple(keywords)
    divided = ("train", held_out)
    people = {
        person(clip): held_out if group_of(person(clip), count) == index else "train"
        for clip in clips
        if clip.kind == "keyword" and clip.split in divided and keyword_of(clip.label, keywords)
    }
    return [
        replace(clip, split=people[person(clip)])
        if clip.split in divided and person(clip) in people
        else clip
        for clip in clips
    ]
