"""`kws corpus`: look for what is wrong with a corpus, import one, or build one of speech to train against."""

import argparse
import os
from collections import defaultdict
from pathlib import Path

from kws.corpus import Clip, Problem, problems, read_corpus
from kws.errors import DataError
from kws.files import cache_folder


def run(options: argparse.Namespace) -> int:
    """Check, import or build; a corpus with problems ends with DataError's exit code."""
    jobs = os.cpu_count() or 1
    if options.action == "negatives":
        from kws.negatives import build  # noqa: PLC0415

        built = build(options.destination, options.hours, options.without, kokoro=options.kokoro, jobs=jobs)
        for line in built:
            print(line, flush=True)
        print(f"next: name {options.destination} under data.speech of a recipe")
        return 0
    if options.action == "words":
        from kws.words import build as speak  # noqa: PLC0415

        robot_takes = options.takes if options.robot_takes is None else options.robot_takes
        takes = options.takes, robot_takes
        for line in speak(options.destination, options.words, *takes, kokoro=options.kokoro, jobs=jobs):
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
    if options.content:
        from kws.train.material import heard_problems  # noqa: PLC0415 (an extra; manifests need it not)

        found += heard_problems(clips, cache_folder())
    report(found, options.folder, strict=options.strict)
    if not found:
        print("no problem found")
    return 0


def report(found: list[Problem], corpus: Path, *, strict: bool, quiet: bool = False) -> None:
    """Print one list; DataError when something in it is fatal, or anything at all if `strict`."""
    for each in sorted(found, key=lambda problem: not problem.is_fatal):
        if not quiet:
            print(f"{'error' if each.is_fatal else 'warning'}: {each}", flush=True)
    if any(each.is_fatal or strict for each in found):
        raise DataError(f"{corpus} cannot be used; correct what is listed above, see docs/corpus.md")


def _summarise(clips: list[Clip]) -> None:
    groups: dict[tuple[str, str, str], list[Clip]] = defaultdict(list)
    for clip in clips:
        groups[clip.source, clip.kind, clip.split].append(clip)
    print(f"{'source':<20} {'kind':<10} {'split':<6} {'clips':>6} {'hours':>7} {'speakers':>8}")
    for (source, kind, split), members in sorted(groups.items()):
        hours = sum(clip.seconds for clip in members) / 3600
        speakers = len({clip.speaker for clip in members})
        print(f"{source:<20} {kind:<10} {split:<6} {len(members):>6} {hours:>7.2f} {speakers:>8}")
