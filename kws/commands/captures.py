"""`kws captures`: list, delete or export the recordings that the service kept."""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

from kws.daemon.archive import FOLDER, Capture, export, read_archive, remove
from kws.errors import ConfigError, KwsError
from kws.folders import find_state

_MEGABYTE = 1_000_000


def run(options: argparse.Namespace) -> int:
    """List them unless another action is named."""
    try:
        folder = options.folder or find_state(FOLDER, options.instance)
        captures = read_archive(folder)
    except PermissionError as error:
        raise KwsError(f"cannot read {error.filename}: {error.strerror}; run it with sudo") from error
    if options.action == "delete":
        return _delete(folder, captures, options)
    if options.action == "export":
        return _export(captures, options.destination)
    if options.json:
        for capture in captures:
            print(json.dumps(capture.fields()))
    else:
        _list(folder, captures)
    return 0


def _list(folder: Path, captures: list[Capture]) -> None:
    if not captures:
        print(f"{folder} holds no captures; they are kept where the service's configuration has")
        print("capture: {enabled: true}")
        return
    print(f"{'number':>6}  {'when':<20} {'what':<10} {'score':>5} {'said':<7} {'kB':>5}  keyword")
    for each in captures:
        score = "" if each.score is None else f"{each.score:.2f}"
        print(
            f"{each.number:>6}  {each.when:<20} {each.kind:<10} {score:>5} {each.label or '':<7} "
            f"{each.bytes / 1000:>5.0f}  {each.keyword}"
        )
    megabytes = sum(each.bytes for each in captures) / _MEGABYTE
    print(f"{len(captures)} captures, {megabytes:.1f} MB, in {folder}")


def _delete(folder: Path, captures: Iterable[Capture], options: argparse.Namespace) -> int:
    present = {capture.number for capture in captures}
    if options.all == bool(options.numbers):
        raise ConfigError("name the captures to delete by number, or give --all")
    numbers = present if options.all else set(options.numbers)
    if missing := sorted(numbers - present):
        raise ConfigError(f"there is no capture {missing[0]}; list them: kws captures")
    remove(folder, numbers)
    print(f"deleted {len(numbers)} of {len(present)} captures in {folder}")
    return 0


def _export(captures: list[Capture], destination: Path) -> int:
    manifest, counts = export(captures, destination)
    print(f"{manifest}: {counts['spoken']} spoken keywords, {counts['false']} false detections")
    if counts["unknown"]:
        print(f"{counts['unknown']} left out: nobody said what they are (kws feedback missed)")
    if counts["damaged"]:
        print(f"{counts['damaged']} left out: they cannot be read")
    if counts["spoken"]:
        print("listen to the spoken ones: a detection counts as right unless kws feedback false was said")
    print(f"next: kws corpus check {destination}")
    return 0
