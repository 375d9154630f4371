"""Words spoken by synthesizers: recordings of a word that nobody has recorded yet (`kws corpus words`).

Kokoro (Apache-2.0), a neural voice, sounds like people; two of its voices blended are a new one. espeak-ng is
a robot, but speaks with any pitch and at any speed. A file is a function of its word and number, and those
that are there are kept: a run that was interrupted goes on.
"""

import importlib.util
import io
import random
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from kws.corpus import write_manifest
from kws.errors import DataError, MissingExtra

Audio = NDArray[np.float32]
RATE_HZ = 16_000
KOKORO_MODEL, KOKORO_VOICES = "kokoro-v1.0.int8.onnx", "voices-v1.0.bin"
KOKORO_SPEED = (0.75, 1.35)
ESPEAK_VOICES = ("en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbcwmd", "en-us-nyc", "en-029")
ESPEAK_VARIANTS = (
    "",
    *(f"+m{i}" for i in range(1, 9)),
    *(f"+f{i}" for i in range(1, 6)),
    "+klatt2",
    "+klatt4",
)
ESPEAK_WPM = (100, 230)
ESPEAK_PITCH = (5, 99)
SENTENCES = ("{}.", "{}!", "{}?")
"""How the word is punctuated, so that it is said in more than one melody."""


def build(destination: Path, words: Iterable[str], takes: int, kokoro: Path | None) -> Iterator[str]:
    """Speak each word `takes` times with each synthesizer; yields a line for each of them.

    Args:
        destination: Folder of the corpus; made when missing, its manifest is replaced at the end.
        words: What to say; each becomes the label of its recordings.
        takes: Recordings of each word, each with another voice.
        kokoro: Folder of Kokoro's model and voices; None leaves Kokoro out.

    Raises:
        MissingExtra: `kokoro` is given, but the package kokoro-onnx is not installed.
        DataError: a synthesizer or its model is missing.
    """
    words, rows = list(words), []
    speakers: dict[str, tuple[Speak, str]] = {"espeak_words": (espeak, "output of espeak-ng, free")}
    if kokoro:
        speakers["kokoro_words"] = Kokoro(kokoro), "Apache-2.0 model and voices; output free"
    for source, (speak, licence) in speakers.items():
        for take in range(takes):  # words in turn: what an interrupted run leaves is balanced
            rows += [_row(destination, source, word, take, speak=speak, licence=licence) for word in words]
        yield f"{source}: {takes * len(words)} recordings"
    write_manifest(destination, rows)


Speak = Callable[[str, random.Random], tuple[str, Callable[[], Audio]]]
"""A word and random numbers to the voice's name and the synthesis itself."""


def espeak(word: str, rng: random.Random) -> tuple[str, Callable[[], Audio]]:
    """A voice of espeak-ng with a drawn accent, throat, speed and pitch."""
    voice = rng.choice(ESPEAK_VOICES) + rng.choice(ESPEAK_VARIANTS)
    speed, pitch = str(rng.randint(*ESPEAK_WPM)), str(rng.randint(*ESPEAK_PITCH))
    command = ["espeak-ng", "--stdout", "-v", voice, "-s", speed, "-p", pitch]
    command.append(rng.choice(SENTENCES).format(word))

    def synthesise() -> Audio:
        try:
            done = subprocess.run(command, check=True, capture_output=True)
        except FileNotFoundError as error:
            raise DataError("espeak-ng is not installed; run: apt-get install espeak-ng") from error
        except subprocess.CalledProcessError as error:
            raise DataError(f"{' '.join(command)} failed; try it by hand") from error
        return _at_our_rate(*soundfile.read(io.BytesIO(done.stdout), dtype="float32"))

    return f"{voice}@{pitch}", synthesise


class Kokoro:
    """Two of Kokoro's voices, blended."""

    def __init__(self, folder: Path) -> None:
        if importlib.util.find_spec("kokoro_onnx") is None:
            raise MissingExtra("kokoro-onnx", "kokoro-onnx")
        self._folder = folder
        self._model: Any = None
        try:
            with np.load(folder / KOKORO_VOICES) as voices:
                self._voices = dict(voices)
        except OSError as error:
            raise DataError(f"{folder} has no {KOKORO_VOICES}; name the folder of Kokoro's model") from error

    def __call__(self, word: str, rng: random.Random) -> tuple[str, Callable[[], Audio]]:
        """A drawn blend, speed and melody."""
        first, second = rng.sample(sorted(self._voices), 2)
        share, speed = round(rng.uniform(0.3, 0.7), 2), rng.uniform(*KOKORO_SPEED)
        text = rng.choice(SENTENCES).format(word.capitalize())
        blend = self._voices[first] * np.float32(share) + self._voices[second] * np.float32(1 - share)
        return f"{first}+{second}@{share}", lambda: self._say(text, blend, speed)

    def _say(self, text: str, blend: NDArray[np.float32], speed: float) -> Audio:
        if self._model is None:  # seconds, and not needed where every file is there already
            import onnxruntime  # noqa: PLC0415
            from kokoro_onnx import Kokoro as Synthesizer  # noqa: PLC0415

            session = onnxruntime.InferenceSession(
                str(self._folder / KOKORO_MODEL), providers=["CPUExecutionProvider"]
            )
            self._model = Synthesizer.from_session(session, str(self._folder / KOKORO_VOICES))
        return _at_our_rate(*self._model.create(text, voice=blend, speed=speed, lang="en-us", trim=False))


def _row(root: Path, source: str, word: str, take: int, *, speak: Speak, licence: str) -> dict[str, str]:
    relative = Path(source, word.replace(" ", "_"), f"{take:05d}.flac")
    target = root / relative
    rng = random.Random(f"{source} {word} {take}")  # noqa: S311 - reproducible on purpose
    voice, synthesise = speak(word, rng)
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(target, synthesise(), RATE_HZ)
    return {
        "path": relative.as_posix(),
        "label": word,
        "kind": "synthetic",
        "speaker": voice,
        "seconds": f"{soundfile.info(str(target)).duration:.3f}",
        "split": "train",
        "lang": "en",
        "licence": licence,
    }


def _at_our_rate(samples: Audio, rate_hz: int) -> Audio:
    resampled: Audio = np.clip(soxr.resample(samples, rate_hz, RATE_HZ), -1, 1)
    return resampled
