"""`kws wyoming`: hear wake words for other programs and machines, by the Wyoming protocol."""

import argparse
import logging
import sys

from kws.gate import GateSettings
from kws.network.wyoming.settings import WyomingSettings, require


def run(options: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM; over stdio, until standard input ends."""
    # To standard error: standard output may belong to the protocol.
    logging.basicConfig(
        level=logging.DEBUG if options.debug else logging.INFO, format="kws: %(message)s", stream=sys.stderr
    )
    settings = WyomingSettings(
        uri=options.uri,
        models=tuple(options.model or ()),
        false_accepts_per_day=options.false_accepts_per_day,
        clients_max=options.clients_max,
        zeroconf=options.zeroconf,
    )
    require(settings)
    from kws.network.wyoming.service import serve  # noqa: PLC0415 (an extra)

    return serve(settings, None if options.no_gate else GateSettings())
