"""More speech to train against, rebuilt by one command: `kws corpus negatives DIR`.

False accepts are speech, and speech without keywords is what a small corpus lacks. Two sources cost almost
nothing: recorded descriptions in many languages from a Debian package, and the frequent words of forty
languages read by every voice of the synthesizers in `kws.voices`. Kokoro, a neural voice, reads a little of
sixteen languages. All may be used commercially.
"""

import random
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import soundfile

from kws.corpus import write_manifest
from kws.errors import DataError
from kws.files import replacing
from kws.kokoro import LICENCE, Kokoro
from kws.kokoro import VOICES as KOKORO_VOICES
from kws.vocabulary import Vocabulary, vocabulary
from kws.voices import RATE_HZ, VOICES, Audio, Voice, say

Row = dict[str, str]
ENGINE_SHARES = {"espeak-ng": 0.46, "festival": 0.06, "flite": 0.06, "pico2wave": 0.42}
"""Of the hours: espeak-ng speaks the most languages, the others sound more like people."""
KOKORO_HOURS = 0.5
"""Neural voices sound like people, and take a hundred times as long as the others."""
SENTENCES_PER_FILE = 24
"""By one voice, so that a file is one speaker; about a minute."""
PAUSE_SECONDS = (0.03, 0.5)
SILENT = 1e-3
"""A channel whose samples deviate by no more (-60 dBFS) holds nothing."""


@dataclass(frozen=True)
class Recordings:
    """Speech inside a Debian package."""

    package: str
    pattern: str
    """Regular expression of the file paths; its group `lang` is the language."""
    licence: str


@dataclass(frozen=True)
class Reader:
    """A synthesizer and the voices that read."""

    engine: str
    voices: tuple[Voice, ...]
    say: Callable[[Voice, Sequence[str], random.Random], list[Audio]]
    licence: str


PACKAGES = (
    Recordings(
        "tuxpaint-stamps-default",
        r"/stamps/(?!.*(comput|laptop|monitor|mouse|recycle|lavender)).*_desc_(?P<lang>[a-z]{2})(_[A-Za-z]+)?\.ogg$",
        "GPL-2.0",
    ),
)  # the words left out of the pattern have "computer" or a sound-alike in some language's description


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
    rows = []
    for recordings in PACKAGES:
        unpacked = unpack(recordings, destination)
        rows += unpacked
        yield f"{recordings.package}: {len(unpacked)} recordings"
    forbidden = tuple(forbidden)
    languages = sorted({voice.lang for voices in VOICES.values() for voice in voices})
    with ThreadPoolExecutor(jobs) as pool:
        found = pool.map(partial(vocabulary, forbidden=forbidden), languages)
        spoken_words = dict(zip(languages, found, strict=True))
    yield f"{sum(len(v.words) for v in spoken_words.values())} words of {len(languages)} languages"
    work = [(robot(engine), hours * share) for engine, share in ENGINE_SHARES.items()]
    if kokoro:
        work.append((Reader("kokoro", KOKORO_VOICES, Kokoro(kokoro).read, LICENCE), KOKORO_HOURS))
    for reader, amount in work:
        spoken = synthesise(reader, destination, amount, spoken_words, jobs)
        rows += spoken
        seconds = sum(float(row["seconds"]) for row in spoken)
        yield f"{reader.engine}: {seconds / 3600:.1f} h in {len(spoken)} files"
    write_manifest(destination, rows)


def robot(engine: str) -> Reader:
    """A synthesizer of `kws.voices`."""
    return Reader(engine, VOICES[engine], say, f"output of {engine}, free")


def unpack(recordings: Recordings, destination: Path) -> list[Row]:
    """Download a package and take its recordings out; their rows."""
    folder = destination / recordings.package
    folder.mkdir(parents=True, exist_ok=True)
    pattern = re.compile(recordings.pattern)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        _run(["apt-get", "download", "-qq", recordings.package], "apt-get", scratch)
        (package,) = Path(scratch).glob("*.deb")
        _run(["dpkg-deb", "-x", str(package), "tree"], "dpkg", scratch)
        for number, path in enumerate(sorted(Path(scratch, "tree").rglob("*"))):
            match = pattern.search(str(path))
            if not match or not path.stat().st_size:
                continue
            target = keep(path, folder / f"{match['lang']}_{number:05d}{path.suffix}")
            seconds = soundfile.info(str(target)).duration
            rows.append(
                _row(target, destination, "speech", seconds, lang=match["lang"], licence=recordings.licence)
            )
    return rows


def keep(recording: Path, target: Path) -> Path:
    """Copy a recording; where its first channel, the one that is read, is silent, the loudest as FLAC."""
    samples, rate_hz = soundfile.read(recording, dtype="float32", always_2d=True)
    loudness = samples.std(axis=0)
    if loudness[0] > SILENT or loudness.max() <= SILENT:
        target.write_bytes(recording.read_bytes())
        return target
    target = target.with_suffix(".flac")
    with replacing(target) as partial:
        soundfile.write(partial, samples[:, loudness.argmax()], rate_hz, format="FLAC")
    return target


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
        seconds = soundfile.info(str(target)).duration
        return _row(target, destination, "synthetic", seconds, lang=voice.lang, licence=reader.licence)

    rows: list[Row] = []
    seconds = 0.0
    with ThreadPoolExecutor(jobs) as pool:
        for first in count(step=16):
            if seconds >= hours * 3600:
                return rows
            batch = list(pool.map(speak, range(first, first + 16)))
            rows += batch
            seconds += sum(float(row["seconds"]) for row in batch)
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


def _row(path: Path, root: Path, kind: str, seconds: float, *, lang: str, licence: str) -> Row:
    relative = path.relative_to(root).as_posix()
    return {
        "path": relative,
        "label": "",
        "kind": kind,
        "speaker": f"{relative.split('/')[0]}-{lang}",
        "seconds": f"{seconds:.3f}",
        "split": "train",
        "lang": lang,
        "licence": licence,
    }


def _run(command: list[str], package: str, folder: str | None = None) -> bytes:
    try:
        return subprocess.run(command, check=True, capture_output=True, cwd=folder).stdout
    except FileNotFoundError as error:
        raise DataError(f"{command[0]} is not installed; run: apt-get install {package}") from error
    except subprocess.CalledProcessError as error:
        reason = error.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        raise DataError(f"{' '.join(command[:3])} failed ({reason[0]}); try it by hand") from error
