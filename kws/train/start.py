"""The first weights: random, or those of an earlier run or model, for other words or another quantisation."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from kws import config
from kws.errors import ConfigError, DataError, ModelError
from kws.features import FeatureSettings
from kws.manifest import FLOAT_FILE, find_model, read_manifest
from kws.train.net import KeywordNet
from kws.train.provenance import CONFIG_FILE
from kws.train.recipe import Recipe

HEAD = ("head.weight", "head.bias")
"""Of these tensors each keyword has a row."""


@dataclass(frozen=True)
class Start:
    """Weights and what they were trained for."""

    folder: Path
    weights: dict[str, Tensor]
    keywords: tuple[str, ...]
    features: FeatureSettings

    def fill(self, net: KeywordNet, recipe: Recipe) -> None:
        """Copy the trunk, and the head's rows of those keywords that it knows; new ones stay as they are.

        Raises ConfigError when the features or the shape of the network differ.
        """
        if self.features != recipe.features:
            raise ConfigError(f"start: {self.folder} hears other features; copy its features section")
        if not recipe.training.steps and self.keywords != recipe.keywords:
            raise ConfigError(
                f"start: {self.folder} knows {', '.join(self.keywords)}; with training.steps 0 the keywords "
                "must be the same"
            )
        try:
            weights = self.weights | {name: self._rows(name, net, recipe.keywords) for name in HEAD}
            net.load_state_dict(weights)
        except RuntimeError as error:  # names or shapes differ
            raise ConfigError(
                f"start: {self.folder} has a network of another shape; copy its network section"
            ) from error

    def _rows(self, name: str, net: KeywordNet, keywords: tuple[str, ...]) -> Tensor:
        """A tensor of the head: rows that are known, in the order of `keywords`, else the network's own."""
        rows = net.state_dict()[name].clone()
        for row, keyword in enumerate(keywords):
            if keyword in self.keywords:
                rows[row] = self.weights[name][self.keywords.index(keyword)]
        return rows


def first_network(recipe: Recipe) -> KeywordNet:
    """The float network of a recipe before its first step: random weights, or those of its `start`.

    Raises what `read_start` and `Start.fill` do.
    """
    torch.manual_seed(recipe.seed)
    net = KeywordNet(recipe.network, recipe.features.frame_size, len(recipe.keywords))
    if recipe.start:
        read_start(recipe.start).fill(net, recipe)
    return net


def read_start(name_or_path: str) -> Start:
    """Float weights of a run folder, a model folder or an installed model.

    Raises:
        ModelError: there is no such folder, or it is no sound model.
        DataError: it holds no float weights.
    """
    try:
        folder = find_model(name_or_path)
    except ModelError as error:
        raise ModelError(f"start: {error}; train it first, or name another") from error
    path = folder / FLOAT_FILE
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(
            f"cannot read {path} ({error}); start from a finished run or a model folder"
        ) from error
    if (folder / CONFIG_FILE).is_file():
        recipe = config.load(folder / CONFIG_FILE, Recipe)
        return Start(folder, weights, recipe.keywords, recipe.features)
    manifest = read_manifest(folder)
    return Start(folder, weights, manifest.keywords, manifest.features)
