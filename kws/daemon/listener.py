"""The audio thread: hears one microphone for years, whatever happens to it.

::

              start                     first block heard
    (nothing) ─────▶ opening ──────────────▶ listening ◀──▶ silent        flat for `flat_line_seconds`
                        │ error                  │ error       │ and again
                        ▼                        ▼             ▼
                       lost ◀────────────────────┴─────────────┘          reopened after 0.5 s, 1 s, … 30 s
                                  mute: from any state to muted, unmute: to opening

Every turn of the loop ends in a blocking read or in a wait, so that no fault makes it spin. Between two
attempts PortAudio starts anew when that may help (`lookout`). Nothing waits for the sound system but this
thread; if that never answers, the main thread sees it in `hangs` and cuts it off with `abandon`.
"""

import logging
import math
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from kws.audio import level_dbfs
from kws.daemon.continuity import Continuity
from kws.daemon.flat_line import FlatLine
from kws.daemon.lookout import Lookout
from kws.errors import AudioError
from kws.microphone import Block, Microphone, MicrophoneSettings
from kws.portaudio import cut_off, refresh

State = Literal["opening", "listening", "silent", "lost", "muted"]

_FIRST_REST_S, _LONGEST_REST_S = 0.5, 30.0
_HANGS_S = 10.0  # opening takes up to two seconds, a device that delivers nothing is given up after five
_HEALTHY_S = 10.0  # of listening after which the next fault starts with a short rest again

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Counters:
    """Since the listener started; samples at the rate of the listener. Only the audio thread writes."""

    received_samples: int = 0
    expected_samples: float = 0.0
    """What the clock says the open microphone should have delivered."""
    lost_ms: float = 0.0
    """Gaps while the microphone was open."""
    gaps: int = 0
    overflows: int = 0
    """Losses that PortAudio admitted."""
    reopens: int = 0
    """Times that the microphone was opened again after a fault."""
    silent_s: float = 0.0
    """Time in which the microphone delivered nothing but one value."""


class Listener:
    """Opens, reads, watches and reopens the microphone in a thread of its own.

    Args:
        sample_rate_hz: Rate of the samples that are heard.
        hear: Takes each block, in the audio thread. The next block is read when it returns.
        lost: Told, in the audio thread, before the next `hear`, that this many samples were never heard: a
            gap, or the time between two microphones. What comes after does not belong to what was before.
        tell: Told of every change of state with its reason, in the audio thread.

    Attributes:
        state: What it does; `reason` says why, and is kept up to date while the state stays the same.
        device: The open microphone for `kws status`; None while there is none.
        counters: Totals since the start.
        beat_s: Monotonic time at which the loop turned last, or, while it rests on purpose, will turn next
            (infinity: when it is told to). A thread whose beat is seconds old hangs in the sound system.
    """

    def __init__(
        self,
        sample_rate_hz: int,
        hear: Callable[[Block], None],
        lost: Callable[[int], None],
        tell: Callable[[State, str], None],
    ) -> None:
        self.sample_rate_hz = sample_rate_hz
        self.state: State = "opening"
        self.reason = ""
        self.device: dict[str, Any] | None = None
        self.counters = Counters()
        self.beat_s = time.monotonic()
        self._hear, self._lost, self._tell = hear, lost, tell
        self._thread: threading.Thread | None = None
        self._settings = MicrophoneSettings()
        self._is_stopping = self._is_muted = False
        self._changed = threading.Event()  # the main thread wants something: leave the microphone, look again
        self._rest_s = _FIRST_REST_S
        self._line = FlatLine(0)
        self._well_s = time.monotonic()  # when the microphone was last well
        self._end_s: float | None = None  # when the last sample was heard
        self._has_failed = False  # what ended the last microphone was a fault, not a wish
        self._block: Block | None = None

    # -- from the main thread

    def start(self, settings: MicrophoneSettings) -> None:
        """Begin to listen."""
        self._settings = settings
        self._is_stopping = False
        self.beat_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="audio", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 3.0) -> bool:
        """End the thread, which closes the microphone itself; False when it hangs.

        Exit only after True: a process that exits with a thread inside PortAudio crashes.
        """
        self._is_stopping = True
        self._changed.set()
        if self._thread is None:
            return True
        self._thread.join(timeout_s / 2)
        if self._thread.is_alive():
            self.abandon()
            self._thread.join(timeout_s / 2)
        return not self._thread.is_alive()

    def mute(self) -> None:
        """Close the microphone until `unmute`."""
        self._is_muted = True
        self._changed.set()

    def unmute(self) -> None:
        """Listen again."""
        self._is_muted = False
        self._changed.set()

    def reopen(self, settings: MicrophoneSettings) -> None:
        """Go on with other settings; the same ones change nothing."""
        if settings != self._settings:
            self._settings = settings
            self._changed.set()

    @property
    def level_dbfs(self) -> float:
        """Level of the last block; -inf without one."""
        block = self._block
        return -math.inf if block is None else level_dbfs(block.samples)

    @property
    def hangs(self) -> bool:
        """Whether the thread is stuck in the sound system; then `abandon`, every second until it is not."""
        return time.monotonic() - self.beat_s > _HANGS_S

    def abandon(self) -> bool:
        """Free a thread that hangs, by cutting the connection to the sound server.

        The thread then finds its microphone lost and goes on as after any fault. It may hang once more for
        each device that the same server provides, and again at the next attempt.

        Returns:
            False: there was no connection, so it hangs in the kernel. Then, or if it still hangs ten seconds
            after it was cut off, only a new process can help.
        """
        return cut_off()

    # -- the audio thread

    def _run(self) -> None:
        lookout = Lookout()
        while True:
            if self._changed.is_set():
                self._rest_s = _FIRST_REST_S
                self._changed.clear()
            if self._is_stopping:  # looked at after the event is cleared, so that no wish is missed
                return
            if self._is_muted:
                self._become("muted", "muted by the user")
                self._rest(None)
                continue
            if self.state == "muted":
                self._become("opening", "unmuted")
            if not self._attempt(lookout) and not self._changed.is_set():
                self._rest(self._rest_s * random.uniform(0.8, 1.2))  # noqa: S311 - not all daemons at once
                self._rest_s = min(2 * self._rest_s, _LONGEST_REST_S)

    def _attempt(self, lookout: Lookout) -> bool:
        """One microphone, from its opening to its end; False after a fault."""
        settings = self._settings
        self.beat_s = time.monotonic()
        try:
            if self._has_failed and lookout.wants_look(self._well_s):
                refresh()
            with Microphone(settings, self.sample_rate_hz) as microphone:
                self.device = _described(microphone, settings, self.sample_rate_hz)
                self._listen(microphone, settings)
        except AudioError as error:
            self._become("lost", str(error))
        except Exception as error:  # a listener that is meant for years has no fault that ends it
            _log.exception("the audio thread met a fault of the program and goes on")
            self._become("lost", f"fault of the program ({error!r}); report it")
        else:
            return True
        finally:
            self.device = self._block = None
            self._has_failed = not self._changed.is_set()
        return False

    def _listen(self, microphone: Microphone, settings: MicrophoneSettings) -> None:
        """Hear one microphone until the main thread wants something else or its line is flat."""
        if settings.flat_line_seconds != self._line.limit_s:
            self._line = FlatLine(settings.flat_line_seconds)
        continuity = Continuity(microphone.rate_hz, microphone.rate_hz * settings.block_ms // 1000)
        opened_s = None
        while not self._changed.is_set():
            self.beat_s = time.monotonic()
            block = microphone.read()
            if opened_s is None:
                opened_s = block.start_s
                self._begin(block)
            waiting = round(block.backlog_ms * microphone.rate_hz / 1000)
            lost_s = continuity.feed(block.frames, waiting, block.read_s) / microphone.rate_hz
            self._count(block, lost_s)
            if lost_s:
                self._lost(round(lost_s * self.sample_rate_hz))
            self._hear(block)
            is_hopeless = self._line.feed(block.is_flat, block.frames / microphone.rate_hz)
            if self._line.is_silent:
                self._become("silent", f"the microphone {microphone.name!r} delivers no sound; is it muted?")
            else:
                self._become("listening", microphone.name)
                self._well_s = block.read_s
                if block.read_s - opened_s > _HEALTHY_S:
                    self._rest_s = _FIRST_REST_S
            if is_hopeless:
                return

    def _begin(self, block: Block) -> None:
        """Tell how much was missed since the microphone before this one."""
        if self._end_s is not None:
            self.counters.reopens += self._has_failed
            self._lost(round(max(0.0, block.start_s - self._end_s) * self.sample_rate_hz))
        self._end_s = block.start_s

    def _count(self, block: Block, lost_s: float) -> None:
        counters, end_s = self.counters, block.read_s - block.backlog_ms / 1000
        if self._end_s is not None:
            counters.expected_samples += (end_s - self._end_s) * self.sample_rate_hz
        counters.received_samples += len(block.samples)
        counters.overflows += block.overflowed
        if lost_s:
            counters.gaps += 1
            counters.lost_ms += 1000 * lost_s
        if self._line.is_silent:
            counters.silent_s += block.read_s - block.start_s - block.backlog_ms / 1000
        self._block, self._end_s = block, end_s

    def _become(self, state: State, reason: str) -> None:
        is_new, self.state, self.reason = state != self.state, state, reason
        if is_new:
            self._tell(state, reason)

    def _rest(self, seconds: float | None) -> None:
        self.beat_s = math.inf if seconds is None else time.monotonic() + seconds
        self._changed.wait(seconds)
        self.beat_s = time.monotonic()


def _described(microphone: Microphone, settings: MicrophoneSettings, sample_rate_hz: int) -> dict[str, Any]:
    return {
        "name": microphone.name,
        "device_rate_hz": microphone.rate_hz,
        "channels": microphone.channels,
        "pick": settings.pick,
        "sample_rate_hz": sample_rate_hz,
        "reason": microphone.reason,
    }
