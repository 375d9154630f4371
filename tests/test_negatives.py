"""Speech to train against is synthesised for real, reproducibly, and never says a keyword."""

import re
import shutil
from pathlib import Path

import pytest
import soundfile

from kws import negatives
from kws.corpus import problems, read_corpus, write_manifest

pytest.importorskip("wordfreq", reason="needs the train extra")
needs_synthesis = pytest.mark.skipif(not shutil.which("espeak-ng"), reason="needs espeak-ng")


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


@pytest.mark.parametrize("language", negatives.VOICES)
def test_no_word_sounds_like_a_keyword(language: str) -> None:
    words, weights = negatives.words(language, ["hey computer", "jarvis"])
    assert len(words) == len(weights) > 2000
    assert not any(part in word for word in words for part in ("komputer", "computer", "jarvis"))


@pytest.mark.parametrize("word", ["computer", "Komputer", "minicomputers"])
def test_keywords_are_recognised_in_other_spellings(word: str) -> None:
    assert negatives.consonants("computer") in negatives.consonants(word)


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
