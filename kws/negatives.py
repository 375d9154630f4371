"""More speech to train against, rebuilt by one command: `kws corpus negatives DIR`.

False accepts are speech, and speech without keywords is what a small corpus lacks. Two sources cost almost
nothing: recorded descriptions in many languages from a Debian package, and words of many languages spoken by
espeak-ng, a robot, but with every phoneme in every neighbourhood. Both may be used commercially.
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
from kws.errors import DataError

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
WORD_LISTS = {
    "american-english": ("wamerican", ("en-us", "en-gb", "en-gb-scotland", "en-us-nyc", "en-029")),
    "dutch": ("wdutch", ("nl", "af")),
    "french": ("wfrench", ("fr-fr", "fr-be")),
    "italian": ("witalian", ("it",)),
    "ngerman": ("wngerman", ("de", "lb")),
    "portuguese": ("wportuguese", ("pt", "pt-br")),
    "spanish": ("wspanish", ("es", "es-419")),
}
"""File in /usr/share/dict -> Debian package, and the espeak-ng voices that read it."""
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
        forbidden: Keywords; words that contain one are not spoken.
        jobs: Synthesizers at once.

    Raises:
        DataError: a tool or a word list is missing; the message names the package.
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
    """Random words in every language in turn, by voices with a drawn speed and pitch; their rows."""
    forbidden = tuple(forbidden)
    lists = {name: words(name, forbidden) for name in WORD_LISTS}
    folder = destination / "espeak"
    folder.mkdir(parents=True, exist_ok=True)

    def say(number: int) -> Row:
        rng = random.Random(number)  # noqa: S311 - reproducible on purpose
        name = list(lists)[number % len(lists)]
        voice = rng.choice(WORD_LISTS[name][1]) + rng.choice(VARIANTS)
        text = " ".join(rng.choices(lists[name], k=rng.randint(*WORDS_PER_SENTENCE)))
        speed, pitch = str(rng.randint(*SPEED_WPM)), str(rng.randint(*PITCH))
        command = ["espeak-ng", "--stdout", "-v", voice, "-s", speed, "-p", pitch, text]
        samples, rate_hz = soundfile.read(io.BytesIO(_run(command, "espeak-ng")), dtype="float32")
        samples = soxr.resample(samples, rate_hz, RATE_HZ)
        target = folder / f"{number:06d}.flac"
        soundfile.write(target, np.clip(samples, -1, 1), RATE_HZ)
        return _row(target, destination, len(samples) / RATE_HZ, voice[:2], "output of espeak-ng, free")

    rows: list[Row] = []
    seconds = 0.0
    with ThreadPoolExecutor(jobs) as pool:
        while seconds < hours * 3600:
            batch = list(pool.map(say, range(len(rows), len(rows) + 256)))
            rows += batch
            seconds += sum(float(row["seconds"]) for row in batch)
    return rows


def words(name: str, forbidden: Iterable[str]) -> list[str]:
    """The words of a list of WORD_LISTS, without those that contain the last word of a forbidden phrase."""
    path = Path("/usr/share/dict", name)
    try:
        listed = path.read_text(encoding="utf-8").split()
    except OSError as error:
        raise DataError(f"{path} is missing; run: apt-get install {WORD_LISTS[name][0]}") from error
    sounds = [phrase.split()[-1].lower() for phrase in forbidden]
    return [word for word in listed if word.isalpha() and not any(s in word.lower() for s in sounds)]


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
