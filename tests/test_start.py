"""A warm start copies what fits: the trunk always, the head by keyword."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")
from quantnets import N_MELS, SETTINGS, float_net  # noqa: E402

from kws import config  # noqa: E402
from kws.errors import ConfigError, DataError, ModelError  # noqa: E402
from kws.features import FeatureSettings  # noqa: E402
from kws.train.net import KeywordNet  # noqa: E402
from kws.train.recipe import Recipe, Training  # noqa: E402
from kws.train.start import read_start  # noqa: E402

pytestmark = pytest.mark.train
RECIPE = Recipe("toy", ("one", "two"), network=SETTINGS)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """What a finished run leaves, as far as a start needs it."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(config.dump(RECIPE)))
    safetensors.save_file(float_net().state_dict(), folder / "float.safetensors")
    return folder


def fresh(recipe: Recipe) -> KeywordNet:
    torch.manual_seed(9)
    return KeywordNet(recipe.network, N_MELS, len(recipe.keywords))


def test_same_words_get_the_same_weights(run: Path) -> None:
    net = fresh(RECIPE)
    read_start(str(run)).fill(net, RECIPE)
    trained = float_net().state_dict()
    assert all(torch.equal(tensor, trained[name]) for name, tensor in net.state_dict().items())


def test_other_words_keep_the_trunk_and_the_rows_of_those_that_are_known(run: Path) -> None:
    recipe = replace(RECIPE, keywords=("three", "one", "four"))
    net, untouched, trained = fresh(recipe), fresh(recipe), float_net()
    read_start(str(run)).fill(net, recipe)
    assert torch.equal(net.stem.conv.weight, trained.stem.conv.weight)
    assert torch.equal(net.blocks[2].norm.running_var, trained.blocks[2].norm.running_var)
    assert torch.equal(net.head.weight[1], trained.head.weight[0])
    assert torch.equal(net.head.weight[[0, 2]], untouched.head.weight[[0, 2]])
    assert net.head.bias.tolist() == [-3, trained.head.bias[0].item(), -3]


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (replace(RECIPE, network=replace(SETTINGS, channels=8)), "another shape"),
        (replace(RECIPE, network=replace(SETTINGS, dilations=(1, 2))), "another shape"),
        (replace(RECIPE, features=FeatureSettings(n_mels=24)), "other features"),
        (
            replace(RECIPE, keywords=("one", "ten"), start="run", training=Training(steps=0)),
            "must be the same",
        ),
    ],
)
def test_start_that_does_not_fit_is_refused(run: Path, recipe: Recipe, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_start(str(run)).fill(fresh(recipe), recipe)


def test_start_from_nothing_says_what_is_missing(run: Path, toy_folder: Path) -> None:
    with pytest.raises(ModelError, match="there is no model"):
        read_start(str(run / "elsewhere"))
    with pytest.raises(DataError, match="cannot read"):
        read_start(str(toy_folder))
    with pytest.raises(ConfigError, match=r"training\.steps is 0"):
        replace(RECIPE, training=Training(steps=0))
