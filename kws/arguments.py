"""Arguments that several commands take, and the types of their values."""

import argparse
import importlib
import os

TYPE_CHECKING = False  # as type checkers know it; `typing` would slow `kws status`
if TYPE_CHECKING:
    from typing import Any


def add_command(commands: "Any", name: str, summary: str) -> argparse.ArgumentParser:
    """The parser of a command, or of one action of a command; `commands` is what `add_subparsers` gave."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=summary, allow_abbrev=False, formatter_class=help_formatter
    )
    # Wherever it stands; without a default, which would hide that it stood before the command.
    parser.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return parser


def help_formatter(prog: str) -> argparse.HelpFormatter:
    """As wide as the terminal, without the modules that argparse would load to know that."""
    try:
        columns = os.get_terminal_size().columns
    except OSError:
        columns = 80
    return argparse.HelpFormatter(prog, width=columns - 2)


def path(text: str) -> object:
    """A path, without loading pathlib for commands that take none."""
    return importlib.import_module("pathlib").Path(text)


def model(parser: argparse.ArgumentParser, default: str = "default") -> None:
    """Which model."""
    parser.add_argument("--model", default=default, metavar="NAME|PATH", help="default: %(default)s")


def rates(parser: argparse.ArgumentParser) -> None:
    """How often a word may be heard wrongly."""
    parser.add_argument(
        "--false-accepts-per-day",
        metavar="N|WORD=N,...",
        help="how often a word may be heard wrongly, of all or of single keywords (alexa=0.5,computer=2): "
        "chooses the thresholds from the model's measured curve; default: the model's own thresholds",
    )


def jobs(parser: argparse.ArgumentParser) -> None:
    """How many processes."""
    parser.add_argument("--jobs", type=positive, default=1, metavar="N", help="processes; default: 1")


def files(parser: argparse.ArgumentParser) -> None:
    """Audio files, named or listed."""
    parser.add_argument(
        "--list", metavar="FILES.txt", help="read the file names from here, one a line; - is standard input"
    )
    parser.add_argument("files", nargs="*", metavar="FILE", help="audio: WAV, FLAC, Ogg, Opus, MP3")


def instance(parser: argparse.ArgumentParser) -> None:
    """Which of several daemons."""
    parser.add_argument("--instance", metavar="NAME", help="of kws@NAME.service, where several run")


def strict(parser: argparse.ArgumentParser) -> None:
    """Warnings about a corpus as errors."""
    parser.add_argument("--strict", action="store_true", help="treat warnings about the corpus as errors")


def numbers(text: str) -> list[float]:
    """`10,0`; argparse turns a ValueError into a sentence of its own."""
    return [float(number) for number in text.split(",")]


def seconds(text: str) -> int:
    """`30m` in seconds."""
    number, unit = text[:-1], text[-1:]
    if unit not in _UNITS_S or not number.isdecimal() or int(number) < 1:
        raise argparse.ArgumentTypeError("write a whole number and a unit: 90s, 30m, 2h or 1d")
    return int(number) * _UNITS_S[unit]


_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def positive(text: str) -> int:
    """A whole number, 1 or more."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def not_negative(text: str) -> int:
    """A whole number, 0 or more."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return value
