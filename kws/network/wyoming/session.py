"""One client: what it asked for, the state of its stream, and what it must be told. No sockets here."""

from collections.abc import Iterator
from logging import getLogger

from wyoming.event import Event
from wyoming.ping import Pong
from wyoming.wake import Detection, NotDetected

from kws.audio import BLOCK_MS
from kws.features import Samples
from kws.gate import GateSettings
from kws.model import Model
from kws.network.wyoming.catalogue import Catalogue, Offer
from kws.network.wyoming.pcm import RATE_HZ, Pcm
from kws.network.wyoming.wire import BadEvent, shown
from kws.pipeline import Pipeline

_TURN_SAMPLES = RATE_HZ * BLOCK_MS // 1000

_log = getLogger(__name__)


class Session:
    """A conversation with one client. Time in it is counted in samples, from the last start of a stream.

    Args:
        catalogue: What is on offer.
        refractory_seconds: Audio time after a detection in which there is no other one.
        gate: Skips the models while it is quiet; None hears everything.
    """

    def __init__(
        self, catalogue: Catalogue, refractory_seconds: float, gate: GateSettings | None = None
    ) -> None:
        self._catalogue, self._gate = catalogue, gate
        self._rest_samples = round(refractory_seconds * RATE_HZ)
        self._known: dict[Model, Pipeline] = {}  # kept when a client changes its mind
        self._has_warned = False
        self._choose(catalogue.default)

    def handle(self, event: Event) -> Iterator[Event | None]:
        """What the client must be told now; None wherever others may have a turn.

        Events of an unknown type mean nothing, as the protocol wants it.

        Raises:
            BadEvent: a part of it is missing or of another kind than it must be.
        """
        match event.type:
            case "describe":
                yield self._catalogue.info
            case "ping":
                text = event.data.get("text")
                yield Pong(text=text if isinstance(text, str) else None).event()
            case "detect":
                self._detect(event.data.get("names"))
            case "audio-start":
                self._restart()
            case "audio-chunk":
                yield from self._hear(event)
            case "audio-stop":
                yield from self._stop()

    def _detect(self, names: object) -> None:
        if names is None:
            names = []
        if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
            raise BadEvent("names is no list of names")
        offers, unknown = self._catalogue.find(names)
        if unknown and not self._has_warned:  # once: a client must not fill the log
            self._has_warned = True
            instead = "" if offers else "; it hears " + ", ".join(o.name for o in self._catalogue.default)
            _log.warning("a client asks for %s, which is not installed%s", shown(unknown), instead)
        self._choose(offers or self._catalogue.default)

    def _choose(self, offers: list[Offer]) -> None:
        self._names: dict[Model, dict[str, str]] = {}
        for offer in offers:
            self._names.setdefault(offer.model, {})[offer.phrase] = offer.name
        self._restart()

    def _restart(self) -> None:
        """The next sample is the first of a new stream."""
        self._pcm: Pcm | None = None
        self._resting_until = 0
        self._is_told = False
        self._is_fresh = True

    def _pipelines(self) -> list[tuple[Pipeline, dict[str, str]]]:
        """Of the models asked for, each with the names of the words asked for."""
        for model in self._names:
            if model not in self._known:
                self._known[model] = self._catalogue.pipeline(model, self._gate)
        chosen = [(self._known[model], names) for model, names in self._names.items()]
        if self._is_fresh:
            self._is_fresh = False
            for pipeline, _ in chosen:
                pipeline.reset()
        return chosen

    def _hear(self, event: Event) -> Iterator[Event | None]:
        """Satellites send chunks without any audio-start, so each one says its format."""
        try:
            kind = tuple(event.data[name] for name in ("rate", "width", "channels"))
        except KeyError as error:
            raise BadEvent(f"an audio-chunk says no {error.args[0]}") from None
        if self._pcm is None or self._pcm.format != kind:
            self._pcm = Pcm(*kind)
        stamp = event.data.get("timestamp")
        samples = self._pcm.feed(event.payload or b"")
        yield from self._feed(samples, stamp if isinstance(stamp, int) else None)

    def _feed(self, samples: Samples, stamp: int | None) -> Iterator[Event | None]:
        pipelines = self._pipelines()
        for first in range(0, len(samples), _TURN_SAMPLES):
            for pipeline, names in pipelines:
                for detection in pipeline.feed(samples[first : first + _TURN_SAMPLES]):
                    yield from self._tell(names.get(detection.keyword), detection.sample, stamp)
            yield None

    def _stop(self) -> Iterator[Event | None]:
        if self._pcm is not None:
            yield from self._feed(self._pcm.flush(), None)
            for pipeline, names in self._pipelines():
                for detection in pipeline.flush():
                    yield from self._tell(names.get(detection.keyword), detection.sample, None)
        if not self._is_told:
            yield NotDetected().event()
        self._restart()

    def _tell(self, name: str | None, sample: int, stamp: int | None) -> Iterator[Event]:
        """A detection, with the time stamp of its chunk, or else milliseconds of its stream."""
        if name is None or sample < self._resting_until:
            return
        self._resting_until = sample + self._rest_samples
        self._is_told = True
        time_ms = round(1000 * sample / RATE_HZ) if stamp is None else stamp
        yield Detection(name=name, timestamp=time_ms).event()
