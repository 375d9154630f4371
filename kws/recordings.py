"""Speech that people recorded, inside Debian packages: fetched, unpacked, and one file for each recording.

Synthesizers pronounce; people act, hesitate, sing and shout. tuxpaint's stamps are described in a dozen
languages, mostly by one calm voice each. Two adventure games, given away by their makers, are five hours of
dialogue by dozens of actors; their formats are described by the source of ScummVM, which plays them. A game
whose script has a keyword in it is left out.
"""

import io
import re
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from kws.audio import duration_s
from kws.corpus import Row, row_of
from kws.errors import DataError
from kws.files import replacing

SILENT = 1e-3
"""A channel whose samples deviate by no more (-60 dBFS) holds nothing."""
BRIEFEST_SECONDS = 0.4
"""What is shorter is a breath or a cry."""
STAMP = re.compile(
    r"/stamps/(?!.*(comput|laptop|monitor|mouse|recycle|lavender)).*_desc_(?P<lang>[a-z]{2})(_[A-Za-z]+)?\.ogg$"
)
"""The words left out have "computer" or a sound-alike in some language's description."""


class Recording(NamedTuple):
    """One recording of a package."""

    name: str
    """Of its file."""
    lang: str
    audio: bytes
    """A file that libsndfile reads."""


@dataclass(frozen=True)
class Package:
    """A Debian package with speech."""

    name: str
    licence: str
    recordings: Callable[[Path], Iterator[Recording]]
    """From the folder that it is unpacked in."""
    script: Callable[[Path], bytes] | None = None
    """All that is said, among other bytes; None where the recordings are chosen with care."""


def unpack(package: Package, destination: Path, forbidden: Iterable[str]) -> list[Row]:
    """Download a package and take its recordings out; their rows, none if a keyword is in its script.

    Raises:
        DataError: the package cannot be fetched; the message says what to do.
    """
    folder = destination / package.name
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        _run(["apt-get", "download", "-qq", package.name], "apt-get", scratch)
        (archive,) = Path(scratch).glob("*.deb")
        tree = Path(scratch, "tree")
        _run(["dpkg-deb", "-x", str(archive), str(tree)], "dpkg", scratch)
        if package.script and _says(package.script(tree), forbidden):
            return []
        folder.mkdir(parents=True, exist_ok=True)
        for name, lang, audio in package.recordings(tree):
            target = folder / name
            with replacing(target) as unfinished:
                unfinished.write_bytes(audio)
            speaker = f"{package.name}-{lang}"
            rows.append(
                row_of(
                    target,
                    destination,
                    duration_s(target),
                    kind="speech",
                    speaker=speaker,
                    split="train",
                    lang=lang,
                    licence=package.licence,
                )
            )
    return rows


def _says(script: bytes, forbidden: Iterable[str]) -> bool:
    """Whether the last word of any of the phrases is spelled in the script."""
    text = script.decode("latin-1").casefold()
    return any(phrase.casefold().split()[-1] in text for phrase in forbidden)


def stamps(tree: Path) -> Iterator[Recording]:
    """tuxpaint-stamps-default: what a picture shows, in Ogg Vorbis."""
    for number, path in enumerate(sorted(tree.rglob("*"))):
        match = STAMP.search(str(path))
        if match and path.stat().st_size:
            yield heard(f"{match['lang']}_{number:05d}", path.suffix, match["lang"], path.read_bytes())


def heard(stem: str, suffix: str, lang: str, audio: bytes) -> Recording:
    """A recording as it is; if its first channel, the one that is read, is silent, the loudest as FLAC."""
    samples, rate_hz = soundfile.read(io.BytesIO(audio), dtype="float32", always_2d=True)
    loudness = samples.std(axis=0)
    if loudness[0] > SILENT or loudness.max() <= SILENT:
        return Recording(f"{stem}{suffix}", lang, audio)
    return Recording(f"{stem}.flac", lang, _flac(samples[:, loudness.argmax()], rate_hz))


def amazon_queen(tree: Path) -> Iterator[Recording]:
    """flight-of-the-amazon-queen: one MP3 file (11 kHz) for each line of dialogue."""
    for name, content in _amazon_files(tree):
        if name.endswith(".SB") and soundfile.info(io.BytesIO(content)).duration >= BRIEFEST_SECONDS:
            yield Recording(name.replace(".SB", ".mp3"), "en", content)


def amazon_script(tree: Path) -> bytes:
    """Dialogue, cut scenes and descriptions of flight-of-the-amazon-queen."""
    return b"\n".join(
        text for name, text in _amazon_files(tree) if name.endswith((".DOG", ".CUT", "QUEEN2.JAS"))
    )


def _amazon_files(tree: Path) -> Iterator[tuple[str, bytes]]:
    """The files in queen.1c: "QTBL", six letters of version, compression, their number; then their table."""
    (archive,) = tree.rglob("queen.1c")
    content = archive.read_bytes()
    magic, count = struct.unpack_from(">4s9xH", content)
    if magic != b"QTBL":
        raise DataError(f"{archive.name} of flight-of-the-amazon-queen is in another format; report this")
    for name, start, size in struct.iter_unpack(">12sxII", content[15 : 15 + 21 * count]):
        yield name.rstrip(b"\0").decode("ascii"), content[start : start + size]


def drascula(tree: Path) -> Iterator[Recording]:
    """drascula: unsigned bytes at 11,025 Hz without a header, for each line of dialogue."""
    for path in sorted(tree.rglob("*.ALS")):
        samples = (np.frombuffer(path.read_bytes(), np.uint8).astype(np.int16) - 128) << 8
        if len(samples) >= BRIEFEST_SECONDS * 11025:
            yield Recording(f"{path.stem}.flac", "en", _flac(samples, 11025))


def drascula_script(tree: Path) -> bytes:
    """All texts of drascula, in six languages."""
    (texts,) = tree.rglob("drascula.dat")
    return texts.read_bytes()


PACKAGES = (
    Package("tuxpaint-stamps-default", "GPL-2.0", stamps),
    Package("flight-of-the-amazon-queen", "Flight-of-the-Amazon-Queen-License", amazon_queen, amazon_script),
    Package("drascula", "Drascula-License", drascula, drascula_script),
)  # all in Debian's main: free to use, change and give on, of the games not to be sold by themselves


def _flac(samples: np.ndarray, rate_hz: int) -> bytes:
    encoded = io.BytesIO()
    soundfile.write(encoded, samples, rate_hz, format="FLAC")
    return encoded.getvalue()


def _run(command: list[str], package: str, folder: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, cwd=folder)
    except FileNotFoundError as error:
        raise DataError(f"{command[0]} is not installed; run: apt-get install {package}") from error
    except subprocess.CalledProcessError as error:
        reason = error.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        raise DataError(f"{' '.join(command[:3])} failed ({reason[0]}); try it by hand") from error
