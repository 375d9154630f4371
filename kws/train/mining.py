"""Mining: play all speech without keywords to a half-trained network, draw more windows where it is wrong.

Windows drawn at random meet most of the audio once; false accepts are rare moments in many hours. So a round
of mining looks for those moments everywhere and shows each of them again, in other rooms and noises. Hard
negatives found by the model itself are an old idea (Sung and Poggio, 1998).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from kws.scores import PEAK_DISTANCE_SECONDS, Scores, peaks, scores_of
from kws.train.frontend import GainBatch, LogMelBatch
from kws.train.library import Library
from kws.train.net import inference
from kws.train.pool import BATCH_WINDOWS, Renderer, stacked, write_windows
from kws.train.progress import track
from kws.train.recipe import Recipe
from kws.train.windows import WindowSampler

JOINED_SECONDS = 60.0
"""Clips are joined until they are this long, so that the network has more to do at once."""
WINDOWS_PER_SPOT = 3
"""Each moment found is drawn about this often."""


@dataclass(frozen=True)
class Spot:
    """A moment at which a network believed that it heard a keyword, and did not."""

    score: float
    clip: int
    """Index in the library."""
    sample: int
    """Of that clip, where the score peaked."""


class Miner:
    """Plays the negatives of a library to networks, one after the other."""

    def __init__(self, library: Library, recipe: Recipe, device: torch.device) -> None:
        self.library, self.recipe, self.device = library, recipe, device
        self.sampler = WindowSampler(library, recipe)
        self.frontend = nn.Sequential(LogMelBatch(recipe.features), GainBatch(recipe.features)).to(device)
        self._hop = recipe.features.hop_samples * recipe.network.stride

    def write(self, path: Path, net: nn.Module, seed: int) -> None:
        """Keep windows around the false accepts of `net` in a file for `read_windows`."""
        spots = self.spots(net)
        renderer = Renderer(self.library, self.recipe, self.device)
        rng = np.random.default_rng([self.recipe.seed, seed])
        batches = []
        count = -(-self.recipe.training.mined_windows // BATCH_WINDOWS)
        for number in track(range(count), "rendering mined windows"):
            drawn = [spots[int(rng.integers(len(spots)))] for _ in range(BATCH_WINDOWS)]
            windows = [self.sampler.around(spot.clip, spot.sample, rng) for spot in drawn]
            batches.append(renderer(stacked(windows, seed * 1_000_003 + number)))
        write_windows(path, batches)

    def spots(self, net: nn.Module) -> list[Spot]:
        """The highest peaks of every keyword, as many as `mined_windows` needs.

        `net` maps frames (B, frame_size, T) to logits (B, K, T // stride).
        """
        distance = round(PEAK_DISTANCE_SECONDS * self.recipe.features.sample_rate_hz / self._hop)
        found: list[list[Spot]] = [[] for _ in self.recipe.keywords]
        with inference(net):
            for stream in track(list(_streams(self.library, self.sampler.negative_clips)), "mining"):
                ends = np.cumsum([len(self.library.samples(index)) for index in stream])
                best = peaks(self._scores(net, stream), min_distance_rows=distance)
                for column, rows in zip(found, best, strict=True):
                    column += [_spot(score, self._sample(row), stream, ends) for row, score in rows]
        wanted = max(1, self.recipe.training.mined_windows // (WINDOWS_PER_SPOT * len(found)))
        return [spot for column in found for spot in sorted(column, key=lambda s: -s.score)[:wanted]]

    def _scores(self, net: nn.Module, stream: list[int]) -> Scores:
        audio = np.concatenate([self.library.samples(index) for index in stream]).astype(np.float32) / 32768
        frames = self.frontend(torch.from_numpy(audio).to(self.device)[None])
        logits = net(frames)[0].T.contiguous().cpu().numpy()
        return scores_of(logits, self.recipe.training.smoothing_steps)

    def _sample(self, row: int) -> int:
        """Last sample that the score in `row` has heard."""
        return row * self._hop + self.recipe.features.window_samples


def _spot(score: float, sample: int, stream: list[int], ends: NDArray[np.int64]) -> Spot:
    place = min(int(np.searchsorted(ends, sample, side="right")), len(stream) - 1)
    start = int(ends[place - 1]) if place else 0
    return Spot(score, stream[place], sample - start)


def _streams(library: Library, clips: list[int]) -> Iterator[list[int]]:
    stream: list[int] = []
    seconds = 0.0
    for index in clips:
        stream.append(index)
        seconds += len(library.samples(index)) / library.sample_rate_hz
        if seconds >= JOINED_SECONDS:
            yield stream
            stream, seconds = [], 0.0
    if stream and seconds > 1:
        yield stream
