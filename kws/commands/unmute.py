"""`kws unmute`: open the microphone again."""

import argparse

from kws.client import ask, find_runtime


def run(options: argparse.Namespace) -> int:
    """Unmute."""
    ask({"request": "unmute"}, find_runtime(options.instance), control=True)
    print("unmuted")
    return 0
