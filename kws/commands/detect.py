"""`kws detect`: score audio files at full speed, in any number of processes."""

import argparse
import json
import signal
import sys
from collections.abc import Callable, Generator
from contextlib import closing
from functools import cache, partial
from pathlib import Path
from typing import Any

from kws.audio import file_blocks
from kws.errors import AudioError, ConfigError
from kws.files import read_list
from kws.manifest import Manifest
from kws.model import load_model
from kws.operating import explain, parse_rates
from kws.pipeline import Pipeline, score_recording
from kws.scores import PEAK_DISTANCE_SECONDS, peaks
from kws.workers import workers

_BLOCK_MS = 1000  # any size gives the same scores; a second keeps the memory small and the overhead low
_FILES_PER_TASK = 16


def run(options: argparse.Namespace) -> int:
    """Print one result per file, in the order given; a bad file is reported and the rest goes on."""
    files = [*options.files, *read_list(options.list)]
    if not files:
        raise ConfigError("no files to score; name some, or use --list FILES.txt")
    show = _show_json if options.json else _show_text
    failed = False
    wanted: str | None = options.false_accepts_per_day
    manifest, _ = _pipeline(options.model, wanted)  # what cannot work is one error, here, not one per process
    for line in explain(manifest, None if wanted is None else parse_rates(wanted, manifest.keywords)):
        print(line, file=sys.stderr)
    score = partial(_score, options.model, wanted)
    with closing(_score_all(score, files, options.jobs)) as results:
        for result in results:
            failed |= "error" in result
            show(result)
    return AudioError.exit_code if failed else 0


def _score_all(
    score: Callable[[str], dict[str, Any]], files: list[str], jobs: int
) -> Generator[dict[str, Any], None, None]:
    if jobs == 1:
        yield from map(score, files)
        return
    # Ctrl-C is the parent's.
    executor = workers(min(jobs, len(files)), partial(signal.signal, signal.SIGINT, signal.SIG_IGN))
    chunk = max(1, min(_FILES_PER_TASK, len(files) // jobs))
    try:
        yield from executor.map(score, files, chunksize=chunk)
    finally:
        executor.shutdown(cancel_futures=True)


@cache
def _pipeline(model: str, wanted: str | None) -> tuple[Manifest, Pipeline]:
    """Loaded once per process; `wanted` are false accepts per day as on the command line."""
    loaded = load_model(model)
    rates = None if wanted is None else parse_rates(wanted, loaded.keywords)
    return loaded.manifest, Pipeline(loaded, rates)


def _score(model: str, wanted: str | None, file: str) -> dict[str, Any]:
    """The fields that `--json` prints: detections and score peaks, or the error."""
    manifest, pipeline = _pipeline(model, wanted)
    rate_hz, words = manifest.features.sample_rate_hz, manifest.words
    try:
        scores, detections, samples = score_recording(pipeline, file_blocks(Path(file), rate_hz, _BLOCK_MS))
    except AudioError as error:
        return {"file": file, "error": str(error)}
    scores = scores[:, : len(words)]  # without a classifier's UNKNOWN
    columns = peaks(scores, min_distance_rows=manifest.score_rows(PEAK_DISTANCE_SECONDS))
    highest = scores.max(axis=0, initial=0.0).tolist()
    return {
        "file": file,
        "seconds": round(samples / rate_hz, 4),
        "model": manifest.name,
        "detections": [detection.fields() for detection in detections],
        "max": {k: round(score, 6) for k, score in zip(words, highest, strict=True)},
        "peaks": {
            k: [[round(manifest.score_time_s(row), 4), round(score, 6)] for row, score in column]
            for k, column in zip(words, columns, strict=True)
        },
    }


def _show_json(result: dict[str, Any]) -> None:
    print(json.dumps(result, ensure_ascii=False))


def _show_text(result: dict[str, Any]) -> None:
    if "error" in result:
        print(f"kws: {result['error']}", file=sys.stderr)
        return
    heard = [f"{d['keyword']} at {d['time_s']:.2f} s ({d['score']:.2f})" for d in result["detections"]]
    if not heard:
        keyword, score = max(result["max"].items(), key=lambda item: item[1])
        heard = [f"nothing (at most {keyword} {score:.2f})"]
    print(f"{result['file']}: {', '.join(heard)}")
