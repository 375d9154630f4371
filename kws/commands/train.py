"""`kws train`: one recipe to one run folder, resumable at any time."""

import argparse
import os
from pathlib import Path

import kws.train  # noqa: F401 - says which extra is missing before anything else fails
from kws import config
from kws.corpus import keyword_of, problems, read_corpus
from kws.errors import ConfigError, DataError
from kws.train.recipe import Recipe


def run(options: argparse.Namespace) -> int:
    """Check the corpus, then train; prints a line per validation and the next step."""
    recipe = config.load(options.config, Recipe)
    corpus: Path = options.data or Path(recipe.data.corpus)
    if not options.data and not recipe.data.corpus:
        raise ConfigError("data.corpus is empty; set it, or give a folder with --data")
    folder: Path = options.run or Path("runs") / recipe.name
    _check(corpus, recipe)
    if options.dry_run:
        print(f"{options.config}: sound; would train {recipe.name!r} on {corpus} into {folder}")
        return 0

    import torch  # noqa: PLC0415 (seconds; the checks above need it not)

    from kws.train.loop import CHECKPOINT, Trainer  # noqa: PLC0415

    if (folder / CHECKPOINT).exists() and not options.resume:
        raise ConfigError(f"{folder} already holds a run; continue it with --resume or give another --run")

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cache = Path(os.environ.get("KWS_CACHE", Path.home() / ".cache" / "kws"))
    result = Trainer(recipe, corpus, folder, cache=cache, device=device, jobs=os.cpu_count() or 1).train()
    judged = "clips labelled wrongly" if recipe.classifies else "misses at the chosen false accepts per hour"
    print(f"kept: {100 * result.objective:.1f} % {judged}, averaged over the keywords")
    print(f"next: kws export {folder}")
    return 0


def _check(corpus: Path, recipe: Recipe) -> None:
    """Refuse a corpus whose figures would not mean anything; lists all that is wrong with it."""
    folders = [corpus, *map(Path, recipe.data.speech)]
    everything = [clip for folder in folders for clip in read_corpus(folder)]
    clips = [clip for clip in everything if clip.source not in recipe.data.exclude]
    found = problems(clips)
    for split in ("train", recipe.validation.split):
        for keyword in recipe.words:
            if not any(c.split == split and keyword_of(c.label, [keyword]) for c in clips):
                found.append(f"no {split} clip says {keyword!r}")
    if found:
        raise DataError(f"{corpus} cannot be trained on: {'; '.join(found)}; see kws corpus check {corpus}")
