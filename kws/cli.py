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
from kws import model_options, options
from kws.arguments import add_command, help_formatter, instance
from kws.errors import INTERRUPTED, KwsError, MissingExtra

BROKEN_PIPE = 141

_TRAIN_PACKAGES = ("onnx", "pyroomacoustics", "rich", "safetensors", "torch")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; `arguments` default to the program's own. Returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parsed = _parser(next((word for word in arguments if word[:1] != "-"), None)).parse_args(arguments)
    debug = parsed.debug or os.environ.get("KWS_DEBUG", "") not in ("", "0")
    # Small matrices gain nothing from a second thread, and its stack and start-up would be paid for.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        code: int = importlib.import_module(f"kws.commands.{parsed.command}").run(parsed)
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
        formatter_class=help_formatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    parser.add_argument(
        "--debug", action="store_true", help="show a traceback with an error (or KWS_DEBUG=1)"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", prog="kws")

    def command(name: str, summary: str, fill: Callable[[argparse.ArgumentParser], None]) -> None:
        if only in (None, name):
            fill(add_command(commands, name, summary))

    command("listen", "Listen to a microphone, a file or standard input.", options.listen)
    command("run", "Listen for months: the daemon behind the service.", options.run)
    command("detect", "Score audio files at full speed.", options.detect)
    command("classify", "Decide what each short clip says.", options.classify)
    command("devices", "List the microphones.", lambda _: None)
    command("status", "Show what the running daemon hears, costs and draws.", options.status)
    command("events", "Follow what the running daemon hears, as JSON lines.", options.events)
    command("mute", "Close the running daemon's microphone.", options.mute)
    command("unmute", "Open it again.", instance)
    command("mqtt", "Connect the running daemon to Home Assistant, from outside.", options.mqtt)
    command("feedback", "Tell the running daemon that it heard wrongly, or missed a word.", options.feedback)
    command("models", "List the installed models and what they measured.", lambda _: None)
    command("evaluate", "Measure false rejects and false accepts on a corpus.", model_options.evaluate)
    command("bench", "Measure speed and memory on this machine.", model_options.bench)
    command("train", "Train a network, then fine-tune it to 8-bit integers.", model_options.train)
    command("export", "Turn a training run into a model folder.", model_options.export)
    command("captures", "List, delete or export the recordings that the service kept.", options.captures)
    command("corpus", "Check a corpus, import one, or build negatives.", model_options.corpus)
    command("service", "Set up, upgrade or remove the always-on service.", options.service)
    command("wyoming", "Hear wake words for other machines, by the Wyoming protocol.", options.wyoming)
    return parser if commands.choices else _parser()  # of an unknown command the message names all
