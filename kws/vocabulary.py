"""What people say: frequent words of forty languages, without those that sound like a keyword."""

import random
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

from kws.errors import MissingExtra
from kws.voices import VOICES, pronunciations

FREQUENT_WORDS = 4000
"""Of each language: these make up nine tenths of what people say."""
WORDS_PER_SENTENCE = (1, 9)
SHORTEST_SKELETON = 4
"""Fewer consonants say too little: such a keyword is only looked for in the spelling."""
SAME_CONSONANT = str.maketrans(
    {"ɾ": "t", "ɹ": "r", "ʀ": "r", "ʁ": "r", "q": "k", "c": "k", "ɡ": "g", "ʋ": "v"}
)
VOWELS = "aeiouyæɐɑɒɔəɘɚɛɜɝɞɤɨɪɯɵøœɶʉʊʌʏjw"


@dataclass(frozen=True)
class Vocabulary:
    """Words of one language and how often each is drawn."""

    words: tuple[str, ...]
    cumulative_weights: tuple[float, ...]

    def sentence(self, rng: random.Random) -> str:
        """A few words with commas in between, as a statement or a question."""
        count = rng.randint(*WORDS_PER_SENTENCE)
        words = rng.choices(self.words, cum_weights=self.cumulative_weights, k=count)
        marked = [word + ("," if rng.random() < 0.15 else "") for word in words[:-1]]
        return " ".join([*marked, words[-1] + rng.choice(".....?!")])


def vocabulary(lang: str, forbidden: Iterable[str]) -> Vocabulary:
    """Frequent words of a language; none that sounds like one of the `forbidden` English phrases.

    The weight is the root of the frequency: the commonest words would otherwise leave no room for the rest.

    Raises:
        DataError: espeak-ng, which says how a word sounds, is not installed.
        MissingExtra: wordfreq is not installed.
    """
    try:
        import wordfreq  # noqa: PLC0415 (loads its tables)
    except ImportError as error:
        raise MissingExtra("wordfreq", "train") from error
    speakers = {voice.lang: voice for voice in reversed(VOICES["espeak-ng"])}
    frequencies = wordfreq.get_frequency_dict(lang)
    listed = [w for w in wordfreq.top_n_list(lang, FREQUENT_WORDS) if _is_word(w)]
    keywords = [phrase.split()[-1] for phrase in forbidden]
    avoided = {
        k: skeleton(ipa) for k, ipa in zip(keywords, pronunciations(speakers["en"], keywords), strict=True)
    }
    sounds = map(skeleton, pronunciations(speakers[lang], listed))
    words = [
        word
        for word, sound in zip(listed, sounds, strict=True)
        if not any(_says(word, sound, *keyword) for keyword in avoided.items())
    ]
    weights = accumulate(frequencies[word] ** 0.5 for word in words)
    return Vocabulary(tuple(words), tuple(weights))


def skeleton(ipa: str) -> str:
    """The consonants of a pronunciation.

    "computer", "Komputer" and "компьютер" differ in their vowels and in the r that many people drop.
    """
    plain = "".join(c for c in unicodedata.normalize("NFD", ipa) if unicodedata.category(c) in ("Ll", "Lo"))
    return "".join(c for c in plain.translate(SAME_CONSONANT) if c not in VOWELS).rstrip("r")


def _says(word: str, sound: str, keyword: str, avoided: str) -> bool:
    """Whether a word holds a keyword, by its spelling or, where it has enough of them, its consonants."""
    return keyword in word or (len(avoided) >= SHORTEST_SKELETON and avoided in sound)


def _is_word(word: str) -> bool:
    return all(unicodedata.category(c)[0] in "LM" for c in word)
