"""Recorded speech comes out of packages whole, and not at all where a keyword is said."""

import io
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kws.audio import read_audio
from kws.corpus import problems, read_corpus, write_manifest
from kws.errors import DataError
from kws.recordings import (
    STAMP,
    Package,
    Recording,
    amazon_queen,
    amazon_script,
    drascula,
    drascula_script,
    heard,
    unpack,
)

GAME_HZ = 11025


def voice(seconds: float) -> np.ndarray:
    return 0.3 * np.sin(np.arange(round(seconds * GAME_HZ)) / 5).astype(np.float32)


def encoded(samples: np.ndarray, form: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, GAME_HZ, format=form)
    return file.getvalue()


def decoded(recording: Recording, folder: Path) -> np.ndarray:
    path = folder / recording.name
    path.write_bytes(recording.audio)
    return read_audio(path, GAME_HZ)


@pytest.mark.parametrize(
    ("path", "lang"),
    [
        ("usr/share/tuxpaint/stamps/animals/cat_desc_nl.ogg", "nl"),
        ("usr/share/tuxpaint/stamps/animals/cat_desc_pt_BR.ogg", "pt"),
        ("usr/share/tuxpaint/stamps/animals/spider_computer_desc_nl.ogg", None),
        ("usr/share/tuxpaint/stamps/animals/cat.ogg", None),
    ],
)
def test_descriptions_are_taken_and_computers_left_out(path: str, lang: str | None) -> None:
    match = STAMP.search(path)
    assert (match["lang"] if match else None) == lang


def test_a_recording_whose_first_channel_is_silent_keeps_the_one_that_speaks(tmp_path: Path) -> None:
    """`read_audio` hears the first channel; some recordings of tuxpaint-stamps-default are in the second."""
    spoken = voice(0.7)
    for name, channels in (("left", [spoken, 0 * spoken]), ("right", [0 * spoken, spoken])):
        file = encoded(np.stack(channels, axis=1), "WAV")
        kept = heard(name, ".wav", "en", file)
        assert abs(decoded(kept, tmp_path) - spoken).max() < 1e-3
        assert (kept.audio == file) == (name == "left")


@pytest.fixture
def queen(tmp_path: Path) -> Path:
    """A game of one long line, one sigh and two texts, in the format of the real one."""
    files = {
        "020001P2.SB": encoded(voice(1.2), "MP3"),
        "020002P2.SB": encoded(voice(0.1), "MP3"),
        "APE1.DOG": b"\0\7Do you own a Computer?*03",
        "ROOM.BBK": b"jarvis",  # a picture
    }
    content, table = b"", b""
    first = 15 + 21 * len(files)
    for name, file in files.items():
        table += struct.pack(">12sxII", name.encode(), first + len(content), len(file))
        content += file
    (tmp_path / "queen").mkdir()
    archive = tmp_path / "queen" / "queen.1c"
    archive.write_bytes(b"QTBLCEM10\0\0\0\1" + struct.pack(">H", len(files)) + table + content)
    return tmp_path


def test_lines_of_the_amazon_queen_are_files_of_their_own(queen: Path) -> None:
    (line,) = amazon_queen(queen)
    assert (line.name, line.lang) == ("020001P2.mp3", "en")
    samples = decoded(line, queen)
    assert len(samples) == pytest.approx(1.2 * GAME_HZ, rel=0.2)  # MP3 pads
    assert 0.15 < samples.std() < 0.25


def test_script_of_the_amazon_queen_is_its_dialogue(queen: Path) -> None:
    script = amazon_script(queen)
    assert b"Computer" in script
    assert b"jarvis" not in script


def test_unknown_archive_is_an_error(queen: Path) -> None:
    archive = queen / "queen" / "queen.1c"
    archive.write_bytes(b"PK" + archive.read_bytes()[2:])
    with pytest.raises(DataError, match="another format"):
        list(amazon_queen(queen))


def test_lines_of_drascula_are_bytes_without_a_header(tmp_path: Path) -> None:
    (tmp_path / "7.ALS").write_bytes((voice(1) * 128 + 128).astype(np.uint8).tobytes())
    (tmp_path / "8.ALS").write_bytes(bytes(900))
    (tmp_path / "7.ALG").write_bytes(bytes(90000))  # a picture
    (tmp_path / "drascula.dat").write_bytes(b"\1It's... the computer.\0")
    (line,) = drascula(tmp_path)
    assert abs(decoded(line, tmp_path) - voice(1)).max() <= 1 / 128
    assert b"computer" in drascula_script(tmp_path)


def speech_of_hostname(tree: Path) -> Iterator[Recording]:
    assert (tree / "bin" / "hostname").exists() or (tree / "usr" / "bin" / "hostname").exists()
    yield Recording("1.flac", "en", encoded(voice(1), "FLAC"))


def copyright_of_hostname(tree: Path) -> bytes:
    return (tree / "usr" / "share" / "doc" / "hostname" / "copyright").read_bytes()


@pytest.mark.system
@pytest.mark.parametrize(("keyword", "files"), [("hey jarvis", 1), ("hey GNU", 0)])
def test_package_is_fetched_and_left_out_if_it_says_a_keyword(
    tmp_path: Path, keyword: str, files: int
) -> None:
    """With a small real package in the place of a game."""
    if (
        not shutil.which("apt-get")
        or subprocess.run(
            ["apt-get", "download", "-qq", "hostname"], cwd=tmp_path, check=False, capture_output=True
        ).returncode
    ):
        pytest.skip("needs Debian's package archive")
    package = Package("hostname", "GPL-2.0", speech_of_hostname, copyright_of_hostname)
    rows = unpack(package, tmp_path / "corpus", [keyword])
    assert len(rows) == files
    if files:
        write_manifest(tmp_path / "corpus", rows)
        (clip,) = read_corpus(tmp_path / "corpus")
        assert problems([clip]) == []
        assert (clip.source, clip.kind, clip.licence) == ("hostname", "speech", "GPL-2.0")


@pytest.mark.skipif(not shutil.which("apt-get"), reason="needs apt-get")
def test_package_that_is_not_there_is_named(tmp_path: Path) -> None:
    package = Package("no-such-package", "", speech_of_hostname)
    with pytest.raises(DataError, match="no-such-package"):
        unpack(package, tmp_path, [])
