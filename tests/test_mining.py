"""Mining finds the moments at which a network is wrong, wherever they are, and draws windows around them."""

import numpy as np
import pytest
import soundfile

torch = pytest.importorskip("torch", reason="needs the train extra")

from conftest import RATE_HZ, noise_band, quiet  # noqa: E402

from kws.corpus import Clip  # noqa: E402
from kws.train.library import Library  # noqa: E402
from kws.train.mining import Miner  # noqa: E402
from kws.train.recipe import Augmentation, Recipe, Training  # noqa: E402
from kws.train.windows import NEGATIVE, WindowSampler  # noqa: E402

RECIPE = Recipe(
    name="x",
    keywords=("word",),
    augmentation=Augmentation(simulated_rooms=0),
    training=Training(mined_windows=6),
)
SPOTS = {3: 1.2, 7: 0.6}
"""Clip -> second at which a short high sound ends."""


class HearsHighSounds(torch.nn.Module):
    """A network of one idea: the logit is the level of the upper half of the bands."""

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return frames[:, 20:, ::2].mean(1, keepdim=True) * 4 - 6


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    folder = tmp_path_factory.mktemp("talk")
    clips = []
    for number in range(10):
        samples = np.concatenate([quiet(0.5), noise_band(100, 900, 1.0, number), quiet(0.5)])
        if number in SPOTS:
            end = round(SPOTS[number] * RATE_HZ)
            samples[end - RATE_HZ // 5 : end] += noise_band(3000, 7000, 0.2)
        soundfile.write(folder / f"{number}.wav", samples, RATE_HZ)
        is_word, is_hum = number == 0, number == 9
        kind = "keyword" if is_word else "noise" if is_hum else "speech"
        label = "word" if is_word else ""
        path = folder / f"{number}.wav"
        clips.append(Clip(path, "talk", label, kind, "s", 2.0, "train", "", "", None, None, ""))
    return Library(clips, folder / "cache", RATE_HZ)


def test_the_highest_peaks_are_where_the_sound_is(library: Library) -> None:
    spots = Miner(library, RECIPE, torch.device("cpu")).spots(HearsHighSounds())
    assert {spot.clip for spot in spots} == set(SPOTS)
    for spot in spots:
        assert abs(spot.sample / RATE_HZ - SPOTS[spot.clip]) < 0.2


def test_a_window_holds_the_moment_where_a_word_would_end(library: Library) -> None:
    sampler = WindowSampler(library, RECIPE)
    for seed in range(5):
        window = sampler.around(3, round(1.2 * RATE_HZ), np.random.default_rng(seed))
        assert window.keyword == NEGATIVE
        assert len(window.speech) == len(window.background) == RECIPE.window_samples
        high = np.abs(
            np.fft.rfft(window.speech.reshape(-1, 2)[: len(window.speech) // 320 * 160, 0].reshape(-1, 160))
        )
        loudest = high[:, 70:].sum(1).argmax() * 320 / RATE_HZ
        from_end = len(window.speech) / RATE_HZ - loudest
        assert 0.3 < from_end < 1.2


def test_keywords_are_not_mined(library: Library) -> None:
    assert 0 not in WindowSampler(library, RECIPE).negative_clips
