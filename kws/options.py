"""What each command takes on the command line; `kws.cli` uses the one that was chosen."""

import argparse

from kws.arguments import files, instance, jobs, model, numbers, path, positive, rates, seconds, strict


def listen(parser: argparse.ArgumentParser) -> None:
    """What `kws listen` takes."""
    model(parser)
    rates(parser)
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


def run(parser: argparse.ArgumentParser) -> None:
    """What `kws run` takes."""
    parser.add_argument(
        "--config",
        type=path,
        metavar="FILE",
        help="default: ~/.config/kws/kws.yaml, else /etc/kws/kws.yaml, else built in",
    )
    parser.add_argument(
        "--check", action="store_true", help="check configuration and model, say what they mean, and end"
    )


def detect(parser: argparse.ArgumentParser) -> None:
    """What `kws detect` takes."""
    model(parser)
    rates(parser)
    jobs(parser)
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object per file, with score peaks"
    )
    files(parser)


def classify(parser: argparse.ArgumentParser) -> None:
    """What `kws classify` takes."""
    model(parser, "commands")
    parser.add_argument("--json", action="store_true", help="print one JSON object per file, with all scores")
    files(parser)


def status(parser: argparse.ArgumentParser) -> None:
    """What `kws status` takes."""
    instance(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print it as one JSON object")
    form.add_argument("--watch", action="store_true", help="show level, scores and detections live")
    form.add_argument("--prometheus", action="store_true", help="print it as Prometheus reads it")


def events(parser: argparse.ArgumentParser) -> None:
    """What `kws events` takes."""
    instance(parser)
    parser.add_argument("--count", type=positive, metavar="N", help="end after N events; default: Ctrl-C")


def mute(parser: argparse.ArgumentParser) -> None:
    """What `kws mute` takes."""
    instance(parser)
    parser.add_argument(
        "--for",
        type=seconds,
        dest="seconds",
        metavar="TIME",
        help="90s, 30m, 2h or 1d; default: until kws unmute",
    )


def mqtt(parser: argparse.ArgumentParser) -> None:
    """What `kws mqtt` takes."""
    instance(parser)
    parser.add_argument(
        "--config",
        type=path,
        required=True,
        metavar="FILE",
        help="host, username and so on, as below mqtt: in kws.yaml",
    )


def feedback(parser: argparse.ArgumentParser) -> None:
    """What `kws feedback` takes."""
    instance(parser)
    parser.add_argument(
        "kind",
        choices=("false", "missed"),
        help="false: the last detection was none; missed: a keyword was said just now and not heard",
    )
    parser.add_argument("keyword", nargs="?", metavar="KEYWORD", help="which one; default: the last")


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
    check = actions.add_parser("check", help="look for leaks between splits, missing files and odd rows")
    check.add_argument("folder", type=path, metavar="DIR")
    check.add_argument(
        "--content", action="store_true", help="decode and measure every clip too (needs the train extra)"
    )
    strict(check)
    imports = actions.add_parser("import", help="write a corpus in the format that `kws train` reads")
    imports.add_argument("layout", choices=("speech-commands", "wake-word-benchmark", "folders"))
    imports.add_argument("source", type=path, metavar="SRC")
    imports.add_argument("destination", type=path, metavar="DEST")
    negatives = actions.add_parser(
        "negatives", help="build hours of speech without keywords to train against"
    )
    negatives.add_argument("destination", type=path, metavar="DEST")
    negatives.add_argument("--hours", type=float, default=50.0, help="of synthesis; default: %(default)s")
    negatives.add_argument("--without", nargs="+", default=[], metavar="KEYWORD", help="words not to speak")
    words = actions.add_parser("words", help="speak words with synthesizers, to train on")
    words.add_argument("destination", type=path, metavar="DEST")
    words.add_argument("words", nargs="+", metavar="WORD")
    words.add_argument(
        "--takes", type=positive, default=100, metavar="N", help="of each word; default: %(default)s"
    )
    words.add_argument("--kokoro", type=path, metavar="DIR", help="folder of Kokoro's model: better voices")


def service(parser: argparse.ArgumentParser) -> None:
    """What `kws service` takes."""
    parser.set_defaults(instance=None, network=False, led=False, purge=False)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    install = actions.add_parser("install", help="copy this program to /opt, set the service up and start it")
    install.add_argument(
        "--network", action="store_true", help="let it use the network, for hooks that need it; default: none"
    )
    install.add_argument(
        "--led", action="store_true", help="let it use the pins of a Raspberry Pi, for lamps; default: no"
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


def captures(parser: argparse.ArgumentParser) -> None:
    """What `kws captures` takes."""
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
    delete.add_argument("numbers", nargs="*", type=positive, metavar="NUMBER", help="as listed")
    delete.add_argument("--all", action="store_true", help="delete every one")
    exports = action("export", "Copy them into a corpus to train on.")
    exports.add_argument("destination", type=path, metavar="DEST", help="folder of the corpus; may exist")


def _captures_of(parser: argparse.ArgumentParser, default: str | None) -> None:
    parser.add_argument(
        "--folder",
        type=path,
        default=default,
        metavar="DIR",
        help="where they are; default: the user's own, else the service's (needs sudo)",
    )
    parser.add_argument("--instance", default=default, metavar="NAME", help="of kws@NAME.service")


def wyoming(parser: argparse.ArgumentParser) -> None:
    """What `kws wyoming` takes."""
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
        "--clients-max", type=positive, default=128, metavar="N", help="connections; default: %(default)s"
    )
    parser.add_argument(
        "--zeroconf", metavar="NAME", help="announce the server on the local network, for Home Assistant"
    )
    parser.add_argument("--no-gate", action="store_true", help="run the models also while it is quiet")
