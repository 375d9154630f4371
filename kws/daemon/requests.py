"""What clients may ask of a daemon, and who may."""

import math
from typing import TYPE_CHECKING, Any

from kws.daemon.snapshot import muted_until, snapshot
from kws.errors import ConfigError, KwsError
from kws.protocol import Message

if TYPE_CHECKING:
    from kws.daemon.appliance import Appliance

CONTROL = ("mute", "unmute", "reload", "feedback", "set")
"""Requests that change something."""

_MUTE_MAX_S = 366 * 86_400


def answer(appliance: "Appliance", request: Message, may_control: bool) -> Message:
    """Do it, in the main thread, and say what is now.

    Raises:
        KwsError: there is no such request, this client may not, or it cannot be done.
    """
    kind = request["request"]
    if kind == "status":
        return snapshot(appliance)
    if kind not in CONTROL:
        raise KwsError(f"there is no request {kind!r}; upgrade kws, or see: kws --help")
    if not may_control:
        raise KwsError(f"{kind} is not for this socket; use the one for control")
    if kind == "feedback":
        return _take_feedback(appliance, request)
    if kind == "mute":
        appliance.silence(_seconds(request.get("seconds")))
    elif kind == "unmute":
        appliance.unmute()
    elif kind == "set":
        appliance.choose_rates(_rates(request.get("false_accepts_per_day")))
    else:
        appliance.reload()
        if appliance.config_error:
            raise ConfigError(appliance.config_error)
    return {"state": appliance.listener.state, "muted_until": muted_until(appliance.mute)}


def _seconds(seconds: Any) -> float | None:
    if seconds is None:
        return None
    if type(seconds) not in (int, float) or not 0 < seconds <= _MUTE_MAX_S:  # True is no time
        raise KwsError(f"cannot mute for {seconds!r} seconds; name a time above 0, of at most a year")
    return float(seconds)


def _rates(rates: Any) -> dict[str, float | None]:
    if not isinstance(rates, dict) or not rates:
        raise KwsError('there is nothing to set; name words: {"false_accepts_per_day": {"computer": 1}}')
    for word, rate in rates.items():
        is_number = isinstance(rate, (int, float)) and not isinstance(rate, bool)
        if rate is not None and not (is_number and 0 < rate < math.inf):
            raise KwsError(f"{word!r} cannot be heard wrongly {rate!r} times a day; name a number above 0")
    return rates


def _take_feedback(appliance: "Appliance", request: Message) -> Message:
    label = request.get("kind")
    if label not in ("false", "missed"):
        raise KwsError(f"feedback is false or missed, not {label!r}; say one of them")
    ring = appliance.hearing.ring
    return appliance.feedback.add(label, request.get("keyword"), ring.last(ring.samples))
