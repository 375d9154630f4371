"""Speech to train against is synthesised for real, reproducibly, and never says a keyword."""

import re
import shutil
from pathlib import Path

import pytest
import soundfile

from kws import negatives
from kws.corpus import problems, read_corpus, write_manifest
from kws.errors import DataError

LISTS = Path("/usr/share/dict")
needs_synthesis = pytest.mark.skipif(
    not shutil.which("espeak-ng") or not all((LISTS / name).is_file() for name in negatives.WORD_LISTS),
    reason="needs espeak-ng and the word lists of kws.negatives.WORD_LISTS",
)


@needs_synthesis
def test_synthesis_makes_a_sound_corpus_of_the_length_asked_for(tmp_path: Path) -> None:
    rows = negatives.speak(tmp_path, hours=0.02, forbidden=["computer"], jobs=2)
    write_manifest(tmp_path, rows)
    clips = read_corpus(tmp_path)
    assert problems(clips) == []
    assert sum(clip.seconds for clip in clips) >= 72
    assert {clip.lang for clip in clips} >= {"en", "nl", "fr", "de"}
    assert soundfile.info(str(clips[0].path)).samplerate == negatives.RATE_HZ


@needs_synthesis
def test_synthesis_is_reproducible(tmp_path: Path) -> None:
    first, second = (negatives.speak(tmp_path / n, 0.001, ["alexa"], jobs=2) for n in ("a", "b"))
    assert first == second
    name = first[3]["path"]
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@needs_synthesis
@pytest.mark.parametrize("name", negatives.WORD_LISTS)
def test_keywords_are_never_spoken(name: str) -> None:
    words = negatives.words(name, ["hey computer", "alexa"])
    assert len(words) > 1000
    assert not any("computer" in word.lower() or "alexa" in word.lower() for word in words)


def test_missing_word_list_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(negatives.WORD_LISTS, "klingon", ("wklingon", ("piqd",)))
    with pytest.raises(DataError, match="apt-get install wklingon"):
        negatives.words("klingon", [])


@pytest.mark.parametrize(
    ("path", "lang"),
    [
        ("usr/share/tuxpaint/stamps/animals/cat_desc_nl.ogg", "nl"),
        ("usr/share/tuxpaint/stamps/animals/cat_desc_pt_BR.ogg", "pt"),
        ("usr/share/tuxpaint/stamps/animals/spider_computer_desc_nl.ogg", None),
        ("usr/share/tuxpaint/stamps/animals/cat.ogg", None),
    ],
)
def test_pattern_takes_descriptions_and_leaves_out_computers(path: str, lang: str | None) -> None:
    (tuxpaint,) = negatives.PACKAGES
    match = re.search(tuxpaint.pattern, path)
    assert (match["lang"] if match else None) == lang
