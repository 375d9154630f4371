"""Settings of a microphone: what is refused, and what a YAML file may say."""

import pytest

from kws.config import parse
from kws.errors import ConfigError
from kws.microphone import MicrophoneSettings


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, MicrophoneSettings()),
        ({"device": "USB"}, MicrophoneSettings(device="USB")),
        ({"device": 3, "channels": 4, "pick": "mix"}, MicrophoneSettings(3, 4, "mix")),
        ({"pick": [0.5, 1]}, MicrophoneSettings(pick=(0.5, 1.0))),
        ({"pick": 2, "block_ms": 160, "flat_line_seconds": 0}, MicrophoneSettings(None, None, 2, 160, 0.0)),
    ],
)
def test_settings_from_yaml(given, wanted):
    assert parse(given, MicrophoneSettings) == wanted


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"channels": 0}, "channels must be 1 to 64, not 0; "),
        ({"pick": -1}, "pick must be a channel from 0, not -1; "),
        ({"pick": 2, "channels": 2}, "pick 2 does not fit 2 channels; "),
        ({"pick": [1, 1], "channels": 4}, r"pick \(1.0, 1.0\) does not fit 4 channels; "),
        ({"pick": [0, 0]}, "pick must hold a finite weight for each channel"),
        ({"pick": [1, float("nan")]}, "pick must hold a finite weight for each channel"),
        ({"pick": "left"}, "pick must be "),
        ({"block_ms": 20}, "block_ms must be 40 to 160, not 20; "),
        ({"flat_line_seconds": 0.5}, "flat_line_seconds must be 1 to 3600, or 0 for never, not 0.5; "),
    ],
)
def test_settings_that_make_no_sense(given, message):
    with pytest.raises(ConfigError, match=message):
        parse(given, MicrophoneSettings)


@pytest.mark.parametrize(("pick", "channels"), [(0, 1), (3, 4), ("mix", 1), ((0.5, 0.5), 2)])
def test_least_channels(pick, channels):
    assert MicrophoneSettings(pick=pick).least_channels == channels
