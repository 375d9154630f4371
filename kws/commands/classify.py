"""`kws classify`: decide what each short clip says, once per file."""

import argparse
import json
import sys
from pathlib import Path

from kws.audio import file_blocks
from kws.classifier import Classifier, Decision
from kws.errors import AudioError, ConfigError
from kws.files import read_list
from kws.model import load_model


def run(options: argparse.Namespace) -> int:
    """Print one decision per file, in the order given; a bad file is reported and the rest goes on."""
    files = [*options.files, *read_list(options.list)]
    if not files:
        raise ConfigError("no files to classify; name some, or use --list FILES.txt")
    model = load_model(options.model)
    classifier, rate_hz = Classifier(model), model.manifest.features.sample_rate_hz
    code = 0
    for number, file in enumerate(files, start=1):
        try:
            decision = classifier.classify(file_blocks(Path(file), rate_hz))
        except AudioError as error:
            code = AudioError.exit_code
            if options.json:
                print(json.dumps({"file": file, "error": str(error)}, ensure_ascii=False))
            print(f"kws: {error}", file=sys.stderr)
        else:
            _show(file, decision, options.json)
        _progress(number, len(files))
    return code


def _show(file: str, decision: Decision, as_json: bool) -> None:
    if as_json:
        scores = {label: round(score, 6) for label, score in decision.scores.items()}
        print(json.dumps({"file": file, "label": decision.label, "scores": scores}, ensure_ascii=False))
    else:
        print(f"{file}: {decision.label} ({decision.scores[decision.label]:.2f})")


def _progress(number: int, total: int) -> None:
    """How far it is, for someone who does not see the decisions themselves pass by."""
    if sys.stderr.isatty() and not sys.stdout.isatty():
        end = "\n" if number == total else ""
        sys.stderr.write(f"\rclassified {number} of {total}{end}")
        sys.stderr.flush()
