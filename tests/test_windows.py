"""Which recordings a training window is drawn from."""

import numpy as np
import pytest
import soundfile

torch = pytest.importorskip("torch", reason="needs the train extra")

from conftest import RATE_HZ, noise_band, quiet  # noqa: E402

from kws.corpus import Clip  # noqa: E402
from kws.train.library import Library  # noqa: E402
from kws.train.recipe import Data, Recipe  # noqa: E402
from kws.train.windows import ENOUGH_SPEAKERS, WindowSampler  # noqa: E402

RECIPE = Recipe(name="x", keywords=("many", "few"), data=Data(real_share=0.8, context_share=0.0))
PEOPLE = {"many": ENOUGH_SPEAKERS, "few": ENOUGH_SPEAKERS // 4}
DRAWS = 400


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """Real words sound low, synthetic ones high; `few` was recorded by a quarter of the people."""
    folder = tmp_path_factory.mktemp("words")
    for name, band in (("keyword", (100, 1000)), ("synthetic", (4000, 7000)), ("speech", (1500, 2500))):
        samples = np.concatenate([quiet(0.3), noise_band(*band, 0.5, 0), quiet(0.3)])
        soundfile.write(folder / f"{name}.wav", samples, RATE_HZ)
    said = [("keyword", word, f"p{n}") for word, people in PEOPLE.items() for n in range(people)]
    said += [("synthetic", word, f"voice{n}") for word in PEOPLE for n in range(3)]
    said += [("speech", "", "s"), ("noise", "", "")]
    files = {"noise": "speech"}
    rows = [
        Clip(
            folder / f"{files.get(kind, kind)}.wav",
            kind,
            word,
            kind,
            who,
            1.1,
            "train",
            "",
            "",
            None,
            None,
            "",
        )
        for kind, word, who in said
    ]
    return Library(rows, folder / "cache", RATE_HZ)


@pytest.mark.parametrize(("keyword", "share"), [(0, 0.8), (1, 0.4)])
def test_words_of_few_people_are_real_less_often_by_the_root(
    library: Library, keyword: int, share: float
) -> None:
    sampler = WindowSampler(library, RECIPE)
    rng = np.random.default_rng(keyword)
    real = 0
    for _ in range(DRAWS):
        spectrum = np.abs(np.fft.rfft(sampler.positive(keyword, rng).speech))
        low, high = np.array_split(spectrum, 2)
        real += low.sum() > high.sum()
    assert real / DRAWS == pytest.approx(share, abs=0.08)  # three standard deviations


def test_other_speech_comes_after_a_pause_as_often_as_the_recipe_says(library: Library) -> None:
    def heard(alone_share: float, seed: int) -> np.ndarray:
        data = Data(alone_share=alone_share, negative_shares={"speech": 1.0})
        sampler = WindowSampler(library, Recipe(name="x", keywords=("many", "few"), data=data))
        return sampler.negative(np.random.default_rng(seed)).speech

    for seed in range(20):
        (alone,) = np.nonzero(np.abs(heard(1.0, seed)) > 0.01)
        assert alone[0] > 0.05 * 2.4 * RATE_HZ
        assert np.ptp(alone) > 0.2 * RATE_HZ
        stream = np.abs(heard(0.0, seed))
        assert stream[: RATE_HZ // 2].max() > 0.01
        assert stream[-RATE_HZ:].max() > 0.01
