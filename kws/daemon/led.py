"""Lamps at the pins of a Raspberry Pi: one lights when a word was heard, one while the microphone is open.

gpiozero drives them in a thread of its own, which also imports it. Who hands an event over only leaves a note
of until when a lamp shall shine; no number of events makes that grow. What goes wrong is one line in the log.
"""

import contextlib
import importlib.metadata
import logging
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kws.errors import ConfigError, KwsError, MissingExtra

if TYPE_CHECKING:
    from gpiozero import LED

_DARK = ("muted", "lost")  # states without an open microphone; in doubt the lamp is lit
_STOP_S = 1.0
_NEXT_STEPS = {
    "Pi revision": "lamps need a Raspberry Pi; remove led",
    "can not open gpiochip": "run: sudo kws service install --led, or join the group gpio",
    "GPIO busy": "end the program that uses the pin, or name another",
    "already in use": "name another pin",
    "not a valid pin": "correct led",
}
"""What to do, by a part of what gpiozero and lgpio say."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LedSettings:
    """Two lamps, each of which may be left out. Pins are named as gpiozero does: GPIO17, 17 or BOARD11."""

    pin: int | str | None = None
    """Lights at each detection."""
    listening_pin: int | str | None = None
    """Lit while the microphone is open: dark when it is muted or lost."""
    active_high: bool = True
    """A lamp is lit by 3.3 V at its pin; false: by 0 V."""
    on_seconds: float = 0.5
    """How long after a detection; a further one extends it."""
    keywords: tuple[str, ...] = ()
    """Which keywords light it; none named: every one."""

    def __post_init__(self) -> None:
        """Refuse what could not shine."""
        if self.pin is None and self.listening_pin is None:
            raise ConfigError("pin is missing; name one, e.g. GPIO17")
        for key in ("pin", "listening_pin"):
            pin = getattr(self, key)
            if pin is not None and not re.fullmatch(r"(GPIO|BCM|BOARD|WPI|[JP]\d+:)?\d+", str(pin)):
                raise ConfigError(f"{key} {pin!r} is no name of a pin; write e.g. GPIO17 or BOARD11")
        if not 0 < self.on_seconds <= 3600:
            raise ConfigError("on_seconds must be above 0 and at most 3600; correct it")

    def wants(self, event: Mapping[str, Any]) -> bool:
        """Whether this event lights the lamp."""
        return event.get("event") == "detection" and (
            not self.keywords or event.get("keyword") in self.keywords
        )


class Led:
    """The lamps of one daemon: none until `configure` is given settings.

    Args:
        folder: A folder that exists and may be written to, such as that of the daemon's sockets.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._settings: LedSettings | None = None
        self._thread: threading.Thread | None = None
        self._news, self._is_over = threading.Event(), threading.Event()
        self._until_s = 0.0
        self._is_open = True  # the microphone

    def configure(self, settings: LedSettings | None) -> None:
        """Use these pins from now on, None: none at all. The same settings change nothing if they work."""
        if settings == self._settings and (self._thread is None or self._thread.is_alive()):
            return
        self.close()
        if settings is not None:
            self._settings = settings
            self._news, self._is_over = threading.Event(), threading.Event()
            arguments = (settings, self._news, self._is_over)
            self._thread = threading.Thread(target=self._run, args=arguments, name="led", daemon=True)
            self._thread.start()

    def put(self, event: Mapping[str, Any]) -> None:
        """Light or put out what this event lights or puts out; returns at once."""
        if event.get("event") == "state":
            self._is_open = event["state"] not in _DARK
        elif self._settings is not None and self._settings.wants(event):
            self._until_s = time.monotonic() + self._settings.on_seconds
        self._news.set()

    def close(self) -> None:
        """Put the lamps out and release the pins."""
        self._is_over.set()
        self._news.set()
        if self._thread is not None:
            self._thread.join(_STOP_S)
        self._settings = self._thread = None
        self._until_s = 0.0

    def _run(self, settings: LedSettings, news: threading.Event, is_over: threading.Event) -> None:
        try:
            with self._lamps(settings) as lamps:
                _log.info("led: ready, %s", ", ".join(f"{key} is {lamp.pin}" for key, lamp in lamps.items()))
                self._shine(lamps, news, is_over)
        except KwsError as error:
            _log.error("led: %s", error)
        except Exception as error:
            said = str(error).strip("'") or type(error).__name__
            steps = [step for part, step in _NEXT_STEPS.items() if part in said]
            _log.error("led: %s; %s", said, *(steps or ["reload the service to try again"]))
            _log.debug("led", exc_info=True)

    def _shine(self, lamps: "dict[str, LED]", news: threading.Event, is_over: threading.Event) -> None:
        while True:
            news.clear()  # before looking: what comes later wakes us
            if is_over.is_set():
                return
            left_s = max(0.0, self._until_s - time.monotonic())
            is_lit = {"pin": left_s > 0, "listening_pin": self._is_open}
            for key, lamp in lamps.items():
                lamp.value = is_lit[key]
            news.wait(left_s or None)

    @contextlib.contextmanager
    def _lamps(self, settings: LedSettings) -> "Iterator[dict[str, LED]]":
        """The lamps that are wanted, by the names of the settings; dark and released in the end."""
        try:
            from gpiozero import LED  # noqa: PLC0415 (slow on a small board, only when wanted)

            factory = self._factory()
        except ModuleNotFoundError as error:
            raise MissingExtra(error.name or "gpiozero", "led") from None
        with contextlib.closing(factory), contextlib.ExitStack() as stack:
            lamps = {}
            for key in ("pin", "listening_pin"):
                pin = getattr(settings, key)
                if pin is not None:
                    lamp = LED(pin, active_high=settings.active_high, pin_factory=factory)
                    lamps[key] = stack.enter_context(lamp)
                    stack.callback(lamp.off)
            yield lamps

    def _factory(self) -> Any:
        """How gpiozero gets to the pins: by lgpio, unless $GPIOZERO_PIN_FACTORY names another.

        Left to itself gpiozero tries one after the other, a server on the network among them.
        """
        name = os.environ.get("GPIOZERO_PIN_FACTORY", "lgpio")
        ways = importlib.metadata.entry_points(group="gpiozero_pin_factories", name=name)
        if not ways:
            raise KwsError(f"gpiozero has no pin factory {name!r}; correct $GPIOZERO_PIN_FACTORY")
        # lgpio leaves a named pipe in the working directory, which a service cannot write, and stays in it.
        with contextlib.chdir(self._folder):
            return next(iter(ways)).load()()
