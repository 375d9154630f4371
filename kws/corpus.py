"""A corpus: a folder of recordings and a `manifest.csv` that says what each one is (docs/corpus.md).

Reading needs no numpy: `kws corpus check` and the evaluation on a Pi share it with training.
"""

import csv
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kws.errors import DataError
from kws.files import replacing

COLUMNS = (
    "path", "label", "kind", "speaker", "seconds", "split", "lang", "licence", "start", "end", "recording",
)  # fmt: skip
KINDS = ("keyword", "speech", "synthetic", "noise", "music", "rir")
SPOKEN = ("keyword", "speech", "synthetic")
SPLITS = ("train", "dev", "test")
LEAD_INS = ("hey", "okay", "ok")
"""Words that people put before a wake word; the keyword is heard with or without them."""
MOST_UNREADABLE = 0.1
"""Beyond this share of the files something else is wrong than single ones: a disk that is not there."""
CLOSE_ENOUGH_S = 0.1
"""Lengths and times in a manifest may be off by this much."""


Row = dict[str, str]
"""One line of a manifest by its columns, as it is written."""


@dataclass(frozen=True)
class Clip:
    """One row of the manifest."""

    path: Path
    """Audio file."""
    source: str
    """First folder of the path: who recorded it."""
    label: str
    """Word or transcript; empty when unknown."""
    kind: str
    """One of KINDS."""
    speaker: str
    """Unique within a source."""
    seconds: float
    """Length."""
    split: str
    """One of SPLITS."""
    lang: str
    """ISO 639 code; empty for noise."""
    licence: str
    """Licence of the recording."""
    start_s: float | None
    """Start of the keyword inside the clip, where marked by hand."""
    end_s: float | None
    """End of the keyword inside the clip, where marked by hand."""
    recording: str
    """Clips of a source with equal, non-empty values are copies of one recording."""
    text: str = ""
    """What is said in full, where a `texts.csv` of the source tells."""


def read_corpus(folder: Path) -> list[Clip]:
    """Read `folder/manifest.csv`; DataError names the first bad line."""
    manifest = folder / "manifest.csv"
    try:
        with manifest.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = set(COLUMNS[:6]) - set(reader.fieldnames or ())
            if missing:
                raise DataError(f"{manifest} has no column {', '.join(sorted(missing))}; see docs/corpus.md")
            texts = _texts(folder)
            return [_clip(folder, row, texts, f"{manifest}:{reader.line_num}") for row in reader]
    except OSError as error:
        raise DataError(f"cannot read {manifest}: {error.strerror}; see docs/corpus.md") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{manifest} is not a CSV file ({error}); see docs/corpus.md") from error


def row_of(path: Path, root: Path, seconds: float, **columns: str) -> Row:
    """The row of an audio file in the manifest of `root`."""
    return {"path": path.relative_to(root).as_posix(), "seconds": f"{seconds:.3f}", **columns}


def write_manifest(folder: Path, rows: Iterable[Row]) -> Path:
    """Write `folder/manifest.csv` through a temporary file; returns its path."""
    manifest = folder / "manifest.csv"
    with replacing(manifest) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return manifest


def manifest_rows(folder: Path) -> list[Row]:
    """The rows of `folder/manifest.csv` as they are, to add others to; none when there is no manifest yet."""
    manifest = folder / "manifest.csv"
    try:
        with manifest.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        return []
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{manifest} is not a CSV file ({error}); see docs/corpus.md") from error
    for row in rows:
        if "path" not in row or not set(row) <= set(COLUMNS):
            raise DataError(f"{manifest} has other columns than a corpus; see docs/corpus.md")
    return rows


def keyword_of(label: str, keywords: Iterable[str]) -> str | None:
    """The keyword that the whole label says, with or without a lead-in word; None for anything else."""
    keywords = tuple(keywords)
    if label in keywords:  # of "jarvis" and "hey jarvis", each is itself
        return label
    return next((k for k in keywords if label in (f"{lead} {k}" for lead in LEAD_INS)), None)


def bare_keyword_of(label: str, keywords: Iterable[str]) -> str | None:
    """The keyword that the label says without its own lead-in: "jarvis" or "okay jarvis" for "hey jarvis".

    People do not expect it to wake them, and would not call it an error either: such a clip is counted apart.
    """
    keywords = tuple(keywords)
    if keyword_of(label, keywords):
        return None
    cores = ((k, k.partition(" ")[2]) for k in keywords if k.partition(" ")[0] in LEAD_INS)
    return next((k for k, core in cores if core and keyword_of(label, (core,))), None)


def spoken_keyword(clip: Clip, keywords: Iterable[str]) -> str | None:
    """The keyword that a clip is a recording of; of running speech none: its label may be a translation."""
    return keyword_of(clip.label, keywords) if clip.kind in ("keyword", "synthetic") else None


def mentions(clip: Clip, keywords: Iterable[str]) -> bool:
    """Whether a keyword is anywhere in what a clip says."""
    words = " ".join(re.findall(r"[\w']+", f"{clip.label} {clip.text}".lower()))
    return any(f" {keyword} " in f" {words} " for keyword in keywords)


@dataclass(frozen=True)
class Problem:
    """One sort of fault, with every clip, speaker or word that has it."""

    what: str
    """Begins after the count: "clips are silent"."""
    names: tuple[str, ...]
    remedy: str
    """What to do about it."""
    is_fatal: bool = False
    """Training on it would fail, or give figures that mean nothing."""

    def __str__(self) -> str:
        """Count, fault, the first three names, remedy."""
        more = f" and {len(self.names) - 3} more" if len(self.names) > 3 else ""
        return f"{len(self.names)} {self.what}: {', '.join(self.names[:3])}{more}; {self.remedy}"


def problem(what: str, names: Iterable[str], remedy: str, *, is_fatal: bool = False) -> list[Problem]:
    """The problem, if anything has it."""
    found = tuple(names)
    return [Problem(what, found, remedy, is_fatal)] if found else []


def problems(clips: list[Clip]) -> list[Problem]:
    """What a manifest alone shows to be wrong with a corpus; empty when sound."""
    splits, recordings, paths = defaultdict(set), defaultdict(set), defaultdict(list)
    for clip in clips:
        paths[clip.path].append(clip.split)
        if clip.kind in SPOKEN:
            # One person reads asterisk's prompts in one language, and so on: unknown speakers never leak.
            splits[clip.source, clip.speaker].add(clip.split)
        if clip.recording:
            recordings[clip.source, clip.recording].add(clip.split)
    missing = [str(clip.path) for clip in clips if not clip.path.is_file()]
    return [
        *problem(
            "speakers are in more than one split",
            (f"{s}/{p}" for (s, p), v in splits.items() if p and len(v) > 1),
            "give each speaker one split",
            is_fatal=True,
        ),
        *problem(
            "recordings are in more than one split",
            (f"{s}/{r}" for (s, r), v in recordings.items() if len(v) > 1),
            "give all copies of a recording one split",
            is_fatal=True,
        ),
        *problem(
            "files are in more than one split",
            (str(p) for p, v in paths.items() if len(set(v)) > 1),
            "list each file once",
            is_fatal=True,
        ),
        *problem(
            "files are listed more than once",
            (str(p) for p, v in paths.items() if len(v) > len(set(v)) == 1),
            "list each file once",
        ),
        *problem(
            "files are missing",
            missing,
            "restore them or remove their rows",
            is_fatal=len(missing) > MOST_UNREADABLE * len(clips),
        ),
        *problem(
            "clips have an unknown kind",
            (f"{c.path} ({c.kind})" for c in clips if c.kind not in KINDS),
            f"choose one of {', '.join(KINDS)}",
        ),
        *problem(
            "clips have an unknown split",
            (f"{c.path} ({c.split})" for c in clips if c.split not in SPLITS),
            f"choose one of {', '.join(SPLITS)}",
        ),
        *problem(
            "keyword clips have no label",
            (str(c.path) for c in clips if c.kind == "keyword" and not c.label),
            "write down what they say, or call them speech",
        ),
        *problem("clips are empty", (str(c.path) for c in clips if c.seconds <= 0), "correct their seconds"),
        *problem(
            "marked words lie outside their clip",
            map(_marks, filter(_is_marked_wrongly, clips)),
            "correct start and end",
        ),
    ]


def lacks(clips: list[Clip], keywords: Iterable[str], held_out: str) -> list[Problem]:
    """What a model of these keywords misses in a corpus, or finds under a wrong kind; `held_out`: a split."""
    keywords = tuple(keywords)
    found: list[Problem] = []
    for split in ("train", held_out):
        spoken = {spoken_keyword(clip, keywords) for clip in clips if clip.split == split}
        found += problem(
            f"keywords have no {split} clip",
            (keyword for keyword in keywords if keyword not in spoken),
            "add recordings or change keywords",
            is_fatal=True,
        )
    trained = {clip.kind for clip in clips if clip.split == "train"}
    found += problem(
        "sorts of sound have no train clip",
        (" or ".join(sort) for sort in (("speech",), ("noise", "music")) if not trained & set(sort)),
        "add some to train against",
        is_fatal=True,
    )
    return found + problem(
        "clips say a keyword but are neither of kind keyword nor synthetic",
        (
            f"{c.path} ({c.kind})"
            for c in clips
            if keyword_of(c.label, keywords) and not spoken_keyword(c, keywords)
        ),
        "correct their kind, or they are used for nothing",
    )


def _is_marked_wrongly(clip: Clip) -> bool:
    if clip.start_s is None or clip.end_s is None:
        return (clip.start_s is None) != (clip.end_s is None)
    return not 0 <= clip.start_s < clip.end_s <= clip.seconds + CLOSE_ENOUGH_S


def _marks(clip: Clip) -> str:
    return f"{clip.path} ({clip.start_s} to {clip.end_s} of {clip.seconds} s)"


def _texts(folder: Path) -> dict[str, str]:
    """What is said in full, by path, where a source has a `texts.csv` beside its clips."""
    texts: dict[str, str] = {}
    for path in sorted(folder.glob("*/texts.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            texts |= {row["path"]: row["text"] for row in csv.DictReader(file)}
    return texts


def _clip(folder: Path, row: dict[str, str], texts: dict[str, str], where: str) -> Clip:
    try:
        return Clip(
            path=folder / row["path"],
            source=row["path"].split("/")[0],
            label=row["label"],
            kind=row["kind"],
            speaker=row["speaker"],
            seconds=float(row["seconds"]),
            split=row["split"],
            lang=row.get("lang") or "",
            licence=row.get("licence") or "",
            start_s=float(row["start"]) if row.get("start") else None,
            end_s=float(row["end"]) if row.get("end") else None,
            recording=row.get("recording") or "",
            text=texts.get(row["path"], ""),
        )
    except (TypeError, ValueError, KeyError) as error:
        raise DataError(f"{where} is not a manifest row ({error}); see docs/corpus.md") from error
