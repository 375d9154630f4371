"""What a run learns from and is judged by: its corpora, read once, and all that is wrong with them.

Needs no torch.
"""

import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from kws.corpus import (
    CLOSE_ENOUGH_S,
    MOST_UNREADABLE,
    SPOKEN,
    Clip,
    Problem,
    keyword_of,
    lacks,
    problem,
    problems,
    read_corpus,
)
from kws.evaluate.playlist import read_clips
from kws.train.clips import MARGIN_SECONDS
from kws.train.library import Library
from kws.train.recipe import Recipe

SILENT_DBFS = -60.0
"""Speech whose loudest syllable is no louder is not heard."""
FLAT_DB = 6.0
"""A word rises at least this far out of the quietest moments of its recording; steady noise does not."""
BRIEF_S = 0.15
"""No keyword is so short."""
ROOM_AFTER_WORD_S = 0.9
"""The most that a training window keeps free behind its keyword; a classifier's has a margin at both ends."""


@dataclass(frozen=True)
class Material:
    """The clips of a run."""

    known: list[Clip]
    """Training split of all corpora."""
    held_out: list[Clip]
    """What validation may play: nothing of it is in `known`."""
    problems: list[Problem]
    """What the manifests tell, those of clips of other splits too."""


def read_material(corpus: Path, recipe: Recipe) -> Material:
    """Read the manifests of a recipe's corpora; `corpus` is the one that validation plays too."""
    rules = recipe.validation.rules
    own = read_clips(corpus, recipe.words, rules)
    clips = own + [clip for folder in recipe.data.speech for clip in read_corpus(Path(folder))]
    seen = [clip for clip in clips if clip.source not in recipe.data.exclude]
    return Material(
        [clip for clip in seen if clip.split == "train"],
        [clip for clip in own if clip.split == rules.split or clip.source in rules.noise_sources],
        problems(seen) + lacks(seen, recipe.words, rules.split),
    )


def decode(material: Material, recipe: Recipe, cache: Path) -> tuple[Library, Library, list[Problem]]:
    """Libraries of what is known and what is held out, and what is wrong with their audio."""
    known, held_out = (
        Library(clips, cache, recipe.features.sample_rate_hz) for clips in (material.known, material.held_out)
    )
    left = lacks(known.readable() + held_out.readable(), recipe.words, recipe.validation.split)
    found = audible_problems([known, held_out], recipe)
    return known, held_out, found + [each for each in left if each.is_fatal]


def heard_problems(clips: list[Clip], cache: Path) -> list[Problem]:
    """Decode a corpus, below `cache`, and judge it as the default recipe would with every word a keyword."""
    recipe = Recipe("", tuple({clip.label for clip in clips if clip.kind == "keyword"}))
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        return audible_problems([Library(clips, Path(scratch), recipe.features.sample_rate_hz)], recipe)


def audible_problems(libraries: list[Library], recipe: Recipe) -> list[Problem]:
    """What only the audio shows to be wrong; what people recorded is measured if it is a keyword."""
    rate_hz, names = recipe.features.sample_rate_hz, defaultdict(list)
    field_s = recipe.network.receptive_field_frames * recipe.features.hop_ms / 1000
    room_s = 2 * MARGIN_SECONDS if recipe.classifies else ROOM_AFTER_WORD_S
    longest_s = recipe.window_samples / rate_hz - room_s
    clips = [(library, index, clip) for library in libraries for index, clip in enumerate(library.clips)]
    for library, index, clip in clips:
        seconds = len(library.samples(index)) / rate_hz
        start, end = library.span(index)
        loudest_dbfs, contrast_db = library.levels(index)
        if not seconds:
            if clip.path.is_file():  # else the manifest's check has named it
                names["unreadable"].append(str(clip.path))
            continue
        if abs(seconds - clip.seconds) > CLOSE_ENOUGH_S + clip.seconds / 100:
            names["length"].append(f"{clip.path} ({seconds:.2f} s, not {clip.seconds:.2f})")
        if clip.kind in SPOKEN and loudest_dbfs < SILENT_DBFS:
            names["silent"].append(str(clip.path))
        elif clip.kind == "keyword" and contrast_db < FLAT_DB:
            names["flat"].append(str(clip.path))
        elif clip.kind == "keyword" and keyword_of(clip.label, recipe.words):
            word = f"{clip.path} ({(end - start) / rate_hz:.2f} s)"
            if end - start < BRIEF_S * rate_hz:
                names["brief"].append(word)
            elif end - start > longest_s * rate_hz:
                names["long"].append(word)
        if clip.kind in ("noise", "music") and seconds < field_s:
            names["short"].append(f"{clip.path} ({seconds:.2f} s)")
    check_rows = "check the rows, and whether the files are whole"
    return [
        *problem(
            "files cannot be read",
            names["unreadable"],
            "repair them or remove their rows",
            is_fatal=len(names["unreadable"]) > MOST_UNREADABLE * len(clips),
        ),
        *problem("files are not as long as their manifest says", names["length"], check_rows),
        *problem("spoken clips are silent", names["silent"], "record them again or remove them"),
        *problem(
            "keyword clips hold no word above their noise", names["flat"], "listen to them, or remove them"
        ),
        *problem(
            f"keywords sound for less than {BRIEF_S} s",
            names["brief"],
            "listen to them: they may be cut off or clicks",
        ),
        *problem(
            f"keywords sound for more than the {longest_s:.1f} s of a training window",
            names["long"],
            "mark start and end, or enlarge data.window_frames",
        ),
        *problem(
            f"noise clips are shorter than the receptive field of {field_s:.2f} s",
            names["short"],
            "join them: the network would learn how they repeat",
        ),
    ]
