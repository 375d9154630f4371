"""Whatever arrives at the Wyoming server is either understood or a BadEvent, and costs bounded memory."""

import asyncio
import json

import numpy as np
import pytest
from conftest import RATE_HZ
from hypothesis import example, given, settings
from hypothesis import strategies as st
from wyoming.event import Event
from wyoming_server import encoded
from zeroconf import ServiceStateChange
from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf

from kws import config
from kws.daemon.settings import Settings
from kws.errors import ConfigError
from kws.network.wyoming.announcement import SERVICE, announced
from kws.network.wyoming.catalogue import Catalogue
from kws.network.wyoming.pcm import Pcm
from kws.network.wyoming.session import Session
from kws.network.wyoming.settings import WyomingSettings
from kws.network.wyoming.wire import DATA_BYTES_MAX, HEADER_BYTES_MAX, PAYLOAD_BYTES_MAX, BadEvent, read_event

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
LENGTHS = st.none() | st.integers(-2, 40) | st.integers(2**16 - 1, 2**70) | st.floats() | st.text(max_size=3)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["describe", "detect", "audio-chunk"]) | ANYTHING,
        "data": ANYTHING,
        "data_length": LENGTHS,
        "payload_length": LENGTHS,
        "version": ANYTHING,
    },
)
WIRE = st.lists(
    st.binary(max_size=40) | HEADERS.map(lambda header: json.dumps(header).encode() + b"\n"), max_size=6
).map(b"".join)


def events_in(sent: bytes) -> list[Event | str]:
    """Everything that is read from a connection; the reason is last if one is bad."""

    async def reading() -> list[Event | str]:
        reader = asyncio.StreamReader(limit=HEADER_BYTES_MAX)
        reader.feed_data(sent)
        reader.feed_eof()
        events: list[Event | str] = []
        try:
            while (event := await read_event(reader)) is not None:
                events.append(event)
        except BadEvent as error:
            events.append(str(error))
        return events

    return asyncio.run(reading())


@given(WIRE)
@settings(max_examples=400)
@example(b'{"type": "x", "payload_length": true}\n')
@example(b'{"type": "x", "data_length": 1e99}\n')
@example(b'{"type": "x", "data": {"a": NaN}}\n')
@example(b'{"type": "x", "data_length": ' + 5000 * b"9" + b"}\n")
def test_any_bytes_are_events_or_one_bad_event(sent):
    for event in events_in(sent):
        if isinstance(event, Event):
            assert isinstance(event.type, str)
            assert isinstance(event.data, dict)
            assert event.payload is None or len(event.payload) <= PAYLOAD_BYTES_MAX
        else:
            assert event.isascii()
            assert len(event) < 200


def event_bytes(data_bytes: int, payload_bytes: int, header_bytes: int = 0) -> bytes:
    data = json.dumps({"text": "x" * (data_bytes - len('{"text": ""}'))}).encode()
    header = {"type": "ping", "data_length": data_bytes, "payload_length": payload_bytes, "pad": ""}
    header["pad"] = "x" * (header_bytes - len(json.dumps(header)) - 1)
    return json.dumps(header).encode() + b"\n" + data + bytes(payload_bytes)


def test_events_of_the_greatest_size_are_read_and_greater_ones_are_not():
    (most,) = events_in(event_bytes(DATA_BYTES_MAX, PAYLOAD_BYTES_MAX, HEADER_BYTES_MAX))
    assert isinstance(most, Event)
    assert (len(most.payload or b""), len(most.data["text"])) == (PAYLOAD_BYTES_MAX, DATA_BYTES_MAX - 12)
    assert events_in(event_bytes(DATA_BYTES_MAX + 1, 0)) == [f"data_length must lie in 0..65536, not {65537}"]
    assert events_in(event_bytes(100, PAYLOAD_BYTES_MAX + 1)) == [
        f"payload_length must lie in 0..262144, not {262145}"
    ]
    assert events_in(event_bytes(100, 0, HEADER_BYTES_MAX + 2)) == ["a header has at most 65536 bytes"]


EVENTS = st.builds(
    Event,
    st.sampled_from(["describe", "ping", "detect", "audio-start", "audio-chunk", "audio-stop", "info"]),
    st.fixed_dictionaries(
        {},
        optional={
            "names": st.lists(st.sampled_from(["low note", "high_note", "snowboy"]) | ANYTHING, max_size=3),
            "rate": st.sampled_from([16_000, 8000, 44_100, 384_000]) | ANYTHING,
            "width": st.integers(0, 5) | ANYTHING,
            "channels": st.integers(0, 33) | ANYTHING,
            "timestamp": ANYTHING,
            "text": ANYTHING,
        },
    )
    | st.just({"rate": 16_000, "width": 2, "channels": 1}),
    st.none() | st.binary(max_size=6000),
)


@pytest.fixture(scope="module")
def catalogue(toy_folder):
    return Catalogue(WyomingSettings(models=(str(toy_folder),)))


@given(events=st.lists(EVENTS, max_size=6))
@settings(max_examples=300)
def test_session_survives_any_events(catalogue, events):
    """What it answers can be sent, whatever it was told; only a BadEvent may end it."""
    session = Session(catalogue, 2.0)
    for event in events:
        try:
            replies = [reply for reply in session.handle(event) if reply is not None]
        except BadEvent:
            return
        for reply in replies:
            assert reply.type in {"info", "pong", "detection", "not-detected"}
            json.dumps(reply.data)


@given(
    cuts=st.lists(st.integers(1, 4000), min_size=1, max_size=20),
    rate_hz=st.sampled_from([8000, 16_000, 44_100, 48_000]),
    width=st.integers(1, 4),
    channels=st.integers(1, 3),
)
def test_pcm_is_the_same_however_it_is_cut(cuts, rate_hz, width, channels):
    """Also in the middle of a sample."""
    wave = 0.5 * np.sin(np.arange(3000) / 7)
    audio = encoded(wave, width, channels)
    whole, parts = Pcm(rate_hz, width, channels), Pcm(rate_hz, width, channels)
    pieces, first = [], 0
    for cut in cuts:
        pieces.append(parts.feed(audio[first : first + cut]))
        first += cut
    pieces += [parts.feed(audio[first:]), parts.flush()]
    expected = np.concatenate([whole.feed(audio), whole.flush()])
    np.testing.assert_allclose(np.concatenate(pieces), expected, atol=1e-6)
    assert len(expected) == pytest.approx(3000 * RATE_HZ / rate_hz, abs=1)


@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [1, 2])
def test_pcm_is_the_first_channel_at_full_scale(width, channels):
    wave = np.array([0, 0.25, -0.25, 1, -1])
    samples = Pcm(RATE_HZ, width, channels).feed(encoded(wave, width, channels))
    scale = 32768 if samples.dtype == np.int16 else 1
    np.testing.assert_allclose(samples / scale, wave, atol=2 ** (1 - min(8 * width, 16)) + 1e-9)


def test_names_of_words_are_unique_and_found_by_phrase(toy_folder):
    """The same model twice: the second one's words are told apart by its name."""
    twice = Catalogue(WyomingSettings(models=(str(toy_folder), str(toy_folder))))
    assert list(twice.offers) == ["low_note", "high_note", "notes.low_note", "notes.high_note"]
    found, unknown = twice.find(["LOW  note", " Low Note", "low_note", "notes.High note", "x"])
    assert [offer.name for offer in found] == ["low_note", "notes.high_note"]
    assert unknown == ["LOW  note", "x"]


def test_wanted_rate_sets_the_thresholds_of_measured_words(toy_folder):
    """The toy's curve has one point, of the low note: there is no other threshold to choose."""
    catalogue = Catalogue(WyomingSettings(models=(str(toy_folder),), false_accepts_per_day=9.6))
    pipeline = catalogue.pipeline(catalogue.models[0], None)
    assert pipeline.detector.settings.thresholds == {"low note": pytest.approx(0.5), "high note": 0.5}


def test_server_is_announced_and_taken_back():
    """By real multicast, which stays on the loopback interface."""

    async def seen_and_gone():
        seen, gone = asyncio.Event(), asyncio.Event()

        def on_change(name, state_change, **_):
            if name == f"kws-test.{SERVICE}":
                (seen if state_change is ServiceStateChange.Added else gone).set()

        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        looking = AsyncZeroconf(interfaces=["127.0.0.1"])
        try:
            browser = AsyncServiceBrowser(looking.zeroconf, SERVICE, handlers=[on_change])
            async with asyncio.timeout(20):
                async with announced("kws-test", server):
                    await seen.wait()
                    info = await looking.async_get_service_info(SERVICE, f"kws-test.{SERVICE}")
                await gone.wait()
            await browser.async_cancel()
        finally:
            await looking.async_close()
            server.close()
        assert (info.parsed_addresses(), info.port) == (["127.0.0.1"], port)

    asyncio.run(seen_and_gone())


@pytest.mark.parametrize("uri", ["tcp://127.0.0.1:0", "tcp://[::1]:10400", "unix:///run/kws/w", "stdio://"])
def test_uri_is_understood(uri):
    settings = WyomingSettings(uri=uri)
    assert settings.address.scheme == uri.partition(":")[0]
    assert not settings.address.is_exposed


@pytest.mark.parametrize("uri", ["tcp://0.0.0.0:1", "tcp://[::]:1", "tcp://kitchen.local:1"])
def test_exposed_uri_is_known_as_such(uri):
    assert WyomingSettings(uri=uri).address.is_exposed


@given(st.text(max_size=30) | st.builds("{}://{}:{}".format, st.text(max_size=5), st.text(), st.integers()))
def test_any_uri_is_understood_or_refused_in_one_sentence(uri):
    said = ""
    try:
        said = WyomingSettings(uri=uri).address.scheme
    except ConfigError as error:
        said = str(error)
    assert said in ("tcp", "unix", "stdio") or "write tcp://" in said


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"uri": "tcp://127.0.0.1"}, "wyoming.uri"),
        ({"port": 1}, "wyoming.port"),
        ({"clients_max": 0}, "wyoming.clients_max"),
        ({"refractory_seconds": -1}, "wyoming.refractory_seconds"),
        ({"zeroconf": "kitchen"}, "wyoming.zeroconf"),
    ],
)
def test_wrong_setting_is_named(given, says):
    with pytest.raises(ConfigError, match=says):
        config.parse({"wyoming": given}, Settings)
