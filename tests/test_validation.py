"""What training learns from and is judged by, when keywords have a lead-in or no real recording."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import RATE_HZ, quiet
from test_folds import clip

pytest.importorskip("torch", reason="needs the train extra")

from kws.corpus import read_corpus, write_manifest
from kws.errors import DataError
from kws.train.library import Library
from kws.train.recipe import Recipe
from kws.train.validation import judged
from kws.train.windows import WindowSampler

pytestmark = pytest.mark.train


def test_each_keyword_is_judged_by_real_recordings_where_it_has_any():
    alexa, robot_alexa = clip(1, "ann"), clip(2, "tts", kind="synthetic")
    robot_jarvis = clip(3, "tts", "hey jarvis", kind="synthetic")
    found = judged([alexa, robot_alexa, robot_jarvis], ("alexa", "hey jarvis"))
    assert found == [alexa, robot_jarvis]


def sampler(folder: Path, *clips: tuple[str, str, str], text: str = "") -> WindowSampler:
    """Of clips (path, label, kind); `text` is what the last one says in full."""
    rows = []
    for path, label, kind in clips:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / path, np.concatenate([quiet(1.0), 0.1 * quiet(0.5)]), RATE_HZ)
        columns = {"speaker": "ann", "seconds": "1.5", "split": "train"}
        rows.append({"path": path, "label": label, "kind": kind, **columns})
    last = Path(clips[-1][0])
    (folder / last.parent / "texts.csv").write_text(f'path,text\n{last},"{text}"\n')
    write_manifest(folder, rows)
    library = Library(read_corpus(folder), folder / "cache", RATE_HZ)
    return WindowSampler(library, Recipe(name="home", keywords=("hey jarvis",)))


@pytest.mark.parametrize(
    ("label", "kind", "text"),
    [("jarvis", "speech", ""), ("okay jarvis", "speech", ""), ("so it is", "speech", "Well, Hey, Jarvis!")],
)
def test_what_nearly_says_a_keyword_is_no_negative(tmp_path, label, kind, text):
    """It is the only speech of the corpus, so without it there is nothing to train against."""
    word, hum = ("tts/word.wav", "hey jarvis", "synthetic"), ("hum/hum.wav", "", "noise")
    with pytest.raises(DataError, match="no speech clips to train against"):
        sampler(tmp_path / "near", word, hum, ("talk/near.wav", label, kind), text=text)
    assert sampler(tmp_path / "far", word, hum, ("talk/far.wav", "so it is", "speech"))
