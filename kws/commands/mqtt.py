"""`kws mqtt`: the bridge to an MQTT broker as a process of its own, beside a daemon that has no network."""

import argparse
import importlib.util
import logging
import signal

from kws import config
from kws.client import find_runtime
from kws.errors import INTERRUPTED, MissingExtra
from kws.network.mqtt import Mqtt, MqttSettings


def run(options: argparse.Namespace) -> int:
    """Serve until SIGTERM (returns 0) or Ctrl-C (returns 130); whether daemon and broker run or not."""
    if importlib.util.find_spec("paho") is None:
        raise MissingExtra("paho-mqtt", "mqtt")
    settings = config.load(options.config, MqttSettings)
    level = logging.DEBUG if options.debug else logging.INFO
    logging.basicConfig(level=level, format="%(levelname)s %(message)s")
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # in the threads too, so that they come to us
    bridge = Mqtt(settings, find_runtime(options.instance))
    bridge.start()
    number = signal.sigwait(ends)
    bridge.close()
    return INTERRUPTED if number == signal.SIGINT else 0
