"""`kws export`: turn a training run's quantised network into a model folder, checked bit for bit."""

import argparse
from functools import partial
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from kws import config
from kws.errors import ConfigError, DataError
from kws.manifest import FLOAT_FILE, SCHEMA, DetectorSettings, Manifest, Training
from kws.train.export import export
from kws.train.provenance import CONFIG_FILE, QUANT_FILE, TRAINING_FILE
from kws.train.qat import QuantNet
from kws.train.recipe import Recipe

THRESHOLD = 0.5
"""Until `kws evaluate --update` has calibrated one per keyword."""


def run(options: argparse.Namespace) -> int:
    """Export one run; prints where the model is and how large."""
    checkpoint: Path = options.run / QUANT_FILE if options.run.is_dir() else options.run
    folder = checkpoint.parent
    recipe = config.load(folder / CONFIG_FILE, Recipe)
    name = options.name or recipe.name
    if name in ("", ".", "..") or Path(name).name != name:
        raise ConfigError(f"{name!r} cannot name a model folder; use letters, digits and dashes")
    describe = partial(
        Manifest,
        schema=SCHEMA,
        name=name,
        keywords=recipe.keywords,
        features=recipe.features,
        detector=DetectorSettings(
            thresholds=dict.fromkeys(recipe.words, THRESHOLD),
            smoothing_steps=recipe.training.smoothing_steps,
        ),
        training=config.load(folder / TRAINING_FILE, Training),
        licence=recipe.licence,
    )
    target, float_checkpoint = options.models / name, folder / FLOAT_FILE
    manifest = export(
        _load(checkpoint, recipe),
        target,
        lambda model: describe(model=model),
        hop_ms=recipe.features.hop_ms,
        float_checkpoint=float_checkpoint if float_checkpoint.exists() else None,
    )
    size = manifest.model
    print(f"{target}: {size.bytes / 1000:.0f} kB, {size.parameters} parameters, all checks passed")
    print(f"next: kws evaluate --model {target} --data DIR --update")
    return 0


def _load(checkpoint: Path, recipe: Recipe) -> QuantNet:
    """The quantised network in `checkpoint`."""
    net = QuantNet(
        recipe.network,
        recipe.features.frame_size,
        len(recipe.keywords),
        weight_limit=recipe.quantisation.largest_weight,
    )
    try:
        net.load_state_dict(load_file(checkpoint))
    except (OSError, SafetensorError) as error:
        raise DataError(
            f"cannot read {checkpoint} ({error}); give the folder of a finished `kws train` run"
        ) from error
    except RuntimeError as error:  # names or shapes differ
        raise DataError(
            f"{checkpoint} does not fit the network in {CONFIG_FILE}; export from the run's own folder"
        ) from error
    return net
