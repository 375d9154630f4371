"""Validation while training: misses at a fixed number of false accepts per hour.

The scoring rules are those of `kws evaluate`; frames are computed once and cached.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kws.audio import read_audio
from kws.config import dump
from kws.corpus import Clip, keyword_of
from kws.evaluate.metrics import balanced_weights, false_reject_rate, threshold_at
from kws.evaluate.playlist import EvaluationSettings, Mixer, find_word, make_playlist
from kws.features import FRAME_STEP_BEL, FeatureSettings, LogMel
from kws.files import replacing
from kws.scores import PEAK_DISTANCE_SECONDS, peaks, scores_of
from kws.train.cache import entry
from kws.train.frontend import GainBatch
from kws.train.net import inference
from kws.train.progress import track
from kws.train.recipe import Recipe
from kws.workers import workers

Codes = NDArray[np.uint8]


@dataclass(frozen=True)
class Result:
    """One validation; rates are shares of 1."""

    objective: float
    """Mean of the keywords' false reject rates: smaller is better, and chooses the checkpoint."""
    false_reject_rate: dict[str, float]
    """Balanced over speakers, per keyword: the mean over the allowed false accepts per hour."""


class Validator:
    """Held-out keywords in noise and hours of ambient audio, ready to be scored by any network."""

    def __init__(
        self,
        clips: list[Clip],
        recipe: Recipe,
        *,
        cache: Path,
        device: torch.device,
        jobs: int,
    ) -> None:
        self.recipe, self.device = recipe, device
        self.settings = recipe.validation.rules
        playlist = make_playlist(clips, recipe.keywords, self.settings)
        self._positives = judged(playlist.positives, recipe.keywords)
        key = _key(
            recipe, self.settings, [*self._positives, *playlist.noise, *chain.from_iterable(playlist.ambient)]
        )
        path = entry(cache, f"validation-{key}.npz")
        if not path.is_file():
            self._build(path, playlist.noise, playlist.ambient, jobs)
        with np.load(path, allow_pickle=False) as stored:
            self._spoken = np.split(stored["spoken"], stored["spoken_offsets"])
            self._ambient = np.split(stored["ambient"], stored["ambient_offsets"])
            self._words: NDArray[np.int64] = stored["words"]
        self.gain = GainBatch(recipe.features).to(device)
        self.hours = sum(map(len, self._ambient)) * recipe.features.hop_ms / 3.6e6

    def __call__(self, net: nn.Module) -> Result:
        """Score a network that maps frames (B, frame_size, T) to logits (B, K, T // stride)."""
        heard: list[list[float]] = [[] for _ in self.recipe.keywords]
        distance = round(PEAK_DISTANCE_SECONDS * 1000 / self._step_ms)
        with inference(net):
            hits = np.stack(
                [self._best(self._scores(net, c), w) for c, w in zip(self._spoken, self._words, strict=True)]
            )
            for stream in self._ambient:
                best = peaks(self._scores(net, stream), min_distance_rows=distance)
                for column, found in zip(heard, best, strict=True):
                    column += [score for _, score in found]
        return self._rate(hits, heard)

    @property
    def _step_ms(self) -> int:
        return self.recipe.features.hop_ms * self.recipe.network.stride

    def _rate(self, hits: NDArray[np.float32], heard: list[list[float]]) -> Result:
        rates = {}
        for k, keyword in enumerate(self.recipe.keywords):
            rows = [
                i
                for i, c in enumerate(self._positives)
                if keyword_of(c.label, self.recipe.keywords) == keyword
            ]
            clips = [self._positives[i] for i in rows]
            weights = balanced_weights(
                [f"{c.source}/{c.speaker}" for c in clips], [c.recording or str(c.path) for c in clips]
            )
            thresholds = (
                threshold_at(heard[k], self.hours, allowed)
                for allowed in self.recipe.validation.false_accepts_per_hour
            )
            rates[keyword] = float(
                np.mean([false_reject_rate(hits[rows, k], t, weights) for t in thresholds])
            )
        return Result(float(np.mean(list(rates.values()))), rates)

    def _scores(self, net: nn.Module, codes: Codes) -> NDArray[np.float32]:
        frames: Tensor = torch.from_numpy(codes.T[None].astype(np.float32)).to(self.device) * FRAME_STEP_BEL
        logits = net(self.gain(frames))[0].T.contiguous().cpu().numpy()
        return scores_of(logits, self.recipe.training.smoothing_steps)

    def _best(self, scores: NDArray[np.float32], word: NDArray[np.int64]) -> NDArray[np.float32]:
        """Highest score of each keyword in the hit window, (K,)."""
        f = self.recipe.features
        end = word[1] + round(self.settings.hit_window_seconds * f.sample_rate_hz)
        first, last = (
            int(sample) // (f.hop_samples * self.recipe.network.stride) for sample in (word[0], end)
        )
        best: NDArray[np.float32] = scores[first:last].max(0, initial=0)
        return best

    def _build(self, path: Path, noise: list[Clip], ambient: list[list[Clip]], jobs: int) -> None:
        features, settings = self.recipe.features.log_mel, self.settings
        mixer = Mixer(noise, features.sample_rate_hz, settings)
        spoken, words = [], []
        for number, clip in enumerate(track(self._positives, "mixing validation words")):
            samples = read_audio(clip.path, features.sample_rate_hz)
            word = find_word(clip, samples, features.sample_rate_hz)
            lead_in = round(settings.lead_in_seconds * features.sample_rate_hz)
            heard = mixer.track(samples, word, self.recipe.validation.snr_db, number)
            spoken.append(codes_of(LogMel(features).feed(heard)))
            words.append((lead_in + word[0], lead_in + word[1]))
        with workers(jobs) as pool:
            tasks = [(features, [c.path for c in stream]) for stream in ambient]
            streams = list(track(pool.map(_stream_codes, tasks), "validation ambient", total=len(tasks)))
        with replacing(path) as partial, partial.open("wb") as file:
            content = (
                {"words": np.array(words, np.int64)} | _joined("spoken", spoken) | _joined("ambient", streams)
            )
            np.savez(file, allow_pickle=False, **content)


def judged(positives: Iterable[Clip], keywords: Iterable[str]) -> list[Clip]:
    """The real recordings of each keyword; a word that has none is judged by synthetic ones."""
    keywords, positives = tuple(keywords), tuple(positives)
    said = [(clip, keyword_of(clip.label, keywords)) for clip in positives]
    real = {keyword for clip, keyword in said if clip.kind == "keyword"}
    return [clip for clip, keyword in said if clip.kind == "keyword" or keyword not in real]


def codes_of(frames: NDArray[np.float32]) -> Codes:
    """Frames in bel as they are kept, uint8 in steps of FRAME_STEP_BEL."""
    return np.clip(np.rint(frames / np.float32(FRAME_STEP_BEL)), 0, 255).astype(np.uint8)


def _stream_codes(task: tuple[FeatureSettings, list[Path]]) -> Codes:
    features, paths = task
    log_mel = LogMel(features)
    return np.concatenate([codes_of(log_mel.feed(read_audio(p, features.sample_rate_hz))) for p in paths])


def _joined(name: str, parts: list[Codes]) -> dict[str, NDArray[np.generic]]:
    offsets = np.cumsum([len(part) for part in parts])[:-1]
    return {name: np.concatenate(parts), f"{name}_offsets": offsets}


def _key(recipe: Recipe, settings: EvaluationSettings, clips: Iterable[Clip]) -> str:
    content = [
        dump(recipe.features.log_mel),
        # Channels are not played while training, and a fold only chooses among the clips.
        {k: v for k, v in dump(settings).items() if k not in ("channels", "fold")},
        [f"{c.source}/{c.path.name} {c.seconds}" for c in clips],
    ]
    return hashlib.sha256(f"validation 1 {json.dumps(content)}".encode()).hexdigest()[:16]
