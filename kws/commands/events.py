"""`kws events`: every detection, near miss and change of state as it happens, one JSON object a line."""

import argparse
import itertools
import json

from kws.client import events, find_runtime


def run(options: argparse.Namespace) -> int:
    """Print events until there were enough, or until Ctrl-C; KwsError when the daemon ends."""
    for event in itertools.islice(events(find_runtime(options.instance)), options.count):
        print(json.dumps(event, ensure_ascii=False), flush=True)
    return 0
