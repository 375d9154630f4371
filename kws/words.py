"""Words spoken by synthesizers: recordings of a word that nobody has recorded yet (`kws corpus words`).

Kokoro (Apache-2.0), a neural voice, sounds like people; two of its voices blended are a new one. espeak-ng is
a robot, but speaks with any pitch and at any speed. A file is a function of its word and number, and those
that are there are kept: a run that was interrupted goes on.
"""

import io
import random
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import soundfile

from kws.audio import duration_s
from kws.corpus import Row, row_of, write_manifest
from kws.files import replacing
from kws.kokoro import ENGLISH, LICENCE, SPEED, Kokoro
from kws.voices import RATE_HZ, Audio, Voice, at_our_rate, run_engine

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


def build(
    destination: Path, words: Iterable[str], takes: int, robot_takes: int, *, kokoro: Path | None, jobs: int
) -> Iterator[str]:
    """Speak each word often, each time with another voice; yields a line for each synthesizer.

    Args:
        destination: Folder of the corpus; made when missing, its manifest is replaced at the end.
        words: What to say; each becomes the label of its recordings.
        takes: Recordings of each word by Kokoro.
        robot_takes: Recordings of each word by espeak-ng.
        kokoro: Folder of Kokoro's model and voices; None leaves Kokoro out.
        jobs: Words spoken at once.

    Raises:
        MissingExtra: `kokoro` is given, but the package kokoro-onnx is not installed.
        DataError: a synthesizer or its model is missing.
    """
    words, rows = list(words), list[Row]()
    speakers: dict[str, tuple[Speak, str, int]] = {
        "espeak_words": (espeak, "output of espeak-ng, free", robot_takes)
    }
    if kokoro:
        speakers["kokoro_words"] = KokoroWords(kokoro), LICENCE, takes
    for source, (speak, licence, count) in speakers.items():
        # Words in turn: what an interrupted run leaves is balanced.
        spoken = [(word, take) for take in range(count) for word in words]
        record = partial(_row, destination, source, speak=speak, licence=licence)
        with ThreadPoolExecutor(jobs) as pool:
            rows += pool.map(record, *zip(*spoken, strict=True)) if spoken else ()
        yield f"{source}: {len(spoken)} recordings"
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
        spoken = run_engine(command, Voice("espeak-ng", voice, "en"))
        return at_our_rate(*soundfile.read(io.BytesIO(spoken), dtype="float32"))

    return f"{voice}@{pitch}", synthesise


class KokoroWords:
    """Kokoro saying single words, each with another blend."""

    def __init__(self, folder: Path) -> None:
        self._kokoro = Kokoro(folder)

    def __call__(self, word: str, rng: random.Random) -> tuple[str, Callable[[], Audio]]:
        """A drawn blend, speed, melody and accent."""
        blend, speed = self._kokoro.blend(rng), rng.uniform(*SPEED)
        text, accent = rng.choice(SENTENCES).format(word.capitalize()), rng.choice(ENGLISH)
        return blend.name, lambda: self._kokoro.say(text, blend, speed, accent)


def _row(root: Path, source: str, word: str, take: int, *, speak: Speak, licence: str) -> Row:
    target = root / source / word.replace(" ", "_") / f"{take:05d}.flac"
    rng = random.Random(f"{source} {word} {take}")  # noqa: S311 - reproducible on purpose
    voice, synthesise = speak(word, rng)
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as unfinished:
            soundfile.write(unfinished, synthesise(), RATE_HZ, format="FLAC")
    return row_of(
        target,
        root,
        duration_s(target),
        label=word,
        kind="synthetic",
        speaker=voice,
        split="train",
        lang="en",
        licence=licence,
    )
