"""`kws feedback`: tell the daemon that it heard wrongly, or that it missed a keyword."""

import argparse

from kws.client import ask
from kws.folders import find_runtime
from kws.status_view import clock


def run(options: argparse.Namespace) -> int:
    """Pass the judgement on, and say what it was taken to be about."""
    request = {"request": "feedback", "kind": options.kind}
    answer = ask(request, find_runtime(options.instance), control=True)
    about = " ".join(
        filter(None, [answer.get("keyword"), answer.get("wall_time") and f"at {clock(answer['wall_time'])}"])
    )
    meaning = "false accept" if options.kind == "false" else "missed keyword"
    print(f"noted as a {meaning}{': ' + about if about else ''}")
    return 0
