"""`kws devices`: list the microphones."""

import argparse

from kws.errors import AudioError
from kws.portaudio import devices


def run(_options: argparse.Namespace) -> int:
    """Print one line per input device, the default one marked; AudioError when there is none."""
    inputs = devices()
    if not inputs:
        raise AudioError("there is no microphone; plug one in, or try: kws listen --source FILE")
    for device in inputs:
        mark = "*" if device.is_default else " "
        channels = f"{device.channels} channel{'s' if device.channels > 1 else ''}"
        print(f"{mark}{device.index:3}  {device.name}  ({channels}, {device.default_rate_hz} Hz)")
    return 0
