"""More speech to train against, rebuilt by one command: `kws corpus negatives DIR`.

False accepts are speech, and speech without keywords is what a small corpus lacks. Two sources cost almost
nothing: recorded descriptions in many languages from a Debian package, and the frequent words of many
languages spoken by espeak-ng, a robot, but with the syllables that people really say. Both may be used
commercially.
"""

import io
import random
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from kws.corpus import write_manifest
from kws.errors import DataError, MissingExtra

Row = dict[str, str]
RATE_HZ = 16_000
WORDS_PER_SENTENCE = (2, 9)
SPEED_WPM = (120, 240)
PITCH = (10, 90)


@dataclass(frozen=True)
class Recordings:
    """Speech inside a Debian package."""

    package: str
    pattern: str
    """Regular expression of the file paths; its group `lang` is the language."""
    licence: str


PACKAGES = (
    Recordings(
        "tuxpaint-stamps-default",
        r"/stamps/(?!.*(comput|laptop|monitor|mouse|recycle|lavender)).*_desc_(?P<lang>[a-z]{2})(_[A-Za-z]+)?\.ogg$",
        "GPL-2.0",
    ),
)  # the words left out of the pattern have "computer" or a sound-alike in some language's description
VOICES = {
    "ca": ("ca",),
    "cs": ("cs", "sk"),
    "da": ("da",),
    "de": ("de", "lb"),
    "en": ("en-us", "en-gb", "en-gb-scotland", "en-us-nyc", "en-029"),
    "es": ("es", "es-419"),
    "fi": ("fi", "et"),
    "fr": ("fr-fr", "fr-be"),
    "hu": ("hu",),
    "id": ("id", "ms"),
    "it": ("it",),
    "nb": ("nb",),
    "nl": ("nl", "af"),
    "pl": ("pl",),
    "pt": ("pt", "pt-br"),
    "ro": ("ro",),
    "sv": ("sv",),
    "tr": ("tr",),
}
"""Language of `wordfreq` -> espeak-ng voices; all in Latin script, so that keywords can be recognised."""
FREQUENT_WORDS = 4000
"""Of each language: these make up nine tenths of what people say."""
VARIANTS = (
    "",
    "+m1",
    "+m3",
    "+m5",
    "+m7",
    "+f1",
    "+f2",
    "+f3",
    "+f4",
    "+f5",
    "+croak",
    "+whisper",
    "+klatt2",
)


def build(destination: Path, hours: float, forbidden: Iterable[str], jobs: int) -> Iterator[str]:
    """Fill `destination` with recordings and `hours` of spoken words; yields a line after each part.

    Args:
        destination: Folder of the corpus; made when missing, its manifest is replaced at the end.
        hours: How much to synthesise.
        forbidden: Keywords; words that sound like one are not spoken.
        jobs: Synthesizers at once.

    Raises:
        DataError: a tool is missing; the message names the package.
        MissingExtra: wordfreq is not installed.
    """
    rows = []
    for recordings in PACKAGES:
        found = unpack(recordings, destination)
        rows += found
        yield f"{recordings.package}: {len(found)} recordings"
    spoken = speak(destination, hours, forbidden, jobs)
    rows += spoken
    yield f"espeak-ng: {len(spoken)} sentences"
    write_manifest(destination, rows)


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
            target = folder / f"{match['lang']}_{number:05d}{path.suffix}"
            target.write_bytes(path.read_bytes())
            seconds = soundfile.info(str(target)).duration
            rows.append(_row(target, destination, seconds, match["lang"], recordings.licence))
    return rows


def speak(destination: Path, hours: float, forbidden: Iterable[str], jobs: int) -> list[Row]:
    """Frequent words in every language in turn, by voices with a drawn speed and pitch; their rows."""
    forbidden = tuple(forbidden)
    vocabulary = {language: words(language, forbidden) for language in VOICES}
    folder = destination / "espeak"
    folder.mkdir(parents=True, exist_ok=True)

    def say(number: int) -> Row:
        rng = random.Random(number)  # noqa: S311 - reproducible on purpose
        language = list(VOICES)[number % len(VOICES)]
        voice = rng.choice(VOICES[language]) + rng.choice(VARIANTS)
        text = " ".join(rng.choices(*vocabulary[language], k=rng.randint(*WORDS_PER_SENTENCE)))
        speed, pitch = str(rng.randint(*SPEED_WPM)), str(rng.randint(*PITCH))
        command = ["espeak-ng", "--stdout", "-v", voice, "-s", speed, "-p", pitch, text]
        samples, rate_hz = soundfile.read(io.BytesIO(_run(command, "espeak-ng")), dtype="float32")
        samples = soxr.resample(samples, rate_hz, RATE_HZ)
        target = folder / f"{number:06d}.flac"
        soundfile.write(target, np.clip(samples, -1, 1), RATE_HZ)
        return _row(target, destination, len(samples) / RATE_HZ, language, "output of espeak-ng, free")

    rows: list[Row] = []
    seconds = 0.0
    with ThreadPoolExecutor(jobs) as pool:
        while seconds < hours * 3600:
            batch = list(pool.map(say, range(len(rows), len(rows) + 64)))
            rows += batch
            seconds += sum(float(row["seconds"]) for row in batch)
    return rows


def words(language: str, forbidden: Iterable[str]) -> tuple[list[str], list[float]]:
    """Frequent words of a language and their weights, without those that sound like a forbidden phrase.

    The weight is the root of the frequency: the commonest words would otherwise leave no room for the rest.
    """
    try:
        import wordfreq  # noqa: PLC0415 (loads its tables)
    except ImportError as error:
        raise MissingExtra("wordfreq", "train") from error
    sounds = [consonants(phrase.split()[-1]) for phrase in forbidden]
    listed = [
        word
        for word in wordfreq.top_n_list(language, FREQUENT_WORDS)
        if word.isalpha() and not any(sound in consonants(word) for sound in sounds)
    ]
    return listed, [wordfreq.word_frequency(word, language) ** 0.5 for word in listed]


def consonants(word: str) -> str:
    """What is left of a word without its vowels: the same for "computer" and "komputer"."""
    return re.sub(r"[aeiouyáàâäãåæéèêëíìîïóòôöõøúùûüý]", "", word.lower().replace("c", "k").replace("q", "k"))


def _row(path: Path, root: Path, seconds: float, lang: str, licence: str) -> Row:
    relative = path.relative_to(root).as_posix()
    return {
        "path": relative,
        "label": "",
        "kind": "speech",
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
