"""`kws mute`: close the microphone, for a time or until `kws unmute`."""

import argparse

from kws.client import ask, find_runtime
from kws.status_view import clock


def run(options: argparse.Namespace) -> int:
    """Mute, and say until when."""
    request = {"request": "mute", "seconds": options.seconds}
    until = ask(request, find_runtime(options.instance), control=True).get("muted_until")
    print(f"muted until {clock(until)}" if until else "muted until: kws unmute")
    return 0
