"""`kws run`: the daemon that listens for months. `kws status` looks at it, `kws events` follows it."""

import argparse
import logging

from kws.daemon import journal, stderr
from kws.daemon.appliance import Appliance
from kws.daemon.hearing import Chain
from kws.daemon.settings import find_config, load_settings, says

_log = logging.getLogger(__name__)


def run(options: argparse.Namespace) -> int:
    """Listen until SIGTERM or Ctrl-C; or only check the configuration."""
    path, why = find_config(options.config)
    if options.check:
        print(f"settings: {path or 'built in'}, as {why}")
        for line in Chain.for_settings(load_settings(path), says(path)).reason:
            print(line)
        return 0
    stderr.keep_for_python()
    journal.set_up(logging.DEBUG if options.debug else logging.INFO)
    appliance = Appliance(path, why)
    for line in appliance.hearing.chain.reason:
        _log.info(line)
    return appliance.run()
