"""`kws corpus`: look for what is wrong with a corpus, or import one from a layout that people have."""

import argparse
from collections import defaultdict

from kws.corpus import Clip, problems, read_corpus
from kws.errors import DataError


def run(options: argparse.Namespace) -> int:
    """Check or import; a corpus with problems ends with DataError's exit code."""
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
