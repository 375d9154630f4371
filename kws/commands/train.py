"""`kws train`: one recipe to one run folder, resumable at any time, by one process or those of torchrun."""

import argparse
import os
from pathlib import Path

import kws.train  # noqa: F401 - says which extra is missing before anything else fails
from kws import config
from kws.commands.corpus import report
from kws.errors import ConfigError
from kws.files import cache_folder
from kws.train.material import decode, read_material
from kws.train.recipe import Recipe


def run(options: argparse.Namespace) -> int:
    """Check the corpora, then train; prints what is wrong with them, a line per validation, the next step."""
    recipe = config.load(options.config, Recipe, options.set)
    corpus: Path = options.data or Path(recipe.data.corpus)
    if not options.data and not recipe.data.corpus:
        raise ConfigError("data.corpus is empty; set it, or give a folder with --data")
    folder: Path = options.run or Path("runs") / recipe.name
    cache = cache_folder()
    material = read_material(corpus, recipe)
    if any(problem.is_fatal for problem in material.problems):
        report(material.problems, corpus, strict=options.strict)

    from kws.train.loop import CHECKPOINT, Trainer  # noqa: PLC0415 (torch: seconds)
    from kws.train.processes import processes  # noqa: PLC0415
    from kws.train.start import first_network  # noqa: PLC0415

    is_begun = (folder / CHECKPOINT).exists()
    if is_begun and not (options.resume or options.dry_run):
        raise ConfigError(f"{folder} already holds a run; continue it with --resume or give another --run")
    if not is_begun:
        first_network(recipe)  # a `start` that does not fit is refused now, not after an hour of rendering
    with processes() as everyone:
        with everyone.first_alone():
            known, held_out, audible = decode(material, recipe, cache)
        report(material.problems + audible, corpus, strict=options.strict, quiet=not everyone.is_first)
        if options.dry_run:
            if everyone.is_first:
                print(f"{options.config}: sound; would train {recipe.name!r} on {corpus} into {folder}")
            return 0
        trainer = Trainer(
            recipe, known, held_out, folder, cache=cache, jobs=os.cpu_count() or 1, everyone=everyone
        )
        result = trainer.train()
        if everyone.is_first:
            judged = (
                "clips labelled wrongly"
                if recipe.classifies
                else "misses at the chosen false accepts per hour"
            )
            print(f"kept: {100 * result.objective:.1f} % {judged}, averaged over the keywords")
            print(f"next: kws export {folder}")
    return 0
