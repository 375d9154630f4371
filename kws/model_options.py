"""What the commands take that make models and measure them; `kws.cli` uses the one that was chosen."""

import argparse

from kws.arguments import (
    add_command,
    jobs,
    model,
    not_negative,
    numbers,
    path,
    positive,
    strict,
)


def evaluate(parser: argparse.ArgumentParser) -> None:
    """What `kws evaluate` takes."""
    model(parser)
    jobs(parser)
    parser.add_argument(
        "--data", type=path, required=True, metavar="DIR", help="corpus: a folder with a manifest.csv"
    )
    parser.add_argument(
        "--config", type=path, metavar="FILE", help="scoring rules; default: those of configs/evaluate.yaml"
    )
    parser.add_argument("--split", help="which part of it; default: the config's")
    parser.add_argument(
        "--fold", metavar="I/N", help="the speakers that a model trained with this fold has not heard"
    )
    parser.add_argument(
        "--against",
        metavar="NAME|PATH",
        help="compare with this model on the same recordings: difference of misses, with interval",
    )
    parser.add_argument(
        "--snr",
        type=numbers,
        action="extend",
        metavar="DB,...",
        help="noise levels for the keywords, the first ranks models; default: the config's (10,0)",
    )
    parser.add_argument(
        "--robustness", action="store_true", help="play the keywords through rooms and microphones too"
    )
    parser.add_argument(
        "--gate",
        action="store_true",
        help="play everything with and without the gate of the daemon, and show what it misses and skips",
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument(
        "--out", type=path, metavar="DIR", help="write results.json, results.md and det.svg here"
    )
    parser.add_argument("--float", action="store_true", help="measure the float network too (needs torch)")
    parser.add_argument(
        "--update",
        action="store_true",
        help="write thresholds and figures into the model's manifest and card",
    )


def bench(parser: argparse.ArgumentParser) -> None:
    """What `kws bench` takes."""
    model(parser)
    parser.add_argument(
        "--seconds",
        type=positive,
        default=60,
        metavar="S",
        help="audio to process, or how long to train; default: %(default)s",
    )
    parser.add_argument(
        "--training",
        type=path,
        metavar="CONFIG",
        help="measure training this recipe, on synthetic sound, instead of listening (needs the train extra)",
    )
    parser.add_argument(
        "--microphone",
        action="store_true",
        help="run the whole daemon at a virtual microphone, at the pace of the world (needs PulseAudio): "
        "end of word to event, CPU, memory; --seconds 3600 is a soak test",
    )
    parser.add_argument(
        "--config", type=path, metavar="FILE", help="with --microphone: settings of the daemon"
    )
    parser.add_argument(
        "--peer",
        type=path,
        metavar="PYTHON",
        help="with --microphone: an interpreter with pymicro-wakeword and sounddevice, which listens too",
    )
    parser.add_argument(
        "--clients",
        type=positive,
        metavar="N",
        help="let N clients speak to kws wyoming at once: how many a core carries, and how fast they are "
        "answered (needs the wyoming extra)",
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON")


def train(parser: argparse.ArgumentParser) -> None:
    """What `kws train` takes."""
    parser.epilog = "Decoded audio and rendered windows are cached in $KWS_CACHE, else in ~/.cache/kws."
    parser.add_argument(
        "config", type=path, metavar="CONFIG", help="YAML file, e.g. configs/train/default.yaml"
    )
    parser.add_argument("--run", type=path, metavar="DIR", help="run folder; default: runs/<name>")
    parser.add_argument("--data", type=path, metavar="DIR", help="corpus; default: the config's")
    parser.add_argument("--resume", action="store_true", help="go on from the run folder's last checkpoint")
    parser.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="settings in place of the config's, e.g. quantisation.weight_bits=4",
    )
    parser.add_argument("--dry-run", action="store_true", help="read and check everything, train nothing")
    strict(parser)


def export(parser: argparse.ArgumentParser) -> None:
    """What `kws export` takes."""
    parser.add_argument(
        "run", type=path, metavar="CHECKPOINT", help="run folder of `kws train`, or a checkpoint in it"
    )
    parser.add_argument("--name", help="name of the model; default: the config's")
    parser.add_argument(
        "--models",
        type=path,
        default="models",
        metavar="DIR",
        help="where to put it; default: %(default)s",
    )


def corpus(parser: argparse.ArgumentParser) -> None:
    """What `kws corpus` takes."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = add_command(actions, "check", "Look for leaks between splits, missing files and odd rows.")
    check.add_argument("folder", type=path, metavar="DIR")
    check.add_argument(
        "--content", action="store_true", help="decode and measure every clip too (needs the train extra)"
    )
    strict(check)
    imports = add_command(actions, "import", "Write a corpus in the format that `kws train` reads.")
    imports.add_argument("layout", choices=("speech-commands", "wake-word-benchmark", "folders"))
    imports.add_argument("source", type=path, metavar="SRC")
    imports.add_argument("destination", type=path, metavar="DEST")
    negatives = add_command(actions, "negatives", "Build hours of speech without keywords to train against.")
    negatives.add_argument("destination", type=path, metavar="DEST")
    negatives.add_argument("--hours", type=float, default=50.0, help="of synthesis; default: %(default)s")
    negatives.add_argument("--without", nargs="+", default=[], metavar="KEYWORD", help="words not to speak")
    _kokoro(negatives)
    words = add_command(actions, "words", "Speak words with synthesizers, to train on.")
    words.add_argument("destination", type=path, metavar="DEST")
    words.add_argument("words", nargs="+", metavar="WORD")
    words.add_argument(
        "--takes", type=positive, default=100, metavar="N", help="of each word; default: %(default)s"
    )
    words.add_argument(
        "--robot-takes",
        type=not_negative,
        metavar="N",
        help="of these by espeak-ng, a robot; default: as many",
    )
    _kokoro(words)


def _kokoro(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kokoro", type=path, metavar="DIR", help="folder of Kokoro's model: better voices")
