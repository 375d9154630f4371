"""The documents say what the program does: links, commands, exit codes, columns, version."""

import re
import tomllib
from pathlib import Path

import pytest

from kws import cli, corpus, errors
from kws.evaluate.card import MARKERS
from kws.evaluate.clip_card import CLIP_MARKERS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
DOCUMENTS += sorted((ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8"))
    missing = [target for target in targets if not (document.parent / target).exists()]
    assert not missing


def test_readme_commands_exist() -> None:
    programs = _words_after("kws")
    help_text = cli._parser().format_help()
    assert programs >= {
        "listen",
        "detect",
        "classify",
        "devices",
        "models",
        "train",
        "export",
        "evaluate",
        "bench",
    }
    assert all(re.search(rf"^    {name}\b", help_text, re.MULTILINE) for name in programs)


def test_readme_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = _words_after("make")
    assert targets >= {"listen", "test", "models", "bench"}
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


def test_readme_lists_every_exit_code() -> None:
    rows = dict(re.findall(r"^\| (\d) \| (\w+)", README, re.MULTILINE))
    tree = {str(e.exit_code): e.__name__ for e in errors.KwsError.__subclasses__()}
    assert {code: name for code, name in rows.items() if int(code) > 1} == tree
    assert f"| {errors.INTERRUPTED}, {cli.BROKEN_PIPE} |" in README


def test_readme_has_the_markers_of_evaluate() -> None:
    typed = README
    for first, last in (MARKERS, CLIP_MARKERS):
        assert (README.count(first), README.count(last)) == (1, 1)
        typed = typed.split(first)[0] + typed.split(last)[1]
    assert not re.search(r"\d ?(%|kB|MB)", typed), "figures are written by commands"


def test_corpus_document_names_every_column_and_kind() -> None:
    text = (ROOT / "docs" / "corpus.md").read_text(encoding="utf-8")
    cells = {
        name
        for row in re.findall(r"^\|([^|]*)\|", text, re.MULTILINE)
        for name in re.findall(r"`([^`]+)`", row)
    }
    assert cells >= {*corpus.COLUMNS, *corpus.KINDS}
    assert cells <= {*corpus.COLUMNS, *corpus.KINDS, "speech-commands", "wake-word-benchmark", "folders"}


def test_version_is_the_newest_in_the_changelog() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        version = tomllib.load(file)["project"]["version"]
    sections = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert next(section for section in sections if section != "Unreleased") == version


def _words_after(program: str) -> set[str]:
    """What the README gives `program` to do, inline or in a block of commands."""
    blocks = re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^```.*?^```", "", README, flags=re.MULTILINE | re.DOTALL)
    return set(re.findall(rf"\b{program} ([a-z]+)", "\n".join(blocks + re.findall(r"`[^`]+`", prose))))
