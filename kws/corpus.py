"""A corpus: a folder of recordings and a `manifest.csv` that says what each one is (docs/corpus.md).

Reading needs no numpy: `kws corpus check` and the evaluation on a Pi share it with training.
"""

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kws.errors import DataError
from kws.files import replacing

COLUMNS = (
    "path", "label", "kind", "speaker", "seconds", "split", "lang", "licence", "start", "end", "recording",
)  # fmt: skip
KINDS = ("keyword", "speech", "synthetic", "noise", "music", "rir")
SPLITS = ("train", "dev", "test")
LEAD_INS = ("hey", "okay", "ok")
"""Words that people put before a wake word; the keyword is heard with or without them."""


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


def write_manifest(folder: Path, rows: Iterable[dict[str, str]]) -> Path:
    """Write `folder/manifest.csv` through a temporary file; returns its path."""
    manifest = folder / "manifest.csv"
    with replacing(manifest) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return manifest


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


def mentions(clip: Clip, keywords: Iterable[str]) -> bool:
    """Whether a keyword is anywhere in what a clip says."""
    words = " ".join(re.findall(r"[\w']+", f"{clip.label} {clip.text}".lower()))
    return any(f" {keyword} " in f" {words} " for keyword in keywords)


def problems(clips: list[Clip]) -> list[str]:
    """What is wrong with a corpus, one sentence each with a count and the first names; empty when sound."""
    found = []
    splits = defaultdict(set)
    recordings = defaultdict(set)
    for clip in clips:
        if clip.kind in ("keyword", "speech", "synthetic"):
            # One person reads asterisk's prompts in one language, and so on: unknown speakers never leak.
            splits[clip.source, clip.speaker].add(clip.split)
        if clip.recording:
            recordings[clip.source, clip.recording].add(clip.split)
    found += _list(
        "speakers are in more than one split",
        (f"{s}/{p}" for (s, p), v in splits.items() if p and len(v) > 1),
    )
    found += _list(
        "recordings are in more than one split",
        (f"{s}/{r}" for (s, r), v in recordings.items() if len(v) > 1),
    )
    found += _list("files are missing", (str(c.path) for c in clips if not c.path.is_file()))
    found += _list(
        "paths are listed more than once",
        (str(p) for p, n in Counter(c.path for c in clips).items() if n > 1),
    )
    found += _list(
        "clips have an unknown kind", (f"{c.path} ({c.kind})" for c in clips if c.kind not in KINDS)
    )
    found += _list(
        "clips have an unknown split", (f"{c.path} ({c.split})" for c in clips if c.split not in SPLITS)
    )
    found += _list(
        "keyword clips have no label", (str(c.path) for c in clips if c.kind == "keyword" and not c.label)
    )
    found += _list("clips are empty", (str(c.path) for c in clips if c.seconds <= 0))
    return found


def _list(what: str, names: Iterable[str]) -> list[str]:
    all_names = list(names)
    if not all_names:
        return []
    more = f" and {len(all_names) - 3} more" if len(all_names) > 3 else ""
    return [f"{len(all_names)} {what}: {', '.join(all_names[:3])}{more}"]


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
