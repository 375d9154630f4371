"""More speech to train against, rebuilt by one command: `kws corpus negatives DIR`.

False accepts are speech, and speech without keywords is what a small corpus lacks. Two sources cost almost
nothing: what people recorded for Debian packages (`kws.recordings`), and the frequent words of forty
languages read by every voice of the synthesizers in `kws.voices`. Kokoro, a neural voice, reads a little of
sixteen languages.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain, count
from pathlib import Path

import numpy as np
import soundfile

from kws.audio import duration_s
from kws.corpus import Row, row_of, write_manifest
from kws.errors import DataError
from kws.files import replacing
from kws.kokoro import LICENCE, Kokoro
from kws.kokoro import VOICES as KOKORO_VOICES
from kws.recordings import PACKAGES, unpack
from kws.vocabulary import Vocabulary, vocabulary
from kws.voices import RATE_HZ, VOICES, Audio, Voice, say

ENGINE_SHARES = {"espeak-ng": 0.46, "festival": 0.06, "flite": 0.06, "pico2wave": 0.42}
"""Of the hours: espeak-ng speaks the most languages, the others sound more like people."""
KOKORO_HOURS = 1.5
"""Neural voices sound like people, and take a hundred times as long as the others."""
SENTENCES_PER_FILE = 24
"""By one voice, so that a file is one speaker; about a minute."""
PAUSE_SECONDS = (0.03, 0.5)


@dataclass(frozen=True)
class Reader:
    """A synthesizer and the voices that read."""

    engine: str
    voices: tuple[Voice, ...]
    say: Callable[[Voice, Sequence[str], random.Random], list[Audio]]
    licence: str


def build(
    destination: Path, hours: float, forbidden: Iterable[str], *, kokoro: Path | None, jobs: int
) -> Iterator[str]:
    """Fill `destination` with recordings and `hours` of synthetic speech; yields a line after each part.

    What an interrupted call has finished is kept and not made again.

    Args:
        destination: Folder of the corpus; made when missing, its manifest is replaced at the end.
        hours: How much to synthesise.
        forbidden: Keywords; words that sound like one are not spoken.
        kokoro: Folder of Kokoro's model, which reads KOKORO_HOURS more; None leaves it out.
        jobs: Synthesizers at once.

    Raises:
        DataError: a tool is missing; the message names the package.
        MissingExtra: wordfreq is not installed.
    """
    rows: list[Row] = []
    forbidden = tuple(forbidden)
    for package in PACKAGES:
        unpacked = unpack(package, destination, forbidden)
        rows += unpacked
        yield f"{package.name}: {_amount(unpacked) if unpacked else 'left out, a keyword is in its script'}"
    languages = sorted({voice.lang for voices in VOICES.values() for voice in voices})
    with ThreadPoolExecutor(jobs) as pool:
        found = pool.map(partial(vocabulary, forbidden=forbidden), languages)
        spoken_words = dict(zip(languages, found, strict=True))
    yield f"{sum(len(v.words) for v in spoken_words.values())} words of {len(languages)} languages"
    for voice in chain.from_iterable(VOICES.values()):  # what is missing shows now, not hours later
        rng = random.Random(voice.name)  # noqa: S311 - reproducible on purpose
        say(voice, [spoken_words[voice.lang].sentence(rng)], rng)
    work = [(robot(engine), hours * share) for engine, share in ENGINE_SHARES.items()]
    if kokoro:
        work.append((Reader("kokoro", KOKORO_VOICES, Kokoro(kokoro).read, LICENCE), KOKORO_HOURS))
    for reader, amount in work:
        read = synthesise(reader, destination, amount, spoken_words, jobs)
        rows += read
        yield f"{reader.engine}: {_amount(read)}"
    write_manifest(destination, rows)


def robot(engine: str) -> Reader:
    """A synthesizer of `kws.voices`."""
    return Reader(engine, VOICES[engine], say, f"output of {engine}, free")


def synthesise(
    reader: Reader, destination: Path, hours: float, words: dict[str, Vocabulary], jobs: int
) -> list[Row]:
    """Files of frequent words by the voices of a reader in turn, at least `hours` together; their rows."""
    folder = destination / reader.engine
    folder.mkdir(parents=True, exist_ok=True)

    def speak(number: int) -> Row:
        voice = reader.voices[number % len(reader.voices)]
        target = folder / f"{voice.lang}_{number:05d}.flac"
        if not target.is_file():
            _write(target, _monologue(reader, voice, words[voice.lang], number))
        speaker = f"{reader.engine}-{voice.lang}"
        return row_of(
            target,
            destination,
            duration_s(target),
            kind="synthetic",
            speaker=speaker,
            split="train",
            lang=voice.lang,
            licence=reader.licence,
        )

    rows: list[Row] = []
    seconds = 0.0
    with ThreadPoolExecutor(jobs) as pool:
        for first in count(step=16):
            if seconds >= hours * 3600:
                return rows
            batch = list(pool.map(speak, range(first, first + 16)))
            rows += batch
            seconds += _seconds(batch)
    raise AssertionError  # count() does not end


def _monologue(reader: Reader, voice: Voice, words: Vocabulary, number: int) -> Audio:
    """SENTENCES_PER_FILE sentences with pauses; the same for the same number."""
    rng = random.Random(f"{voice.name} {number}")  # noqa: S311 - reproducible on purpose
    sentences = [words.sentence(rng) for _ in range(SENTENCES_PER_FILE)]
    pieces: list[Audio] = []
    for spoken in reader.say(voice, sentences, rng):
        pause = np.zeros(int(rng.uniform(*PAUSE_SECONDS) * RATE_HZ), np.float32)
        pieces += [spoken, pause]
    if not pieces:
        raise DataError(f"{voice.engine} says nothing with voice {voice.name}; try it by hand")
    return np.concatenate(pieces)


def _write(target: Path, samples: Audio) -> None:
    with replacing(target) as partial:
        soundfile.write(partial, np.clip(samples, -1, 1), RATE_HZ, format="FLAC")


def _seconds(rows: Iterable[Row]) -> float:
    return sum(float(row["seconds"]) for row in rows)


def _amount(rows: Sequence[Row]) -> str:
    return f"{_seconds(rows) / 3600:.1f} h in {len(rows)} files"
