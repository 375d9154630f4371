"""Speech synthesizers from Debian packages: text in, samples out. Robots, but hundreds of hours cost an hour.

Their output is free to use. Each engine is a program of its own and gets many sentences at once, because
starting it is what costs.
"""

import random
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from kws.errors import DataError

RATE_HZ = 16_000
TIMBRE = (0.87, 1.18)
"""Playback speed: one voice becomes several people, of other pitch and size."""
TIME_OUT_S = 300
WORDS_AT_ONCE = 100

Audio = NDArray[np.float32]


@dataclass(frozen=True)
class Voice:
    """One voice of one engine, and the language whose words it reads."""

    engine: str
    name: str
    lang: str
    """ISO 639 code, as `wordfreq` writes it."""
    encoding: str = "utf-8"
    """What the engine wants its text in."""


ESPEAK_LANGUAGES = {
    "ar": "ar", "bg": "bg", "bn": "bn", "ca": "ca", "cs": "cs", "da": "da", "de": "de", "el": "el",
    "en": "en-us en-gb en-gb-scotland en-us-nyc en-029", "es": "es es-419", "fa": "fa", "fi": "fi",
    "fr": "fr-fr fr-be", "he": "he", "hi": "hi", "hu": "hu", "id": "id", "is": "is", "it": "it", "ko": "ko",
    "lt": "lt", "lv": "lv", "mk": "mk", "ms": "ms", "nb": "nb", "nl": "nl af", "pl": "pl", "pt": "pt pt-br",
    "ro": "ro", "ru": "ru", "sh": "hr sr bs", "sk": "sk", "sl": "sl", "sv": "sv", "ta": "ta", "tr": "tr",
    "uk": "uk", "ur": "ur", "vi": "vi", "zh": "cmn",
}  # fmt: skip
ESPEAK_VARIANTS = ("", "+m1", "+m3", "+m5", "+m7", "+f1", "+f2", "+f3", "+f4", "+f5", "+croak", "+klatt2")
VOICES = {
    "espeak-ng": tuple(
        Voice("espeak-ng", name, lang) for lang, names in ESPEAK_LANGUAGES.items() for name in names.split()
    ),
    "festival": (
        Voice("festival", "kal_diphone", "en", "latin-1"),
        Voice("festival", "ked_diphone", "en", "latin-1"),
        Voice("festival", "cmu_us_slt_arctic_hts", "en", "latin-1"),
        Voice("festival", "czech_dita", "cs", "iso8859-2"),
        Voice("festival", "czech_krb", "cs", "iso8859-2"),
        Voice("festival", "czech_machac", "cs", "iso8859-2"),
        Voice("festival", "czech_ph", "cs", "iso8859-2"),
        Voice("festival", "suo_fi_lj_diphone", "fi", "latin-1"),
        Voice("festival", "hy_fi_mv_diphone", "fi", "latin-1"),
        Voice("festival", "lp_diphone", "it", "latin-1"),
        Voice("festival", "pc_diphone", "it", "latin-1"),
        Voice("festival", "upc_ca_ona_hts", "ca", "latin-1"),
        Voice("festival", "msu_ru_nsh_clunits", "ru"),
        Voice("festival", "hindi_NSK_diphone", "hi"),
    ),
    "flite": tuple(Voice("flite", name, "en") for name in ("kal16", "awb", "rms", "slt")),
    "pico2wave": tuple(
        Voice("pico2wave", name, name[:2]) for name in ("de-DE", "en-GB", "en-US", "es-ES", "fr-FR", "it-IT")
    ),
}
"""Engine -> its voices."""
PACKAGES = {
    "espeak-ng": "espeak-ng",
    "festival": "festival festvox-kallpc16k festvox-kdlpc16k festvox-us-slt-hts festival-czech "
    "festvox-czech-dita festvox-czech-krb festvox-czech-machac festvox-czech-ph festvox-suopuhe-lj "
    "festvox-suopuhe-mv festvox-italp16k festvox-itapc16k festival-ca festvox-ca-ona-hts festvox-ru "
    "festival-hi festvox-hi-nsk",
    "flite": "flite",
    "pico2wave": "libttspico-utils (of the section non-free: its voices come without sources)",
}
"""Engine -> Debian packages."""


def say(voice: Voice, sentences: Sequence[str], rng: random.Random) -> list[Audio]:
    """Samples (n,) at RATE_HZ of the sentences, in one or several pieces, without what it cannot read.

    Raises:
        DataError: the engine is not installed, or it failed; names the package.
    """
    with tempfile.TemporaryDirectory() as folder:
        _ENGINES[voice.engine](voice, sentences, rng, Path(folder))
        timbre = rng.uniform(*TIMBRE)
        spoken = [_read(path, timbre) for path in sorted(Path(folder).glob("*.wav"))]
    return [samples for samples in spoken if len(samples) > RATE_HZ // 5]


def at_our_rate(samples: Audio, rate_hz: float) -> Audio:
    """Samples (n,) at RATE_HZ within -1..1."""
    resampled: Audio = np.clip(soxr.resample(samples, rate_hz, RATE_HZ), -1, 1)
    return resampled


def pronunciations(voice: Voice, words: Sequence[str]) -> list[str]:
    """The sounds of each word in the International Phonetic Alphabet, by espeak-ng."""
    command = ["espeak-ng", "-q", "--ipa", "-v", voice.name]
    found: list[str] = []
    for first in range(0, len(words), WORDS_AT_ONCE):
        part = words[first : first + WORDS_AT_ONCE]
        lines = run_engine(command, voice, "\n".join(part).encode()).decode().splitlines()
        if len(lines) != len(part):  # one of them is read as two sentences, or not at all
            lines = [" ".join(run_engine([*command, word], voice).decode().split()) for word in part]
        found += lines
    return found


def _espeak(voice: Voice, sentences: Sequence[str], rng: random.Random, folder: Path) -> None:
    variant = rng.choice(ESPEAK_VARIANTS)
    speed, pitch = str(rng.randint(120, 240)), str(rng.randint(10, 90))
    options = ["-v", voice.name + variant, "-s", speed, "-p", pitch]
    run_engine(["espeak-ng", "-w", _wav(folder, 0), *options, "\n".join(sentences)], voice)


def _flite(voice: Voice, sentences: Sequence[str], rng: random.Random, folder: Path) -> None:
    stretch = f"duration_stretch={rng.uniform(0.8, 1.2):.2f}"
    pitch = f"int_f0_target_mean={rng.randint(85, 190)}"
    options = ["-voice", voice.name, "--setf", stretch, "--setf", pitch]
    run_engine(["flite", *options, "-t", " ".join(sentences), "-o", _wav(folder, 0)], voice)


def _pico(voice: Voice, sentences: Sequence[str], rng: random.Random, folder: Path) -> None:
    speed, pitch = rng.randint(80, 140), rng.randint(70, 140)
    marked = f"<speed level='{speed}'><pitch level='{pitch}'>{' '.join(sentences)}</pitch></speed>"
    run_engine(["pico2wave", "-l", voice.name, "-w", _wav(folder, 0), marked], voice)


def _festival(voice: Voice, sentences: Sequence[str], rng: random.Random, folder: Path) -> None:
    script = [f"(voice_{voice.name})", f"(Parameter.set 'Duration_Stretch {rng.uniform(0.8, 1.25):.2f})"]
    for number, text in enumerate(sentences):
        quoted = text.replace("\\", " ").replace('"', " ")
        script.append(f'(utt.save.wave (SynthText "{quoted}") "{_wav(folder, number)}" \'riff)')
    try:
        run_engine(["festival", "--pipe"], voice, "\n".join(script).encode(voice.encoding, "ignore"))
    except DataError:
        if not any(folder.iterdir()):  # some sentences make a voice give up; what it said before is good
            raise


_ENGINES: dict[str, Callable[[Voice, Sequence[str], random.Random, Path], None]] = {
    "espeak-ng": _espeak,
    "festival": _festival,
    "flite": _flite,
    "pico2wave": _pico,
}


def _wav(folder: Path, number: int) -> str:
    return str(folder / f"{number:04d}.wav")


def _read(path: Path, timbre: float) -> Audio:
    try:
        samples, rate_hz = soundfile.read(path, dtype="float32")
    except soundfile.LibsndfileError:  # an engine that choked on a sentence leaves an empty file
        return np.zeros(0, np.float32)
    if samples.ndim > 1:
        samples = samples[:, 0]
    return at_our_rate(samples, rate_hz * timbre)


def run_engine(command: list[str], voice: Voice, text: bytes | None = None) -> bytes:
    """What a synthesizer writes to standard output; DataError names the package that it needs."""
    try:
        done = subprocess.run(command, check=True, capture_output=True, input=text, timeout=TIME_OUT_S)
    except FileNotFoundError as error:
        raise DataError(
            f"{command[0]} is not installed; run: apt-get install {PACKAGES[voice.engine]}"
        ) from error
    except subprocess.CalledProcessError as error:
        reason = error.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        raise DataError(
            f"{command[0]} with voice {voice.name} failed ({reason[0]}); install {PACKAGES[voice.engine]}"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise DataError(f"{command[0]} with voice {voice.name} hangs; try it by hand") from error
    return done.stdout
