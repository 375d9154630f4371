"""What can lie between a mouth and the network: rooms, telephones, distant, overdriven and fast microphones.

The robustness part of an evaluation plays every keyword through each of these channels. Rooms act on the
voice, before noise is added, microphones on everything, after it. The voice keeps its place in time.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from kws.audio import BLOCK_MS, resampler
from kws.errors import ConfigError, MissingExtra

Audio = NDArray[np.float32]
Microphone = Callable[[Audio, tuple[int, int]], Audio]
"""A track (n,) and the word's place in it -> what the program receives, (n,) or a few samples off."""

SKIRT_HZ = 100.0
"""Width of the slopes at both ends of the telephone band."""
LOWEST_ROOM_HZ = 50.0
"""The noise of a room is flat below."""
SMALLEST_ROOM_M, LARGEST_ROOM_M = (4.2, 3.6, 2.4), (7.0, 5.5, 3.0)
"""Bedroom to living room: a talker fits 3 m away."""
TALKER_HEIGHT_M, MICROPHONE_HEIGHT_M = 1.6, 1.0
REVERBERATION_TOLERANCE = 0.05
"""A room's measured time may differ from the wanted one by this share."""


@dataclass(frozen=True)
class ChannelSettings:
    """Which channels are played with `kws evaluate --robustness`."""

    reverberation_s: tuple[float, ...] = (0.3, 0.5, 0.8)
    """T60 of the simulated rooms, one channel each."""
    distance_m: float = 3.0
    """From talker to microphone in those rooms."""
    rooms: int = 3
    """Rooms for each T60; a recording always meets the same one."""
    telephone_hz: tuple[float, float] = (300.0, 3400.0)
    """Band of a telephone: what sampling at 8 kHz leaves of a voice."""
    level_dbfs: float = -45.0
    """RMS of the word at a microphone that is far away or turned down; in 16 bits."""
    room_dbfs: float = -60.0
    """Steady noise of a room at that microphone: what `--gate` adds to it."""
    overload_db: float = 12.0
    """Peaks over full scale at one that is turned up too far: they are clipped."""
    microphone_hz: int = 48_000
    """Rate of one that is resampled while listening, in 16 bits."""
    snr_db: tuple[float, ...] = (10.0,)
    """Noise under each channel; each is played without noise too."""
    seed: int = 20
    """Of the rooms: other rooms than any that training simulates."""

    def __post_init__(self) -> None:
        """Refuse channels that nothing can pass."""
        low, high = self.telephone_hz
        if not 0 < low < high or min(self.reverberation_s, default=1.0) <= 0 or self.rooms < 1:
            raise ConfigError("telephone_hz, reverberation_s and rooms must be above 0; correct them")
        if not 1 <= self.distance_m <= 4:
            raise ConfigError("distance_m must lie in 1..4, as rooms are of that size; correct it")


@dataclass(frozen=True)
class Channel:
    """One way from mouth to network."""

    name: str
    rooms: tuple[Audio, ...] = ()
    """Room responses, direct sound first, unit energy; none leaves the voice as it is."""
    microphone: Microphone | None = None
    """None passes everything on."""

    def voice(self, samples: Audio, seed: int) -> Audio:
        """The voice in one of the rooms, (n,) or longer by the room's tail."""
        return convolved(samples, self.rooms[seed % len(self.rooms)]) if self.rooms else samples

    def heard(self, track: Audio, word: tuple[int, int]) -> Audio:
        """What the microphone makes of voice and noise."""
        return self.microphone(track, word) if self.microphone else track


def make_channels(settings: ChannelSettings, sample_rate_hz: int) -> list[Channel]:
    """All channels of an evaluation; MissingExtra without pyroomacoustics."""
    wanted_s = settings.reverberation_s
    return [
        *(
            Channel(f"far field, T60 {t60:g} s", rooms=_rooms(t60, settings, sample_rate_hz))
            for t60 in wanted_s
        ),
        Channel("telephone band", microphone=partial(telephone, settings.telephone_hz, sample_rate_hz)),
        Channel(f"level {settings.level_dbfs:g} dBFS", microphone=partial(quiet, settings.level_dbfs)),
        Channel(
            f"clipped {settings.overload_db:+g} dB", microphone=partial(overdriven, settings.overload_db)
        ),
        Channel(
            f"{settings.microphone_hz / 1000:g} kHz microphone",
            microphone=partial(fast, settings.microphone_hz, sample_rate_hz),
        ),
    ]


def quiet_channels(settings: ChannelSettings, sample_rate_hz: int) -> list[Channel]:
    """A word from far away, in silence and in the noise of a room: what a gate may take for nothing."""
    level = f"level {settings.level_dbfs:g} dBFS"
    noisy = partial(quiet_in_room, settings, sample_rate_hz)
    return [
        Channel(level, microphone=partial(quiet, settings.level_dbfs)),
        Channel(f"{level}, room {settings.room_dbfs:g} dBFS", microphone=noisy),
    ]


def telephone(
    band_hz: tuple[float, float], sample_rate_hz: int, track: Audio, _word: tuple[int, int]
) -> Audio:
    """The band alone, with slopes of half a cosine outside of it."""
    hz = np.fft.rfftfreq(len(track), 1 / sample_rate_hz)
    outside_hz = np.maximum(np.maximum(band_hz[0] - hz, hz - band_hz[1]), 0)
    gain = (1 + np.cos(np.pi * np.minimum(outside_hz / SKIRT_HZ, 1))) / 2
    passed: Audio = np.fft.irfft(np.fft.rfft(track) * gain, len(track)).astype(np.float32)
    return passed


def quiet(level_dbfs: float, track: Audio, word: tuple[int, int]) -> Audio:
    """The word at an RMS of `level_dbfs`, all in whole 16-bit steps."""
    rms = float(np.sqrt(np.mean(np.square(track[slice(*word)], dtype=np.float64))))
    gain = 10 ** (level_dbfs / 20) / max(rms, 1e-9)
    return _int16(track * np.float32(gain)).astype(np.float32) / np.float32(32768)


def quiet_in_room(
    settings: ChannelSettings, sample_rate_hz: int, track: Audio, word: tuple[int, int]
) -> Audio:
    """The same in the noise of a room."""
    heard = quiet(settings.level_dbfs, track, word) + room_noise(settings, sample_rate_hz, len(track))
    return _int16(heard).astype(np.float32) / np.float32(32768)


def room_noise(settings: ChannelSettings, sample_rate_hz: int, count: int) -> Audio:
    """Steady noise, (count,), that falls by 3 dB per octave: it hides more of a voice than a fan does."""
    rng = np.random.default_rng((settings.seed, count))
    hz = np.maximum(np.fft.rfftfreq(count, 1 / sample_rate_hz), LOWEST_ROOM_HZ)
    noise = np.fft.irfft(np.fft.rfft(rng.standard_normal(count)) / np.sqrt(hz), count)
    return (noise * 10 ** (settings.room_dbfs / 20) / np.std(noise)).astype(np.float32)


def overdriven(overload_db: float, track: Audio, _word: tuple[int, int]) -> Audio:
    """Peaks of the track would be `overload_db` over full scale, and are cut there."""
    gain = 10 ** (overload_db / 20) / max(float(np.abs(track).max()), 1e-9)
    clipped: Audio = np.clip(track * np.float32(gain), -1, 1)
    return clipped


def fast(microphone_hz: int, sample_rate_hz: int, track: Audio, _word: tuple[int, int]) -> Audio:
    """Sampled at `microphone_hz` and converted block by block, as `kws.audio.Microphone` does."""
    up, down = (
        resampler(*rates, "int16")
        for rates in ((sample_rate_hz, microphone_hz), (microphone_hz, sample_rate_hz))
    )
    sampled = up.resample_chunk(_int16(track), last=True)
    size = microphone_hz * BLOCK_MS // 1000
    blocks = [down.resample_chunk(sampled[i : i + size]) for i in range(0, len(sampled), size)]
    return np.concatenate(blocks).astype(np.float32) / np.float32(32768)


def convolved(samples: Audio, response: Audio) -> Audio:
    """The whole linear convolution, (n + taps - 1,)."""
    count = len(samples) + len(response) - 1
    size = 1 << (count - 1).bit_length()
    spectrum = np.fft.rfft(samples, size) * np.fft.rfft(response, size)
    whole: Audio = np.fft.irfft(spectrum, size)[:count].astype(np.float32)
    return whole


def reverberation_time_s(response: Audio, sample_rate_hz: int) -> float:
    """T60 of a response, prolonged from its decay between -5 and -25 dB (T20 of ISO 3382).

    The decay is that of the energy still to come (Schroeder 1965).
    """
    energy = np.cumsum(np.square(response[::-1], dtype=np.float64))[::-1]
    decay_db = 10 * np.log10(energy / energy[0])
    first, last = np.searchsorted(-decay_db, [5.0, 25.0])
    slope_db, _ = np.polyfit(np.arange(first, last) / sample_rate_hz, decay_db[first:last], 1)
    return float(-60 / slope_db)


def _rooms(t60_s: float, settings: ChannelSettings, sample_rate_hz: int) -> tuple[Audio, ...]:
    """Shoebox rooms by the image-source method (Allen and Berkley 1979), none too dead or too small."""
    rng = np.random.default_rng((settings.seed, round(1000 * t60_s)))
    responses: list[Audio] = []
    while len(responses) < settings.rooms:
        size = rng.uniform(SMALLEST_ROOM_M, LARGEST_ROOM_M)
        talker, direction = np.array([*rng.uniform(0.5, 0.9, 2), TALKER_HEIGHT_M]), rng.uniform(0, np.pi / 2)
        across = math.sqrt(settings.distance_m**2 - (TALKER_HEIGHT_M - MICROPHONE_HEIGHT_M) ** 2)
        step = across * math.cos(direction), across * math.sin(direction)
        microphone = np.array([talker[0] + step[0], talker[1] + step[1], MICROPHONE_HEIGHT_M])
        if np.all(microphone < size - 0.3):
            responses.append(_response(size, talker, microphone, t60_s, sample_rate_hz))
    return tuple(responses)


def _response(
    size: NDArray[np.float64],
    talker: NDArray[np.float64],
    microphone: NDArray[np.float64],
    t60_s: float,
    sample_rate_hz: int,
) -> Audio:
    """Of a room whose measured T60 is the wanted one: Sabine's formula alone misses it by up to a third."""
    try:
        import pyroomacoustics as pra  # noqa: PLC0415 (a second, and an extra)
    except ImportError as error:
        raise MissingExtra("pyroomacoustics", "train") from error
    formula_s = t60_s
    for _ in range(5):
        absorption, order = pra.inverse_sabine(formula_s, size)
        room = pra.ShoeBox(size, fs=sample_rate_hz, materials=pra.Material(absorption), max_order=order // 2)
        room.add_source(talker)
        room.add_microphone(microphone)
        room.compute_rir()
        response = np.asarray(room.rir[0][0], np.float32)
        response = response[int(np.argmax(np.abs(response))) :]
        found_s = reverberation_time_s(response, sample_rate_hz)
        if abs(found_s / t60_s - 1) < REVERBERATION_TOLERANCE:
            break
        formula_s *= t60_s / found_s
    return response / np.float32(np.sqrt(np.sum(response**2)))


def _int16(samples: Audio) -> NDArray[np.int16]:
    codes: NDArray[np.int16] = np.clip(np.rint(samples * np.float32(32768)), -32768, 32767).astype(np.int16)
    return codes
