"""`kws feedback`: tell the daemon that it heard wrongly, or that it missed a keyword."""

import argparse

from kws.client import ask, find_runtime

_MEANING = {"false": "a false accept", "missed": "missed"}


def run(options: argparse.Namespace) -> int:
    """Pass the judgement on, and say what it was taken to be about."""
    request = {"request": "feedback", "kind": options.kind, "keyword": options.keyword}
    answer = ask(request, find_runtime(options.instance), control=True)
    print(f"noted: {answer.get('keyword') or 'a keyword'} was {_MEANING[options.kind]}")
    return 0
