"""The pool: augmented training windows, rendered once to uint8 frames and cached on disk.

Rendering costs more than a training step on a CPU, so each window is used several times, with masks and
level changes drawn anew. Shards are pure functions of recipe, corpus and shard number: an interrupted
rendering goes on where it stopped, and any number of processes gives the same pool.
"""

import hashlib
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from kws.config import dump
from kws.corpus import Clip
from kws.features import FRAME_STEP_BEL
from kws.files import replacing
from kws.train.augment import Augment, Dice
from kws.train.clips import ClipSampler
from kws.train.frontend import LogMelBatch
from kws.train.library import Library
from kws.train.recipe import Recipe
from kws.train.rooms import simulate_rooms, stack_responses
from kws.train.windows import Window, WindowSampler

SHARD_WINDOWS = 1024
AT_EVERY_USE = (
    "gain_bel",
    "cut_probability",
    "vocal_tract",
    "time_masks",
    "time_mask_frames",
    "mel_masks",
    "mel_mask_bands",
)
"""Settings of `FrameAugment`: they do not change what is cached."""
BATCH_WINDOWS = 128
"""Windows augmented at once; fixed, because random numbers are drawn per batch."""
DRAWN = ("window_frames", "negative_shares")
"""Beside the shares, what decides how a window is drawn."""


@dataclass(frozen=True)
class Pool:
    """Rendered windows of one sort (positives or negatives)."""

    frames: Tensor
    """uint8 (windows, n_mels, frames), in steps of FRAME_STEP_BEL."""
    keyword: Tensor
    """int64 (windows,): keyword index, or -1."""
    start: Tensor
    """int64 (windows,): sample at which the word starts."""
    end: Tensor
    """int64 (windows,): sample at which the word has ended."""

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.frames)

    def rows(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Frames, keyword, start and end of the windows at `index`, which may be on any device."""
        index = index.to(self.frames.device)
        return self.frames[index], self.keyword[index], self.start[index], self.end[index]

    def to(self, device: torch.device) -> "Pool":
        """The same windows on another device."""
        return Pool(*(column.to(device) for column in (self.frames, self.keyword, self.start, self.end)))


class Renderer:
    """Draws, augments and analyses windows on one device."""

    def __init__(self, library: Library, recipe: Recipe, device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        self.sampler = ClipSampler(library, recipe) if recipe.classifies else WindowSampler(library, recipe)
        rate_hz, settings = recipe.features.sample_rate_hz, recipe.augmentation
        measured = [
            library.samples(i).astype(np.float32) for i, c in enumerate(library.clips) if c.kind == "rir"
        ]
        rooms = simulate_rooms(settings.simulated_rooms, rate_hz, recipe.seed)
        responses = torch.zeros(0, 1)
        if measured or rooms:
            responses = torch.from_numpy(stack_responses([*measured, *rooms], rate_hz))
        self.augment = Augment(settings, responses, rate_hz).to(device)
        self.frontend = LogMelBatch(recipe.features).to(device)

    @torch.no_grad()
    def batch(self, positive: bool, number: int) -> dict[str, NDArray[np.generic]]:
        """Render batch `number`: frames uint8 (BATCH_WINDOWS, n_mels, T), keyword, start and end (B,)."""
        seed = int(
            np.random.SeedSequence((self.recipe.seed, positive, number)).generate_state(1, np.uint64)[0]
        )
        rng = np.random.default_rng(seed)
        words = len(self.recipe.words)
        windows = [
            self.sampler.positive(i % words, rng) if positive else self.sampler.negative(rng)
            for i in range(BATCH_WINDOWS)
        ]
        middle = self.recipe.window_samples // 2
        anchor = torch.tensor([w.word_end or middle for w in windows], dtype=torch.float32)
        heard = self.augment(
            self._stack([w.speech for w in windows]),
            self._stack([w.background for w in windows]),
            anchor.to(self.device),
            Dice(seed >> 1, self.device),
        )
        codes = (self.frontend(heard) / FRAME_STEP_BEL).round_().clamp_(0, 255).to(torch.uint8)
        return {"frames": codes.cpu().numpy(), **_labels(windows)}

    def _stack(self, rows: list[NDArray[np.float32]]) -> Tensor:
        return torch.from_numpy(np.stack(rows)).to(self.device)


def load_pools(
    clips: list[Clip], recipe: Recipe, cache: Path, device: torch.device, jobs: int
) -> tuple[Pool, Pool]:
    """Positives and negatives of a recipe, rendered where the cache does not hold them yet."""
    folder = cache / f"pool-{_key(clips, recipe)}"
    folder.mkdir(parents=True, exist_ok=True)
    counts = {True: recipe.data.positives, False: recipe.data.negatives}
    shards = [(positive, n) for positive, count in counts.items() for n in range(-(-count // SHARD_WINDOWS))]
    missing = [shard for shard in shards if not _shard(folder, *shard).is_file()]
    if missing:
        library = Library(clips, cache, recipe.features.sample_rate_hz)  # decode before the workers need it
        if device.type == "cpu":
            start = partial(_start_worker, clips, recipe, cache, folder)
            with ProcessPoolExecutor(jobs, get_context("spawn"), start) as pool:
                for _ in track(pool.map(_render_shard, missing), "rendering windows", total=len(missing)):
                    pass
        else:
            renderer = Renderer(library, recipe, device)
            for shard in track(missing, "rendering windows"):
                _write_shard(renderer, folder, *shard)
    return _load(folder, True, counts[True]), _load(folder, False, counts[False])


_worker: tuple[Renderer, Path]
"""What a worker process renders with, and where to: set once when it starts."""


def _start_worker(clips: list[Clip], recipe: Recipe, cache: Path, folder: Path) -> None:
    global _worker  # noqa: PLW0603 - a process pool offers its workers no other place
    torch.set_num_threads(1)
    library = Library(clips, cache, recipe.features.sample_rate_hz)
    _worker = Renderer(library, recipe, torch.device("cpu")), folder


def _render_shard(shard: tuple[bool, int]) -> None:
    _write_shard(*_worker, *shard)


def _write_shard(renderer: Renderer, folder: Path, positive: bool, number: int) -> None:
    per_shard = SHARD_WINDOWS // BATCH_WINDOWS
    batches = [renderer.batch(positive, number * per_shard + i) for i in range(per_shard)]
    target = _shard(folder, positive, number)
    columns = {name: np.concatenate([b[name] for b in batches]) for name in batches[0]}
    with replacing(target) as unfinished, unfinished.open("wb") as file:
        np.savez(file, allow_pickle=False, **columns)


def _load(folder: Path, positive: bool, count: int) -> Pool:
    columns: dict[str, list[Tensor]] = {"frames": [], "keyword": [], "start": [], "end": []}
    for number in range(-(-count // SHARD_WINDOWS)):
        with np.load(_shard(folder, positive, number), allow_pickle=False) as shard:
            for name, column in columns.items():
                column.append(torch.from_numpy(shard[name]))
    return Pool(**{name: torch.cat(column)[:count] for name, column in columns.items()})


def _shard(folder: Path, positive: bool, number: int) -> Path:
    return folder / f"{'positive' if positive else 'negative'}-{number:04d}.npz"


def _key(clips: list[Clip], recipe: Recipe) -> str:
    settings = {name: dump(getattr(recipe, name)) for name in ("seed", "keywords", "features")}
    settings["augmentation"] = {k: v for k, v in dump(recipe.augmentation).items() if k not in AT_EVERY_USE}
    # How many windows there are, and where a corpus lies, does not change what each one is.
    settings["data"] = {k: v for k, v in dump(recipe.data).items() if k.endswith("_share") or k in DRAWN}
    settings["clips"] = [f"{c.source}/{c.path.name} {c.label} {c.seconds} {c.speaker}" for c in clips]
    return hashlib.sha256(f"pool 1 {json.dumps(settings, sort_keys=True)}".encode()).hexdigest()[:16]


def _labels(windows: list[Window]) -> dict[str, NDArray[np.generic]]:
    return {
        "keyword": np.array([w.keyword for w in windows], np.int64),
        "start": np.array([w.word_start for w in windows], np.int64),
        "end": np.array([w.word_end for w in windows], np.int64),
    }
