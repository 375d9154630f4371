"""The pool: augmented training windows, rendered once to uint8 frames and cached on disk.

Rendering costs more than a training step on a CPU, so each window is used several times, with masks and
level changes drawn anew. Shards are pure functions of recipe, corpus and shard number: an interrupted
rendering goes on where it stopped, and any number of processes gives the same pool.
"""

import hashlib
import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kws.config import dump
from kws.corpus import Clip
from kws.features import FRAME_STEP_BEL
from kws.files import replacing
from kws.train.augment import Augment, Dice
from kws.train.cache import entry
from kws.train.clips import ClipSampler
from kws.train.frontend import LogMelBatch
from kws.train.library import Library
from kws.train.processes import Processes
from kws.train.progress import track
from kws.train.recipe import Recipe
from kws.train.rooms import simulate_rooms, stack_responses
from kws.train.windows import Window, WindowSampler
from kws.workers import workers

Columns = dict[str, NDArray[Any]]
"""Rendered windows: frames uint8 (B, n_mels, T), keyword, start and end (B,)."""

SHARD_WINDOWS = 1024
AT_EVERY_USE = (
    "gain_bel",
    "cut_probability",
    "vocal_tract",
    "tempo",
    "time_masks",
    "time_mask_frames",
    "mel_masks",
    "mel_mask_bands",
)
"""Settings of `FrameAugment`: they do not change what is cached."""
BATCH_WINDOWS = 128
"""Windows augmented at once; fixed, because random numbers are drawn per batch."""
SHARD_BATCHES = SHARD_WINDOWS // BATCH_WINDOWS
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
        return Pool(*(column.to(device) for column in self._columns))

    def first(self, count: int) -> "Pool":
        """The first windows."""
        return Pool(*(column[:count] for column in self._columns))

    def __add__(self, other: "Pool") -> "Pool":
        """The windows of both, on the device of this one."""
        pairs = zip(self._columns, other._columns, strict=True)
        return Pool(*(torch.cat((mine, theirs.to(mine.device))) for mine, theirs in pairs))

    @property
    def _columns(self) -> tuple[Tensor, ...]:
        return self.frames, self.keyword, self.start, self.end


@dataclass(frozen=True)
class Drawn:
    """A batch of windows before augmentation."""

    speech: NDArray[np.float32]
    """(B, samples)."""
    background: NDArray[np.float32]
    """(B, samples)."""
    labels: Columns
    """keyword, start and end (B,)."""
    seed: int
    """Of the augmentation."""


class Renderer:
    """Augments and analyses windows on one device."""

    def __init__(self, library: Library, recipe: Recipe, device: torch.device) -> None:
        self.device, self._middle = device, recipe.window_samples // 2
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
    def __call__(self, drawn: Drawn) -> Columns:
        """Frames uint8 (B, n_mels, T), keyword, start and end (B,)."""
        end = drawn.labels["end"]
        heard = self.augment(
            self._tensor(drawn.speech),
            self._tensor(drawn.background),
            self._tensor(np.where(end > 0, end, self._middle).astype(np.float32)),
            Dice(drawn.seed, self.device),
        )
        codes = (self.frontend(heard) / FRAME_STEP_BEL).round_().clamp_(0, 255).to(torch.uint8)
        return {"frames": codes.cpu().numpy(), **drawn.labels}

    def _tensor(self, column: NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(column).to(self.device)


def draw(sampler: WindowSampler, positive: bool, number: int) -> Drawn:
    """Draw batch `number` of one sort."""
    recipe = sampler.recipe
    seed = int(np.random.SeedSequence((recipe.seed, positive, number)).generate_state(1, np.uint64)[0])
    rng = np.random.default_rng(seed)
    windows = [
        sampler.positive(i % len(recipe.words), rng) if positive else sampler.negative(rng)
        for i in range(BATCH_WINDOWS)
    ]
    return stacked(windows, seed >> 1)


def stacked(windows: list[Window], seed: int) -> Drawn:
    """Windows as a batch, to be augmented as `seed` draws."""
    speech, background = (np.stack([getattr(w, name) for w in windows]) for name in ("speech", "background"))
    return Drawn(speech, background, _labels(windows), seed)


def render(
    library: Library,
    recipe: Recipe,
    numbers: Iterable[tuple[bool, int]],
    *,
    cache: Path,
    device: torch.device,
    jobs: int,
) -> Iterator[Columns]:
    """Batches by (positive, number), in order: `jobs` processes draw and, on a CPU, augment them."""
    renderer = None if device.type == "cpu" else Renderer(library, recipe, device)
    start = partial(_start_worker, library.clips, recipe, cache, renderer is None)
    finish = renderer or (lambda batch: batch)
    with workers(jobs, start) as pool:
        ahead: deque[Future[Any]] = deque()
        for number in numbers:
            ahead.append(pool.submit(_work, *number))
            if len(ahead) > jobs + 1:  # no more than keeps all at work: drawn batches are large
                yield finish(ahead.popleft().result())
        while ahead:
            yield finish(ahead.popleft().result())


def load_pools(
    library: Library, recipe: Recipe, cache: Path, jobs: int, everyone: Processes
) -> tuple[Pool, Pool]:
    """Positives and negatives of a recipe; each process renders a share of what the cache does not hold."""
    folder = entry(cache, f"pool-{_key(library.readable(), recipe)}")
    folder.mkdir(parents=True, exist_ok=True)
    counts = {True: recipe.data.positives, False: recipe.data.negatives}
    shards = [(positive, n) for positive, count in counts.items() for n in range(-(-count // SHARD_WINDOWS))]
    missing = [shard for shard in shards[everyone.share] if not _shard(folder, *shard).is_file()]
    if missing:
        numbers = [(positive, n * SHARD_BATCHES + i) for positive, n in missing for i in range(SHARD_BATCHES)]
        jobs = max(1, jobs // everyone.count)
        batches = render(library, recipe, numbers, cache=cache, device=everyone.device, jobs=jobs)
        for shard in track(missing, "rendering windows", disable=not everyone.is_first):
            write_windows(_shard(folder, *shard), list(islice(batches, SHARD_BATCHES)))
    everyone.wait()
    return _load(folder, True, counts[True]), _load(folder, False, counts[False])


_worker: tuple[WindowSampler, Renderer | None]
"""What a worker process draws and, on a CPU, renders with: set once when it starts."""


def _start_worker(clips: list[Clip], recipe: Recipe, cache: Path, renders: bool) -> None:
    global _worker  # noqa: PLW0603 - a process pool offers its workers no other place
    torch.set_num_threads(1)
    library = Library(clips, cache, recipe.features.sample_rate_hz)
    renderer = Renderer(library, recipe, torch.device("cpu")) if renders else None
    sampler = ClipSampler(library, recipe) if recipe.classifies else WindowSampler(library, recipe)
    _worker = sampler, renderer


def _work(positive: bool, number: int) -> Columns | Drawn:
    sampler, renderer = _worker
    drawn = draw(sampler, positive, number)
    return renderer(drawn) if renderer else drawn


def _load(folder: Path, positive: bool, count: int) -> Pool:
    shards = [_shard(folder, positive, number) for number in range(-(-count // SHARD_WINDOWS))]
    return read_windows(shards).first(count)


def write_windows(path: Path, batches: list[Columns]) -> None:
    """Keep rendered windows in one file."""
    columns = {name: np.concatenate([b[name] for b in batches]) for name in batches[0]}
    with replacing(path) as unfinished, unfinished.open("wb") as file:
        np.savez(file, allow_pickle=False, **columns)


def read_windows(paths: Sequence[Path]) -> Pool:
    """The windows of some files, joined."""
    columns: dict[str, list[Tensor]] = {"frames": [], "keyword": [], "start": [], "end": []}
    for path in paths:
        with np.load(path, allow_pickle=False) as stored:
            for name, column in columns.items():
                column.append(torch.from_numpy(stored[name]))
    return Pool(**{name: torch.cat(column) for name, column in columns.items()})


def _shard(folder: Path, positive: bool, number: int) -> Path:
    return folder / f"{'positive' if positive else 'negative'}-{number:04d}.npz"


def _key(clips: list[Clip], recipe: Recipe) -> str:
    settings = {name: dump(getattr(recipe, name)) for name in ("seed", "keywords")}
    settings["features"] = dump(recipe.features.log_mel)
    settings["augmentation"] = {k: v for k, v in dump(recipe.augmentation).items() if k not in AT_EVERY_USE}
    # How many windows there are, and where a corpus lies, does not change what each one is.
    settings["data"] = {k: v for k, v in dump(recipe.data).items() if k.endswith("_share") or k in DRAWN}
    settings["clips"] = [f"{c.source}/{c.path.name} {c.label} {c.seconds} {c.speaker}" for c in clips]
    return hashlib.sha256(f"pool 4 {json.dumps(settings, sort_keys=True)}".encode()).hexdigest()[:16]


def _labels(windows: list[Window]) -> Columns:
    return {
        "keyword": np.array([w.keyword for w in windows], np.int64),
        "start": np.array([w.word_start for w in windows], np.int64),
        "end": np.array([w.word_end for w in windows], np.int64),
    }
