"""Which clips a classifier is judged by, and what each of them says.

As in the twelve classes of Speech Commands (arXiv 1804.03209): every recording of a word, and about as many
clips of other words and of silence as a word has on average. Silence is seconds cut from noise and music.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kws.audio import read_audio
from kws.corpus import Clip, keyword_of, spoken_keyword
from kws.errors import DataError
from kws.evaluate.playlist import Audio, EvaluationSettings
from kws.manifest import SILENCE, UNKNOWN

CUT_SECONDS = 1.0
"""Length of a clip without speech."""
SCARCE = 0.1
"""A word with fewer recordings than this share of the commonest one is judged on synthetic speech too."""
WORD_SECONDS = 1.5
"""Longer keyword recordings are no single words."""


@dataclass(frozen=True)
class Question:
    """One clip and the right answer."""

    clip: Clip
    label: str
    """One of the words, UNKNOWN or SILENCE."""
    cut_s: float | None = None
    """Where a second of a longer recording starts; None plays all of it."""

    @property
    def is_synthetic(self) -> bool:
        """Whether a synthesizer speaks."""
        return self.clip.kind == "synthetic"

    def samples(self, rate_hz: int) -> Audio:
        """What is played, -1..1."""
        samples = read_audio(self.clip.path, rate_hz)
        if self.cut_s is None:
            return samples
        first = round(self.cut_s * rate_hz)
        return samples[first : first + round(CUT_SECONDS * rate_hz)]


def make_questions(
    corpus: Sequence[Clip], words: Sequence[str], settings: EvaluationSettings
) -> list[Question]:
    """The clips of a corpus's split, in a fixed order.

    Synthetic speech stands in only for words that hardly anybody recorded. Other words come from the sources
    that hold real recordings of the words; silence from the noise and music of the split and from
    `noise_sources`, each source as often as another.

    Raises:
        DataError: there is no recording of a word, no other word or no noise.
    """
    clips = [clip for clip in corpus if clip.split == settings.split]
    spoken = [Question(clip, word) for clip in clips if (word := spoken_keyword(clip, words))]
    real = [question for question in spoken if not question.is_synthetic]
    counts = Counter(question.label for question in real)
    scarce = [word for word in words if counts[word] < SCARCE * max(counts.values(), default=0)]
    spoken = [q for q in spoken if q.label in scarce or not q.is_synthetic]
    missing = set(words) - {question.label for question in spoken}
    if missing or not real:
        raise DataError(
            f"no {settings.split} clip says {', '.join(sorted(missing or words))}; add recordings"
        )
    sources = {question.clip.source for question in real}
    others = [
        clip
        for clip in clips
        if clip.kind == "keyword"
        and clip.source in sources
        and clip.seconds <= WORD_SECONDS
        and not keyword_of(clip.label, words)
    ]
    noise = [clip for clip in clips if clip.kind in ("noise", "music")]
    noise += [c for c in corpus if c.source in settings.noise_sources and c not in noise]
    if not others or not noise:
        raise DataError(f"the {settings.split} split needs other words and noise beside the words; add some")
    rng = np.random.default_rng(settings.seed)
    count = round(float(np.mean([counts[word] for word in words if word not in scarce])))
    chosen = sorted(rng.permutation(len(others))[:count].tolist())
    return [
        *spoken,
        *(Question(others[i], UNKNOWN) for i in chosen),
        *(_silence(noise, number, rng) for number in range(count)),
    ]


def _silence(noise: list[Clip], number: int, rng: np.random.Generator) -> Question:
    sources = sorted({clip.source for clip in noise})
    clips = [clip for clip in noise if clip.source == sources[number % len(sources)]]
    clip = clips[int(rng.integers(len(clips)))]
    return Question(clip, SILENCE, float(rng.uniform(0, max(0.0, clip.seconds - CUT_SECONDS))))
