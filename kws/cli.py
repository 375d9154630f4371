"""The command line: parse, import the one command that was chosen, and turn errors into a line and a code.

Exit codes: 0 done, 1 to 7 as listed in `kws.errors` (2 is also argparse's), 130 interrupted by Ctrl-C,
141 the reader of the output went away.
"""

import argparse
import errno
import importlib
import os
import sys
from collections.abc import Callable, Sequence

import kws
from kws.errors import KwsError, MissingExtra

INTERRUPTED, BROKEN_PIPE = 130, 141

_TRAIN_PACKAGES = ("onnx", "pyroomacoustics", "rich", "safetensors", "torch")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; `arguments` default to the program's own. Returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser(next((word for word in arguments if word[:1] != "-"), None)).parse_args(arguments)
    debug = options.debug or os.environ.get("KWS_DEBUG", "") not in ("", "0")
    # Small matrices gain nothing from a second thread, and its stack and start-up would be paid for.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        code: int = importlib.import_module(f"kws.commands.{options.command}").run(options)
        sys.stdout.flush()  # here, where a broken pipe is handled
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the final flush would complain
        return BROKEN_PIPE
    except KwsError as error:
        return _report(str(error), error.exit_code, debug)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _TRAIN_PACKAGES:
            raise  # a bug in kws, not a missing extra
        return _report(str(MissingExtra(package, "train")), MissingExtra.exit_code, debug)
    except OSError as error:  # full disk, no permission: the user's to solve, so no traceback
        where = f"{error.filename}: " if error.filename else ""
        step = "make room" if error.errno == errno.ENOSPC else "check the path and its permissions"
        return _report(f"{where}{error.strerror or error}; {step}", KwsError.exit_code, debug)


def _report(message: str, code: int, debug: bool) -> int:
    if debug:
        importlib.import_module("traceback").print_exc()
    print(f"kws: {message}", file=sys.stderr)  # noqa: T201
    return code


class _Version(argparse.Action):
    """Look the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        print("kws", kws.__version__)  # noqa: T201
        parser.exit()


def _parser(only: str | None = None) -> argparse.ArgumentParser:
    """The whole command line; or no more of it than `only`, the command that was chosen, needs."""
    parser = argparse.ArgumentParser(
        prog="kws",
        description="Wake words: train them, quantise them, listen for them.",
        allow_abbrev=False,
        formatter_class=_help,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    parser.add_argument(
        "--debug", action="store_true", help="show a traceback with an error (or KWS_DEBUG=1)"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", prog="kws")

    def command(name: str, summary: str, fill: Callable[[argparse.ArgumentParser], None]) -> None:
        if only not in (None, name):
            return
        sub = commands.add_parser(
            name, help=summary, description=summary, allow_abbrev=False, formatter_class=_help
        )
        sub.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        fill(sub)

    command("listen", "Listen to a microphone, a file or standard input.", _listen)
    command("run", "Listen for months: the daemon behind the service.", _run)
    command("detect", "Score audio files at full speed.", _detect)
    command("classify", "Decide what each short clip says.", _classify)
    command("devices", "List the microphones.", lambda _: None)
    command("status", "Show what the running daemon hears, costs and draws.", _status)
    command("events", "Follow what the running daemon hears, as JSON lines.", _events)
    command("mute", "Close the running daemon's microphone.", _mute)
    command("unmute", "Open it again.", _instance)
    command("mqtt", "Connect the running daemon to Home Assistant, from outside.", _mqtt)
    command("feedback", "Tell the running daemon that it heard wrongly, or missed a word.", _feedback)
    command("models", "List the installed models and what they measured.", lambda _: None)
    command("evaluate", "Measure false rejects and false accepts on a corpus.", _evaluate)
    command("bench", "Measure speed and memory on this machine.", _bench)
    command("train", "Train a network, then fine-tune it to 8-bit integers.", _train)
    command("export", "Turn a training run into a model folder.", _export)
    command("captures", "List, delete or export the recordings that the service kept.", _captures)
    command("corpus", "Check a corpus, import one, or build negatives.", _corpus)
    command("service", "Set up, upgrade or remove the always-on service.", _service)
    command("wyoming", "Hear wake words for other machines, by the Wyoming protocol.", _wyoming)
    return parser if commands.choices else _parser()  # of an unknown command the message names all


def _help(prog: str) -> argparse.HelpFormatter:
    """As wide as the terminal, without the modules that argparse would load to know that."""
    try:
        columns = os.get_terminal_size().columns
    except OSError:
        columns = 80
    return argparse.HelpFormatter(prog, width=columns - 2)


def _path(text: str) -> object:
    return importlib.import_module("pathlib").Path(text)


def _model(parser: argparse.ArgumentParser, default: str = "default") -> None:
    parser.add_argument("--model", default=default, metavar="NAME|PATH", help="default: %(default)s")


def _rates(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--false-accepts-per-day",
        metavar="N|WORD=N,...",
        help="how often a word may be heard wrongly, of all or of single keywords (alexa=0.5,computer=2): "
        "chooses the thresholds from the model's measured curve; default: the model's own thresholds",
    )


def _jobs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--jobs", type=_positive, default=1, metavar="N", help="processes; default: 1")


def _listen(parser: argparse.ArgumentParser) -> None:
    _model(parser)
    _rates(parser)
    parser.add_argument(
        "--source",
        metavar="mic|FILE|-",
        help="mic, an audio file, or - for raw 16 kHz 16-bit mono on standard input; "
        "default: mic, and a bundled recording where there is none",
    )
    parser.add_argument(
        "--device", metavar="D", help="microphone: its number or part of its name in `kws devices`"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per detection")
    parser.add_argument("--realtime", action="store_true", help="play a file at the speed of a microphone")


def _run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        type=_path,
        metavar="FILE",
        help="default: ~/.config/kws/kws.yaml, else /etc/kws/kws.yaml, else built in",
    )
    parser.add_argument(
        "--check", action="store_true", help="check configuration and model, say what they mean, and end"
    )


def _detect(parser: argparse.ArgumentParser) -> None:
    _model(parser)
    _rates(parser)
    _jobs(parser)
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object per file, with score peaks"
    )
    _files(parser)


def _classify(parser: argparse.ArgumentParser) -> None:
    _model(parser, "commands")
    parser.add_argument("--json", action="store_true", help="print one JSON object per file, with all scores")
    _files(parser)


def _files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--list", metavar="FILES.txt", help="read the file names from here, one a line; - is standard input"
    )
    parser.add_argument("files", nargs="*", metavar="FILE", help="audio: WAV, FLAC, Ogg, Opus, MP3")


def _instance(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--instance", metavar="NAME", help="of kws@NAME.service, where several run")


def _status(parser: argparse.ArgumentParser) -> None:
    _instance(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print it as one JSON object")
    form.add_argument("--watch", action="store_true", help="show level, scores and detections live")
    form.add_argument("--prometheus", action="store_true", help="print it as Prometheus reads it")


def _events(parser: argparse.ArgumentParser) -> None:
    _instance(parser)
    parser.add_argument("--count", type=_positive, metavar="N", help="end after N events; default: Ctrl-C")


def _mute(parser: argparse.ArgumentParser) -> None:
    _instance(parser)
    parser.add_argument(
        "--for",
        type=_seconds,
        dest="seconds",
        metavar="TIME",
        help="90s, 30m, 2h or 1d; default: until kws unmute",
    )


def _mqtt(parser: argparse.ArgumentParser) -> None:
    _instance(parser)
    parser.add_argument(
        "--config",
        type=_path,
        required=True,
        metavar="FILE",
        help="host, username and so on, as below mqtt: in kws.yaml",
    )


def _feedback(parser: argparse.ArgumentParser) -> None:
    _instance(parser)
    parser.add_argument(
        "kind",
        choices=("false", "missed"),
        help="false: the last detection was none; missed: a keyword was said just now and not heard",
    )
    parser.add_argument("keyword", nargs="?", metavar="KEYWORD", help="which one; default: the last")


def _evaluate(parser: argparse.ArgumentParser) -> None:
    _model(parser)
    _jobs(parser)
    parser.add_argument(
        "--data", type=_path, required=True, metavar="DIR", help="corpus: a folder with a manifest.csv"
    )
    parser.add_argument(
        "--config", type=_path, metavar="FILE", help="scoring rules; default: those of configs/evaluate.yaml"
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
        type=_numbers,
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
        "--out", type=_path, metavar="DIR", help="write results.json, results.md and det.svg here"
    )
    parser.add_argument("--float", action="store_true", help="measure the float network too (needs torch)")
    parser.add_argument(
        "--update",
        action="store_true",
        help="write thresholds and figures into the model's manifest and card",
    )


def _bench(parser: argparse.ArgumentParser) -> None:
    _model(parser)
    parser.add_argument(
        "--seconds",
        type=_positive,
        default=60,
        metavar="S",
        help="audio to process, or how long to train; default: %(default)s",
    )
    parser.add_argument(
        "--training",
        type=_path,
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
        "--config", type=_path, metavar="FILE", help="with --microphone: settings of the daemon"
    )
    parser.add_argument(
        "--peer",
        type=_path,
        metavar="PYTHON",
        help="with --microphone: an interpreter with pymicro-wakeword and sounddevice, which listens too",
    )
    parser.add_argument(
        "--clients",
        type=_positive,
        metavar="N",
        help="let N clients speak to kws wyoming at once: how many a core carries, and how fast they are "
        "answered (needs the wyoming extra)",
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON")


def _train(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Decoded audio and rendered windows are cached in $KWS_CACHE, else in ~/.cache/kws."
    parser.add_argument(
        "config", type=_path, metavar="CONFIG", help="YAML file, e.g. configs/train/default.yaml"
    )
    parser.add_argument("--run", type=_path, metavar="DIR", help="run folder; default: runs/<name>")
    parser.add_argument("--data", type=_path, metavar="DIR", help="corpus; default: the config's")
    parser.add_argument("--resume", action="store_true", help="go on from the run folder's last checkpoint")
    parser.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="settings in place of the config's, e.g. quantisation.weight_bits=4",
    )
    parser.add_argument("--dry-run", action="store_true", help="read and check everything, train nothing")
    _strict(parser)


def _export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run", type=_path, metavar="CHECKPOINT", help="run folder of `kws train`, or a checkpoint in it"
    )
    parser.add_argument("--name", help="name of the model; default: the config's")
    parser.add_argument(
        "--models",
        type=_path,
        default="models",
        metavar="DIR",
        help="where to put it; default: %(default)s",
    )


def _corpus(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = actions.add_parser("check", help="look for leaks between splits, missing files and odd rows")
    check.add_argument("folder", type=_path, metavar="DIR")
    check.add_argument(
        "--content", action="store_true", help="decode and measure every clip too (needs the train extra)"
    )
    _strict(check)
    imports = actions.add_parser("import", help="write a corpus in the format that `kws train` reads")
    imports.add_argument("layout", choices=("speech-commands", "wake-word-benchmark", "folders"))
    imports.add_argument("source", type=_path, metavar="SRC")
    imports.add_argument("destination", type=_path, metavar="DEST")
    negatives = actions.add_parser(
        "negatives", help="build hours of speech without keywords to train against"
    )
    negatives.add_argument("destination", type=_path, metavar="DEST")
    negatives.add_argument("--hours", type=float, default=50.0, help="of synthesis; default: %(default)s")
    negatives.add_argument("--without", nargs="+", default=[], metavar="KEYWORD", help="words not to speak")
    words = actions.add_parser("words", help="speak words with synthesizers, to train on")
    words.add_argument("destination", type=_path, metavar="DEST")
    words.add_argument("words", nargs="+", metavar="WORD")
    words.add_argument(
        "--takes", type=_positive, default=100, metavar="N", help="of each word; default: %(default)s"
    )
    words.add_argument("--kokoro", type=_path, metavar="DIR", help="folder of Kokoro's model: better voices")


def _service(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(instance=None, network=False, purge=False)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    install = actions.add_parser("install", help="copy this program to /opt, set the service up and start it")
    install.add_argument(
        "--network", action="store_true", help="let it use the network, for hooks that need it; default: none"
    )
    upgrade = actions.add_parser("upgrade", help="let the services run this program; settings stay")
    uninstall = actions.add_parser("uninstall", help="stop and remove the service; settings and state stay")
    uninstall.add_argument("--purge", action="store_true", help="remove settings and state too")
    for action in (install, uninstall):
        action.add_argument(
            "--instance",
            metavar="NAME",
            help="one of several services, with /etc/kws/NAME.yaml as its settings",
        )
    for action in (install, upgrade, uninstall):
        action.add_argument(
            "--user",
            action="store_true",
            help="for one user, where PipeWire or PulseAudio has the microphone",
        )
        action.add_argument("--dry-run", action="store_true", help="print every step and do none")


def _captures(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(action="list")
    _captures_of(parser, None)
    actions = parser.add_subparsers(metavar="ACTION", help="default: list")

    def action(name: str, summary: str) -> argparse.ArgumentParser:
        sub = actions.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        sub.set_defaults(action=name)
        _captures_of(sub, argparse.SUPPRESS)
        return sub

    listing = action("list", "List them, oldest first.")
    for each in (parser, listing):
        default = False if each is parser else argparse.SUPPRESS
        each.add_argument("--json", action="store_true", default=default, help="print one JSON object each")
    delete = action("delete", "Delete some of them.")
    delete.add_argument("numbers", nargs="*", type=_positive, metavar="NUMBER", help="as listed")
    delete.add_argument("--all", action="store_true", help="delete every one")
    exports = action("export", "Copy them into a corpus to train on.")
    exports.add_argument("destination", type=_path, metavar="DEST", help="folder of the corpus; may exist")


def _captures_of(parser: argparse.ArgumentParser, default: str | None) -> None:
    parser.add_argument(
        "--folder",
        type=_path,
        default=default,
        metavar="DIR",
        help="where they are; default: the user's own, else the service's (needs sudo)",
    )
    parser.add_argument("--instance", default=default, metavar="NAME", help="of kws@NAME.service")


def _wyoming(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--uri",
        default="tcp://127.0.0.1:10400",
        help="tcp://HOST:PORT, unix:///PATH or stdio://; tcp://0.0.0.0:10400 is for all machines that reach "
        "this one, without a password; default: %(default)s",
    )
    parser.add_argument(
        "--model",
        action="append",
        metavar="NAME|PATH",
        help="may be given several times; the first is heard where a client asks for none; default: all",
    )
    parser.add_argument(
        "--false-accepts-per-day",
        type=float,
        metavar="N",
        help="how often each word may be heard wrongly; default: the models' own thresholds",
    )
    parser.add_argument(
        "--clients-max", type=_positive, default=128, metavar="N", help="connections; default: %(default)s"
    )
    parser.add_argument(
        "--zeroconf", metavar="NAME", help="announce the server on the local network, for Home Assistant"
    )
    parser.add_argument("--no-gate", action="store_true", help="run the models also while it is quiet")


def _strict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--strict", action="store_true", help="treat warnings about the corpus as errors")


def _numbers(text: str) -> list[float]:
    """`10,0`; argparse turns a ValueError into a sentence of its own."""
    return [float(number) for number in text.split(",")]


def _seconds(text: str) -> int:
    """`30m` in seconds."""
    number, unit = text[:-1], text[-1:]
    if unit not in _UNITS_S or not number.isdecimal() or int(number) < 1:
        raise argparse.ArgumentTypeError("write a whole number and a unit: 90s, 30m, 2h or 1d")
    return int(number) * _UNITS_S[unit]


_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value
