"""What the commands take that listen, for a moment or for months; `kws.cli` uses the one that was chosen."""

import argparse

from kws.arguments import add_command, files, instance, jobs, model, path, positive, rates, seconds


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


def service(parser: argparse.ArgumentParser) -> None:
    """What `kws service` takes."""
    parser.set_defaults(instance=None, network=False, led=False, purge=False)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    install = add_command(actions, "install", "Copy this program to /opt, set the service up and start it.")
    install.add_argument(
        "--network", action="store_true", help="let it use the network, for hooks that need it; default: none"
    )
    install.add_argument(
        "--led", action="store_true", help="let it use the pins of a Raspberry Pi, for lamps; default: no"
    )
    upgrade = add_command(actions, "upgrade", "Let the services run this program; settings stay.")
    uninstall = add_command(actions, "uninstall", "Stop and remove the service; settings and state stay.")
    uninstall.add_argument("--purge", action="store_true", help="remove settings and state too")
    for action in (install, uninstall):
        action.add_argument(
            "--instance", metavar="NAME", help="one of several services, set up in /etc/kws/NAME.yaml"
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
        sub = add_command(actions, name, summary)
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
