"""`kws corpus`: look for what is wrong with a corpus, import one, or build one of speech to train against."""

import argparse
import os
from collections import defaultdict

from kws.corpus import Clip, problems, read_corpus
from kws.errors import DataError


def run(options: argparse.Namespace) -> int:
    """Check, import or build; a corpus with problems ends with DataError's exit code."""
    if options.action == "negatives":
        from kws.negatives import build  # noqa: PLC0415

        for line in build(options.destination, options.hours, options.without, os.cpu_count() or 1):
            print(line, flush=True)
        print(f"next: name {options.destination} under data.speech of a recipe")
        return 0
    if options.action == "words":
        from kws.words import build as speak  # noqa: PLC0415

        for line in speak(options.destination, options.words, options.takes, options.kokoro):
            print(line, flush=True)
        print(f"next: name {options.destination} under data.speech of a recipe")
        return 0
    if options.action == "import":
        from kws.layouts import import_corpus  # noqa: PLC0415 (checking needs no audio library)

        manifest, count = import_corpus(options.layout, options.source, options.destination)
        print(f"{manifest}: {count} clips added")
        print(f"next: kws corpus check {options.destination}")
        return 0
    clips = read_corpus(options.folder)
    _summarise(clips)
    found = problems(clips)
    for problem in found:
        print(f"problem: {problem}")
    if found:
        raise DataError(f"{options.folder} has {len(found)} kinds of problems; correct its manifest.csv")
    print("no problem found")
    return 0


def _summarise(clips: list[Clip]) -> None:
    groups: dict[tuple[str, str, str], list[Clip]] = defaultdict(list)
    for clip in clips:
        groups[clip.source, clip.kind, clip.split].append(clip)
    print(f"{'source':<20} {'kind':<10} {'split':<6} {'clips':>6} {'hours':>7} {'speakers':>8}")
    for (source, kind, split), members in sorted(groups.items()):
        hours = sum(clip.seconds for clip in members) / 3600
        speakers = len({clip.speaker for clip in members})
        print(f"{source:<20} {kind:<10} {split:<6} {len(members):>6} {hours:>7.2f} {speakers:>8}")
