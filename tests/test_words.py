"""Words are spoken for real, and by different voices; what is there already is kept."""

import os
import shutil
from pathlib import Path

import pytest

from kws.corpus import problems, read_corpus
from kws.errors import DataError
from kws.words import build

needs_espeak = pytest.mark.skipif(not shutil.which("espeak-ng"), reason="needs espeak-ng")


@needs_espeak
def test_every_word_is_labelled_and_said_by_several_voices(tmp_path: Path) -> None:
    list(build(tmp_path, ["on", "switch off"], 3, 3, kokoro=None, jobs=2))
    clips = read_corpus(tmp_path)
    assert problems(clips) == []
    assert [clip.label for clip in clips] == ["on", "switch off"] * 3
    assert len({clip.speaker for clip in clips}) > 2
    assert all(0.2 < clip.seconds < 4 for clip in clips)


@needs_espeak
def test_interrupted_run_goes_on_to_the_same_recordings(tmp_path: Path) -> None:
    list(build(tmp_path, ["on"], 2, 2, kokoro=None, jobs=2))
    first, second = (clip.path for clip in read_corpus(tmp_path))
    content, manifest = second.read_bytes(), (tmp_path / "manifest.csv").read_bytes()
    second.unlink()
    first.write_bytes(kept := first.read_bytes())
    list(build(tmp_path, ["on"], 2, 2, kokoro=None, jobs=2))
    assert (first.read_bytes(), second.read_bytes()) == (kept, content)
    assert (tmp_path / "manifest.csv").read_bytes() == manifest


@pytest.mark.skipif("KOKORO" not in os.environ, reason="needs Kokoro's model in the folder $KOKORO")
def test_kokoro_says_a_word_with_a_blend_of_voices_in_each_take(tmp_path: Path) -> None:
    list(build(tmp_path, ["computer"], 3, 0, kokoro=Path(os.environ["KOKORO"]), jobs=2))
    clips = read_corpus(tmp_path)
    assert problems(clips) == []
    assert {clip.source for clip in clips} == {"kokoro_words"}
    assert len({clip.speaker for clip in clips}) == 3
    assert all(0.4 < clip.seconds < 3 for clip in clips)


def test_missing_kokoro_is_named(tmp_path: Path) -> None:
    pytest.importorskip("kokoro_onnx", reason="needs the package kokoro-onnx")
    with pytest.raises(DataError, match="voices"):
        list(build(tmp_path / "out", ["on"], 0, 0, kokoro=tmp_path, jobs=1))
