"""`kws status`: what the daemon hears, costs and draws."""

import argparse
import importlib
import json
import sys

from kws.client import ask, find_runtime
from kws.errors import ConfigError, KwsError
from kws.protocol import HEALTHY

UNHEALTHY = KwsError.exit_code


def run(options: argparse.Namespace) -> int:
    """Print the daemon's status; 0 when it listens or is muted, 1 when it is not well or not running."""
    folder = find_runtime(options.instance)
    if options.watch:
        if not sys.stdout.isatty():
            raise ConfigError("--watch draws on a terminal; use --json here, or `kws events`")
        importlib.import_module("kws.live_view").watch(folder)
    snapshot = ask({"request": "status"}, folder)
    if options.json:
        print(json.dumps(snapshot, ensure_ascii=False))
    elif options.prometheus:
        print(importlib.import_module("kws.prometheus").exposition(snapshot), end="")
    else:
        print(importlib.import_module("kws.status_view").text(snapshot))
    return 0 if snapshot.get("state") in HEALTHY else UNHEALTHY
