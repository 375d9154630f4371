"""Drawing training windows for a classifier: a clip of about a second somewhere between silences.

Beside the words there are two classes. What is said but is none of the words is UNKNOWN; a window in which
nobody speaks is NEGATIVE, which the network answers with no output at all.
"""

from collections import defaultdict

import numpy as np

from kws.manifest import UNKNOWN
from kws.train.library import Library
from kws.train.recipe import Recipe
from kws.train.windows import NEGATIVE, Audio, Window, WindowSampler

CLIP_SECONDS = 1.0
MARGIN_SECONDS = 0.1
"""Of the window before and after the clip, at least."""
TRIM_PROBABILITY = 0.3
"""Chance that some of the clip before and after the word is cut away."""
ENOUGH_SPEAKERS = 100
"""With fewer people who say a word, real recordings of it are drawn less often: each would come too often."""
PURE_SILENCE = 0.1
"""Share of the windows without speech that hold only the hiss of the microphone."""


class ClipSampler(WindowSampler):
    """Draws windows of clips from the training clips of a library."""

    def __init__(self, library: Library, recipe: Recipe) -> None:
        super().__init__(library, recipe)
        self._unknown = recipe.keywords.index(UNKNOWN)
        self._clip_samples = round(CLIP_SECONDS * self._rate_hz)
        by_label: dict[str, list[int]] = defaultdict(list)
        for clips in self._pools["words"].values():
            for index in clips:
                by_label[library.clips[index].label].append(index)
        self._other_words = list(by_label.values())
        # By the root of their number: a word with nine recordings is heard too, but less than one with 500.
        roots = np.sqrt([len(clips) for clips in self._other_words])
        self._other_weights = roots / roots.sum()

    def positive(self, keyword: int, rng: np.random.Generator) -> Window:
        """A window with one of the words; `keyword` is its index."""
        return self._window(self._recording(self._positive_clip(keyword, rng), rng), keyword, rng)

    def negative(self, rng: np.random.Generator) -> Window:
        """A window with other speech, or with none, of a kind drawn by `negative_shares`."""
        kind = self._negative_kind(rng)
        if kind == "ambient":
            window = self._window(np.zeros(0, np.float32), NEGATIVE, rng)
            if rng.random() < PURE_SILENCE:
                window.background[:] = 0
            return window
        if kind == "words":
            label = int(rng.choice(len(self._other_words), p=self._other_weights))
            clips = self._other_words[label]
            clip = self._recording(clips[int(rng.integers(len(clips)))], rng)
        elif kind == "partial":
            keyword = int(rng.integers(len(self.recipe.words)))
            word = self._word(self._positive_clip(keyword, rng))
            part = int(len(word) * rng.uniform(0.25, 0.45))
            clip = self._padded(word[:part] if rng.random() < 0.5 else word[-part:], rng)
        elif kind == "near":
            clip = self._padded(self._word(self._clip("near", rng)), rng)
        else:
            clip = self._stretch(kind, rng, self._clip_samples)
        return self._window(clip, self._unknown, rng)

    def _real_share(self, keyword: int) -> float:
        """Less than the recipe's share for a word that few people recorded: each would come too often."""
        speakers = len(self._positives[keyword].get(True, ()))
        return self.recipe.data.real_share * min(1.0, speakers / ENOUGH_SPEAKERS)

    def _recording(self, index: int, rng: np.random.Generator) -> Audio:
        """A recording as it is, or with some of what surrounds the word cut away; a synthetic one padded."""
        if self.library.clips[index].kind == "synthetic":
            return self._padded(self._word(index), rng)
        samples = self.library.samples(index)[: self._samples].astype(np.float32) / np.float32(32768)
        if rng.random() < TRIM_PROBABILITY:
            start, end = self.library.span(index)
            first = int(rng.uniform(0, 1) * start)
            last = int(rng.uniform(min(end, len(samples)), len(samples) + 1))
            samples = samples[first:last]
        return samples

    def _padded(self, word: Audio, rng: np.random.Generator) -> Audio:
        """The word at a random place of a clip of the usual length."""
        word = word[: self._clip_samples]
        clip = np.zeros(self._clip_samples, np.float32)
        start = int(rng.integers(len(clip) - len(word) + 1))
        clip[start : start + len(word)] = word
        return clip

    def _window(self, clip: Audio, label: int, rng: np.random.Generator) -> Window:
        """`clip` at a random place; its ends are what a cut of the window spares."""
        speech = np.zeros(self._samples, np.float32)
        margin = round(MARGIN_SECONDS * self._rate_hz)
        clip = clip[: self._samples - 2 * margin]
        start = int(rng.integers(margin, self._samples - margin - len(clip) + 1))
        speech[start : start + len(clip)] = clip
        end = start + len(clip) if len(clip) else 0
        return Window(speech, self._background(rng), label, start if end else 0, end)
