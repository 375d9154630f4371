"""Kokoro (Apache-2.0), a neural synthesizer that sounds like people: two of its voices blended are a new one.

It reads phonemes, so that any voice speaks any language or accent that espeak-ng can transcribe. A second of
speech costs about a second of one core.
"""

import importlib.util
import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kws.errors import DataError, MissingExtra
from kws.voices import Audio, Voice, at_our_rate

MODEL, STYLES = "kokoro-v1.0.int8.onnx", "voices-v1.0.bin"
LICENCE = "Apache-2.0 model and voices; output free"
SPEED = (0.75, 1.35)
READING_SPEED = (0.85, 1.25)
SHARE = (0.3, 0.7)
"""Of the first of two blended voices."""
ENGLISH = ("en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-029", "en-us-nyc")
"""Accents of espeak-ng that a single word is transcribed in."""
LANGUAGES = {
    "cs": "cs", "da": "da", "de": "de", "en": "en-us en-gb", "es": "es", "fi": "fi", "fr": "fr-fr",
    "hu": "hu", "it": "it", "nb": "nb", "nl": "nl", "pl": "pl", "pt": "pt-br", "ru": "ru", "sv": "sv",
    "tr": "tr",
}  # fmt: skip
VOICES = tuple(Voice("kokoro", name, lang) for lang, names in LANGUAGES.items() for name in names.split())
"""Who reads sentences: each with a blend of its own in every file."""


@dataclass(frozen=True)
class Blend:
    """A person who does not exist."""

    name: str
    style: NDArray[np.float32]


class Kokoro:
    """The model and its voices; loaded when the first word is spoken."""

    def __init__(self, folder: Path) -> None:
        """Read the voices.

        Raises:
            MissingExtra: the package kokoro-onnx is not installed.
            DataError: the folder has no voices.
        """
        if importlib.util.find_spec("kokoro_onnx") is None:
            raise MissingExtra("kokoro-onnx", "kokoro-onnx")
        self._folder = folder
        self._model: Any = None
        self._transcribing = threading.Lock()
        try:
            with np.load(folder / STYLES) as voices:
                self._voices = dict(voices)
        except OSError as error:
            raise DataError(f"{folder} has no {STYLES}; name the folder of Kokoro's model") from error

    def blend(self, rng: random.Random) -> Blend:
        """Two voices in drawn shares."""
        first, second = rng.sample(sorted(self._voices), 2)
        share = round(rng.uniform(*SHARE), 2)
        style = self._voices[first] * np.float32(share) + self._voices[second] * np.float32(1 - share)
        return Blend(f"{first}+{second}@{share}", style)

    def say(self, text: str, blend: Blend, speed: float, accent: str) -> Audio:
        """Samples (n,) at RATE_HZ of a text, read as espeak-ng's voice `accent` would pronounce it.

        May be called from several threads: the network runs on one core in each.
        """
        with self._transcribing:  # the library espeak-ng is not made for threads
            model = self._loaded()
            phonemes = model.tokenizer.phonemize(text, accent)
        samples, rate_hz = model.create(phonemes, blend.style, speed, is_phonemes=True, trim=False)
        return at_our_rate(samples, rate_hz)

    def read(self, voice: Voice, sentences: Sequence[str], rng: random.Random) -> list[Audio]:
        """Samples of each sentence, all by one drawn blend; `voice` tells the language."""
        blend, speed = self.blend(rng), rng.uniform(*READING_SPEED)
        return [self.say(sentence, blend, speed, voice.name) for sentence in sentences]

    def _loaded(self) -> Any:
        if self._model is None:  # seconds, and not needed where every file is there already
            import onnxruntime  # noqa: PLC0415
            from kokoro_onnx import Kokoro as Synthesizer  # noqa: PLC0415

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1  # two texts at once take less time than two threads for one
            session = onnxruntime.InferenceSession(
                str(self._folder / MODEL), options, providers=["CPUExecutionProvider"]
            )
            self._model = Synthesizer.from_session(session, str(self._folder / STYLES))
        return self._model
