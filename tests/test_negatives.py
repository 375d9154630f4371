"""Speech to train against is synthesised for real, reproducibly, and never says a keyword."""

import random
import shutil
from pathlib import Path

import pytest
import soundfile

from kws.corpus import problems, read_corpus, write_manifest
from kws.errors import DataError
from kws.negatives import robot, synthesise
from kws.vocabulary import skeleton, vocabulary
from kws.voices import RATE_HZ, VOICES, Voice, pronunciations, say

pytest.importorskip("wordfreq", reason="needs the train extra")
pytestmark = pytest.mark.skipif(not shutil.which("espeak-ng"), reason="needs espeak-ng")

SPEAKERS = {voice.lang: voice for voice in reversed(VOICES["espeak-ng"])}


def test_synthesis_makes_a_sound_corpus_of_the_length_asked_for(tmp_path: Path) -> None:
    words = dict.fromkeys(SPEAKERS, vocabulary("en", []))
    rows = synthesise(robot("espeak-ng"), tmp_path, 0.02, words, jobs=2)
    write_manifest(tmp_path, rows)
    clips = read_corpus(tmp_path)
    assert problems(clips) == []
    assert sum(clip.seconds for clip in clips) >= 72
    assert {clip.kind for clip in clips} == {"synthetic"}
    assert soundfile.info(str(clips[0].path)).samplerate == RATE_HZ


def test_synthesis_is_reproducible_and_keeps_what_is_there(tmp_path: Path) -> None:
    words = dict.fromkeys(SPEAKERS, vocabulary("de", ["alexa"]))
    first, second = (synthesise(robot("espeak-ng"), tmp_path / n, 0.001, words, jobs=2) for n in ("a", "b"))
    assert first == second
    one, other = (tmp_path / n / first[3]["path"] for n in ("a", "b"))
    assert one.read_bytes() == other.read_bytes()
    made = one.stat().st_mtime_ns
    synthesise(robot("espeak-ng"), tmp_path / "a", 0.001, words, jobs=2)
    assert one.stat().st_mtime_ns == made


@pytest.mark.parametrize("engine", VOICES)
def test_every_engine_speaks(engine: str) -> None:
    if not shutil.which(engine):
        pytest.skip(f"needs {engine}")
    voice = next(voice for voice in VOICES[engine] if voice.lang == "en")
    sentences = ["good morning, how are you?", "it is a fine day."]
    (first, *_), (again, *_) = (say(voice, sentences, random.Random(1)) for _ in range(2))
    assert RATE_HZ // 2 < len(first) < 8 * RATE_HZ
    assert abs(first).max() > 0.1
    assert (first == again).all()


@pytest.mark.parametrize(
    ("lang", "word"), [("en", "computer"), ("de", "Computer"), ("pl", "komputer"), ("ru", "компьютер")]
)
def test_a_loan_word_has_the_skeleton_of_the_keyword(lang: str, word: str) -> None:
    (ipa,) = pronunciations(SPEAKERS[lang], [word])
    assert skeleton(ipa) == "kmpt"


@pytest.mark.parametrize("lang", ["en", "nl", "ru"])
def test_keywords_are_never_spoken_but_their_neighbours_are(lang: str) -> None:
    words = vocabulary(lang, ["hey computer", "alexa"]).words
    assert len(words) > 3000
    assert not any(w in word for word in words for w in ("computer", "компьютер", "alexa"))
    neighbour = {"en": "compare", "nl": "natuurlijk", "ru": "потом"}[lang]
    assert neighbour in words


def test_what_an_engine_lacks_is_said_with_its_package() -> None:
    with pytest.raises(DataError, match="install espeak-ng"):
        say(Voice("espeak-ng", "klingon-of-mars", "xx"), ["nuqneH"], random.Random(1))
