"""`kws listen`: hear wake words as they are spoken."""

import argparse
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kws.audio import file_blocks, level_dbfs, paced, raw_stdin
from kws.errors import AudioError, ConfigError
from kws.events import Detection
from kws.features import Samples
from kws.manifest import EXAMPLE_FILE
from kws.microphone import Microphone, MicrophoneSettings
from kws.model import Model, load_model
from kws.operating import explain, parse_rates
from kws.pipeline import Pipeline
from kws.scores import Scores

_BAR_CELLS, _BAR_RANGE_DB = 20, 80


def run(options: argparse.Namespace) -> int:
    """Listen until the source ends or Ctrl-C."""
    model = load_model(options.model)
    wanted: str | None = options.false_accepts_per_day
    rates = None if wanted is None else parse_rates(wanted, model.keywords)
    for line in explain(model.manifest, rates):
        _say(line)
    pipeline = Pipeline(model, rates)
    with _source(options, model) as blocks:
        _listen(pipeline, blocks, _Printer(model.manifest.words, options.json))
    return 0


def _listen(pipeline: Pipeline, blocks: Iterator[Samples], printer: "_Printer") -> None:
    try:
        for block in blocks:
            for detection in pipeline.feed(block):
                printer.detection(detection)
            printer.live(block, pipeline.scores)
        for detection in pipeline.flush():
            printer.detection(detection)
    finally:
        printer.close()


@contextmanager
def _source(options: argparse.Namespace, model: Model) -> Iterator[Iterator[Samples]]:
    """Open what was asked for, say what it is, and close it afterwards."""
    rate_hz = model.manifest.features.sample_rate_hz
    if options.device is not None and options.source not in (None, "mic"):
        raise ConfigError("--device chooses a microphone; leave it out, or use --source mic")
    if options.source == "-":
        yield raw_stdin(rate_hz)
    elif options.source not in (None, "mic"):
        yield _file(Path(options.source), rate_hz, options.realtime)
    else:
        try:
            microphone = Microphone(MicrophoneSettings(_device(options.device)), rate_hz)
        except AudioError as error:
            example = model.folder / EXAMPLE_FILE
            # Someone who asked for a microphone by name must not be given a recording instead.
            if options.source or options.device is not None or not example.is_file():
                raise
            _say(f"{error}. Until then: a bundled recording.")
            yield _file(example, rate_hz, realtime=True)
            return
        with microphone:
            _say(f"Listening on {microphone.name} for: {', '.join(model.manifest.words)}. Ctrl-C ends.")
            yield microphone.blocks()


def _file(path: Path, rate_hz: int, realtime: bool) -> Iterator[Samples]:
    blocks: Iterator[Samples] = file_blocks(path, rate_hz)
    return paced(blocks, rate_hz) if realtime else blocks


def _device(text: str | None) -> int | str | None:
    return int(text) if text is not None and text.isdecimal() else text


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


class _Printer:
    """Detections on standard output; and on a terminal a live line of level and scores."""

    def __init__(self, keywords: tuple[str, ...], as_json: bool) -> None:
        self._keywords, self._as_json = keywords, as_json
        self._is_live = sys.stderr.isatty()

    def detection(self, detection: Detection) -> None:
        """Print one detection at once, whatever standard output is."""
        self._clear()
        if self._as_json:
            print(json.dumps(detection.fields(), ensure_ascii=False), flush=True)
        else:
            print(f"{detection.time_s:9.2f} s  {detection.keyword}  {detection.score:.2f}", flush=True)

    def live(self, block: Samples, scores: Scores) -> None:
        """Redraw the live line; nothing when nobody watches."""
        if not self._is_live or not len(scores):
            return
        level = level_dbfs(block)
        cells = round(max(0.0, 1 + level / _BAR_RANGE_DB) * _BAR_CELLS)
        bar = "█" * cells + "·" * (_BAR_CELLS - cells)
        highest = scores[:, : len(self._keywords)].max(axis=0)  # without a classifier's UNKNOWN
        words = "  ".join(f"{k} {s:.2f}" for k, s in zip(self._keywords, highest, strict=True))
        line = f"{max(level, -99.0):4.0f} dB {bar}  {words}"
        width = shutil.get_terminal_size().columns - 1  # a line that wraps could not be redrawn
        sys.stderr.write(f"\r\x1b[K{line[:width]}")
        sys.stderr.flush()

    def close(self) -> None:
        """Leave the terminal's line empty."""
        self._clear()

    def _clear(self) -> None:
        if self._is_live:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
