"""Drawing training windows: which recordings, cut how, placed where.

Every window is dry speech (or none) and a background, equally long; `kws.train.augment` joins them. Words
are cropped to their sound first: recordings whose speech is pasted between silence or dither would otherwise
teach the network the edges of the paste.
"""

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from kws.corpus import bare_keyword_of, mentions, spoken_keyword
from kws.errors import DataError
from kws.train.library import Library
from kws.train.recipe import Recipe

T = TypeVar("T")
Audio = NDArray[np.float32]
NEGATIVE = -1
"""Keyword index of a window without a keyword."""
BABBLE_VOICES = (3, 6)
"""Fewest and most voices at once in babble noise."""
ENOUGH_SPEAKERS = 40
"""With fewer people who say a keyword, its real recordings come less often: by the root of the share."""
UTTERANCE_SECONDS = (0.3, 1.6)
"""Shortest and longest of the few words that come alone."""
SEARCHED = 15
"""Stretches of 20 ms of which the quietest is where an utterance is cut."""
FADE_SAMPLES = 80
"""5 ms at each cut, so that no cut clicks."""


@dataclass(frozen=True)
class Window:
    """One training window before augmentation."""

    speech: Audio
    """Dry foreground, (n,), -1..1."""
    background: Audio
    """Noise, music or babble, (n,)."""
    keyword: int
    """Index of the keyword that is spoken, or NEGATIVE."""
    word_start: int
    """Sample at which the word starts (0 for negatives)."""
    word_end: int
    """Sample at which the word has ended (0 for negatives)."""


class WindowSampler:
    """Draws windows from the training clips of a library."""

    def __init__(self, library: Library, recipe: Recipe) -> None:
        self.library, self.recipe = library, recipe
        self._samples = recipe.window_samples
        self._rate_hz = recipe.features.sample_rate_hz
        self._stillness = self._rate_hz // 50
        # keyword -> real or synthetic -> speaker -> recording -> clip indices
        self._positives: dict[int, dict[bool, dict[str, dict[str, list[int]]]]] = defaultdict(
            lambda: defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
        )
        self._pools: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for index in range(len(library)):
            if len(library.samples(index)):
                self._sort(index)
        for k, keyword in enumerate(recipe.words):
            if not self._positives.get(k):
                raise DataError(f"no training clip says {keyword!r}; add recordings or change keywords")
        for pool in ("speech", "ambient"):
            if not self._pools.get(pool):
                raise DataError(f"the corpus has no {pool} clips to train against; add some")
        self._weights = {
            kind: _shares([sum(library.clips[i].seconds for i in rows) for rows in sources.values()])
            for kind, sources in self._pools.items()
        }

    def _sort(self, index: int) -> None:
        clip = self.library.clips[index]
        keyword = spoken_keyword(clip, self.recipe.words)
        if keyword is not None:
            real = clip.kind == "keyword"
            recording = clip.recording or str(index)
            k = self.recipe.words.index(keyword)
            self._positives[k][real][f"{clip.source}/{clip.speaker}"][recording].append(index)
            return
        # No negatives either: words beside the keyword, or the keyword without its "hey". Real voices that
        # say "jarvis" against synthetic "hey jarvis" would teach what a synthesizer sounds like.
        if mentions(clip, self.recipe.keywords) or bare_keyword_of(clip.label, self.recipe.keywords):
            return
        if clip.kind in ("noise", "music"):
            self._pools["ambient"][clip.source].append(index)
        elif clip.kind == "synthetic" and clip.label:
            self._pools["near"][clip.source].append(index)
        elif clip.kind == "keyword" or clip.seconds <= 1.0:
            self._pools["words"][clip.source].append(index)
        elif clip.kind in ("speech", "synthetic"):
            self._pools[clip.kind][clip.source].append(index)

    def positive(self, keyword: int, rng: np.random.Generator) -> Window:
        """A window in which `keyword` (index) ends with room after it for the score to rise."""
        speech = np.zeros(self._samples, np.float32)
        end = self._samples - int(rng.uniform(0.4, 0.9) * self._rate_hz)
        word = self._word(self._positive_clip(keyword, rng))[-end:]
        start = end - len(word)
        speech[start:end] = word
        if rng.random() < self.recipe.data.context_share:
            gap = int(rng.uniform(0.02, 0.3) * self._rate_hz)
            level = _rms(word) * 10 ** (rng.uniform(-6, 3) / 20)
            if rng.random() < 0.7:  # a command follows
                _paste(speech, self._stretch("speech", rng, self._samples), end + gap, level)
            else:  # somebody was talking before
                before = self._stretch("speech", rng, max(0, start - gap))
                _paste(speech, before, 0, level)
        return Window(speech, self._background(rng), keyword, start, end)

    def negative(self, rng: np.random.Generator) -> Window:
        """A window without a keyword, of a kind drawn by `negative_shares`."""
        kind = self._negative_kind(rng)
        speech = np.zeros(self._samples, np.float32)
        if kind == "partial":
            speech = self._partial(rng)
        elif kind != "ambient" and rng.random() < self.recipe.data.alone_share:
            speech = self._utterance(kind, rng)
        elif kind != "ambient":
            speech = self._stretch(kind, rng, self._samples)
        return Window(speech, self._background(rng), NEGATIVE, 0, 0)

    def _utterance(self, kind: str, rng: np.random.Generator) -> Audio:
        """A few words with a pause before them and mostly after them too, cut where it is quiet.

        Keywords come like that. Where other speech only comes in an endless stream, a network takes every
        first word after a pause for half a keyword.
        """
        speech = np.zeros(self._samples, np.float32)
        start = int(rng.uniform(0.05, 0.7) * self._samples)
        count = int(rng.uniform(*UTTERANCE_SECONDS) * self._rate_hz)
        samples = self.library.word(self._clip(kind, rng))
        first, latest = 0, len(samples) - count - SEARCHED * self._stillness
        if latest > 0 and rng.random() < 0.7:  # else as the recording begins
            first = self._quietest(samples, int(rng.integers(latest)))
        last = self._quietest(samples, first + count)
        piece = _fade(_float(samples[first:last]))[: self._samples - start]
        speech[start : start + len(piece)] = piece
        return speech

    def _quietest(self, samples: NDArray[np.int16], first: int) -> int:
        """Start of the quietest 20 ms in the 300 ms from sample `first` on; the end, if that is nearer."""
        near = _float(samples[first : first + SEARCHED * self._stillness])
        if len(near) < SEARCHED * self._stillness:
            return len(samples)
        return first + self._stillness * int(np.square(near).reshape(SEARCHED, -1).mean(1).argmin())

    def _partial(self, rng: np.random.Generator) -> Audio:
        """Half a keyword: its beginning, or its end, alone or with other speech in the place of the rest.

        It takes all of a word to wake: a network that has only met whole words may listen for a part of it.
        """
        speech = np.zeros(self._samples, np.float32)
        word = self._word(self._positive_clip(int(rng.integers(len(self.recipe.words))), rng))
        cut = int(len(word) * rng.uniform(0.35, 0.6))
        is_beginning = rng.random() < 0.5
        part = _fade(word[:cut] if is_beginning else word[cut:])
        start = int(rng.uniform(0.3, 0.6) * self._samples)
        level = _rms(part)
        _paste(speech, part, start, level)
        if rng.random() < 0.7:
            if is_beginning:
                rest = self._stretch("speech", rng, max(0, self._samples - start - len(part)))
                _paste(speech, rest, start + len(part), level)
            else:
                _paste(speech, self._stretch("speech", rng, start), 0, level)
        return speech

    @property
    def negative_clips(self) -> list[int]:
        """Index of every clip that running speech, single words and background are drawn from."""
        kinds = ("speech", "synthetic", "words", "ambient")
        return sorted(i for kind in kinds for clips in self._pools.get(kind, {}).values() for i in clips)

    def around(self, clip: int, sample: int, rng: np.random.Generator) -> Window:
        """A window without a keyword in which `sample` of clip `clip` lies where a word would end."""
        end = self._samples - int(rng.uniform(0.4, 0.9) * self._rate_hz)
        source = self.library.samples(clip)
        first = max(0, sample - end)
        piece = _fade(_float(source[first : sample - end + self._samples]))
        heard = np.zeros(self._samples, np.float32)
        start = first - (sample - end)
        heard[start : start + len(piece)] = piece
        if self.library.clips[clip].kind in ("noise", "music"):
            return Window(np.zeros_like(heard), heard, NEGATIVE, 0, 0)
        return Window(heard, self._background(rng), NEGATIVE, 0, 0)

    def _negative_kind(self, rng: np.random.Generator) -> str:
        """One of the kinds in `negative_shares` that the corpus has."""
        shares = {
            kind: share
            for kind, share in self.recipe.data.negative_shares.items()
            if kind == "partial" or self._pools.get(kind)
        }
        weights = np.array(list(shares.values()))
        return str(rng.choice(list(shares), p=weights / weights.sum()))

    def _real_share(self, keyword: int) -> float:
        """Less than the recipe's share for a word that few people recorded: it would learn them by heart."""
        speakers = len(self._positives[keyword].get(True, ()))
        return self.recipe.data.real_share * min(1.0, math.sqrt(speakers / ENOUGH_SPEAKERS))

    def _positive_clip(self, keyword: int, rng: np.random.Generator) -> int:
        kinds = self._positives[keyword]
        real = rng.random() < self._real_share(keyword)
        speakers = kinds[real if kinds.get(real) else not real]
        # Speakers evenly, so that a contributor of twenty recordings does not outweigh twenty contributors.
        recordings = _pick(list(speakers.values()), rng)
        return _pick(_pick(list(recordings.values()), rng), rng)

    def _word(self, index: int) -> Audio:
        margin = FADE_SAMPLES
        start, end = self.library.span(index)
        samples = self.library.samples(index)
        return _fade(_float(samples[max(0, start - margin) : end + margin]))

    def _stretch(self, kind: str, rng: np.random.Generator, count: int) -> Audio:
        """`count` samples of one kind of clip, cut from a random place and joined until full."""
        out = np.zeros(count, np.float32)
        position = 0
        while position < count:
            index = self._clip(kind, rng)
            piece = _float(self.library.word(index))
            longest = count - position
            if len(piece) > 1.5 * self._rate_hz and kind in ("speech", "synthetic", "ambient"):
                start = int(rng.integers(max(1, len(piece) - self._rate_hz)))
                piece = piece[start:]
            piece = _fade(piece[:longest])
            out[position : position + len(piece)] = piece
            gap_seconds = 0 if kind == "ambient" else rng.exponential(0.12)
            position += max(len(piece), 160) + int(gap_seconds * self._rate_hz)
        return out

    def _clip(self, kind: str, rng: np.random.Generator) -> int:
        sources = self._pools[kind]
        source = rng.choice(len(sources), p=self._weights[kind])
        return _pick(list(sources.values())[source], rng)

    def _background(self, rng: np.random.Generator) -> Audio:
        if rng.random() < 0.7:
            return self._stretch("ambient", rng, self._samples)
        voices = rng.integers(*BABBLE_VOICES, endpoint=True)
        babble = np.zeros(self._samples, np.float32)
        for _ in range(voices):
            voice = self._stretch("speech", rng, self._samples)
            babble += voice / max(_rms(voice), 1e-4)
        return babble


def _shares(seconds: list[float]) -> NDArray[np.float64]:
    """Chance of each source: by the root of its length, so that a small one is heard too."""
    weights = np.sqrt(seconds)
    shares: NDArray[np.float64] = weights / weights.sum()
    return shares


def _pick(items: list[T], rng: np.random.Generator) -> T:
    return items[int(rng.integers(len(items)))]


def _float(samples: NDArray[np.int16]) -> Audio:
    return samples.astype(np.float32) / np.float32(32768)


def _rms(samples: Audio) -> float:
    return float(np.sqrt(np.mean(np.square(samples)))) if len(samples) else 0.0


def _fade(samples: Audio) -> Audio:
    count = min(FADE_SAMPLES, len(samples) // 2)
    if count:
        ramp = np.linspace(0, 1, count, dtype=np.float32)
        samples[:count] *= ramp
        samples[-count:] *= ramp[::-1]
    return samples


def _paste(target: Audio, piece: Audio, start: int, level: float) -> None:
    """Add `piece` to `target` from sample `start`, scaled to an RMS of `level`; what sticks out is cut."""
    piece = piece[: max(0, len(target) - start)]
    if len(piece):
        target[start : start + len(piece)] += piece * (level / max(_rms(piece), 1e-4))
