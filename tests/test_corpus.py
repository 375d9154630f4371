"""Manifests are read, checked for leaks, and written from the layouts that people have."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from kws.corpus import (
    COLUMNS,
    Clip,
    bare_keyword_of,
    keyword_of,
    mentions,
    problems,
    read_corpus,
    write_manifest,
)
from kws.errors import AudioError, DataError
from kws.layouts import import_corpus


def write_wav(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(1600, np.float32), 16_000)
    return path


def row(path: str, **columns: str) -> dict[str, str]:
    plain = {"label": "yes", "kind": "keyword", "speaker": "ann", "seconds": "0.1", "split": "train"}
    return {"path": path, **plain, **columns}


def corpus_of(folder: Path, *rows: dict[str, str]) -> list[Clip]:
    for each in rows:
        write_wav(folder / each["path"])
    write_manifest(folder, rows)
    return read_corpus(folder)


def test_manifest_is_read_back_as_written(tmp_path: Path) -> None:
    (clip,) = corpus_of(tmp_path, row("words/a.wav", start="0.01", end="0.09", recording="r1", lang="en"))
    assert clip.path == tmp_path / "words/a.wav"
    assert (clip.source, clip.label, clip.speaker, clip.seconds) == ("words", "yes", "ann", 0.1)
    assert (clip.start_s, clip.end_s, clip.recording, clip.lang) == (0.01, 0.09, "r1", "en")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,label\nx,y\n", "has no column kind, seconds, speaker, split"),
        (
            ",".join(COLUMNS) + "\na.wav,yes,keyword,ann,long,train,,,,,\n",
            r"manifest.csv:2 is not a manifest",
        ),
        (b"\xff\xfe\x00", "is not a CSV file"),
    ],
)
def test_bad_manifest_names_the_file_and_what_is_wrong(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    (tmp_path / "manifest.csv").write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(DataError, match=message):
        read_corpus(tmp_path)


def test_missing_manifest_points_to_the_format(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"see docs/corpus.md"):
        read_corpus(tmp_path)


def test_sound_corpus_has_no_problems(tmp_path: Path) -> None:
    clips = corpus_of(tmp_path, row("a/1.wav"), row("a/2.wav", speaker="bob", split="dev"))
    assert problems(clips) == []


def test_each_problem_is_found_with_its_count_and_name(tmp_path: Path) -> None:
    clips = corpus_of(
        tmp_path,
        row("a/1.wav"),
        row("a/2.wav", split="dev"),  # ann again
        row("b/1.wav", speaker="cy", recording="r"),
        row("b/2.wav", speaker="di", recording="r", split="dev"),
        row("c/1.wav", kind="sound"),
        row("c/2.wav", speaker="ed", split="valid"),
        row("c/3.wav", label=""),
        row("c/4.wav", seconds="0"),
    )
    clips[-1].path.unlink()
    found = "\n".join(map(str, problems(clips)))
    for sentence in (
        "1 speakers are in more than one split: a/ann",
        "1 recordings are in more than one split: b/r",
        "1 files are missing",
        "1 clips have an unknown kind",
        "1 clips have an unknown split",
        "1 keyword clips have no label",
        "1 clips are empty",
    ):
        assert sentence in found


def test_speakers_of_two_sources_are_different_people(tmp_path: Path) -> None:
    assert problems(corpus_of(tmp_path, row("a/1.wav"), row("b/1.wav", split="dev"))) == []


def test_keyword_is_heard_with_a_lead_in_but_not_inside_a_sentence() -> None:
    words = ("computer", "hey jarvis")
    assert keyword_of("hey computer", words) == "computer"
    assert keyword_of("hey jarvis", words) == "hey jarvis"
    assert keyword_of("jarvis", words) is None
    assert keyword_of("my computer", words) is None
    assert keyword_of("hey jarvis", ("jarvis", "hey jarvis")) == "hey jarvis"
    assert keyword_of("okay jarvis", ("hey jarvis", "jarvis")) == "jarvis"


def test_keyword_without_its_own_lead_in_is_neither_it_nor_another_word() -> None:
    words = ("alexa", "hey jarvis", "okay nabu")
    assert bare_keyword_of("jarvis", words) == "hey jarvis"
    assert bare_keyword_of("okay jarvis", words) == "hey jarvis"
    assert bare_keyword_of("hey nabu", words) == "okay nabu"
    for label in ("hey jarvis", "alexa", "hey alexa", "jarvis now", "hey", "service", ""):
        assert bare_keyword_of(label, words) is None
    assert bare_keyword_of("jarvis", ("jarvis", "hey jarvis")) is None


def test_full_text_of_a_source_is_searched_for_keywords(tmp_path: Path) -> None:
    corpus_of(tmp_path, row("tts/1.wav", label="jarvis"), row("tts/2.wav", label="jarvis"))
    with (tmp_path / "tts" / "texts.csv").open("w") as file:
        file.write('path,text\ntts/1.wav,"So, Hey, Jarvis!"\n')
    said, other = read_corpus(tmp_path)
    assert (said.text, other.text) == ("So, Hey, Jarvis!", "")
    assert [mentions(clip, ("hey jarvis",)) for clip in (said, other)] == [True, False]
    assert mentions(other, ("jarvis",))


def test_speech_commands_keeps_its_official_split(tmp_path: Path) -> None:
    source, corpus = tmp_path / "speech_commands", tmp_path / "corpus"
    for name in ("yes/0a_nohash_0.wav", "yes/0b_nohash_0.wav", "no/0c_nohash_1.wav"):
        write_wav(source / name)
    write_wav(source / "_background_noise_/tap.wav")
    (source / "validation_list.txt").write_text("yes/0b_nohash_0.wav\n")
    (source / "testing_list.txt").write_text("no/0c_nohash_1.wav\n")
    assert import_corpus("speech-commands", source, corpus)[1] == 4
    clips = {c.path.name: c for c in read_corpus(corpus)}
    assert [clips[f"0{x}_nohash_{n}.wav"].split for x, n in (("a", 0), ("b", 0), ("c", 1))] == [
        "train",
        "dev",
        "test",
    ]
    assert clips["0a_nohash_0.wav"].speaker == "0a"
    assert (clips["tap.wav"].kind, clips["tap.wav"].label) == ("noise", "")
    assert problems(list(clips.values())) == []


def test_two_imports_add_up_and_the_same_one_replaces_itself(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    write_wav(tmp_path / "bench/audio/smart_mirror/1.flac")
    write_wav(tmp_path / "mine/okay_house/ann_1.wav")
    write_wav(tmp_path / "mine/_noise_/fan.wav")
    import_corpus("wake-word-benchmark", tmp_path / "bench", corpus)
    import_corpus("folders", tmp_path / "mine", corpus)
    import_corpus("folders", tmp_path / "mine", corpus)
    clips = read_corpus(corpus)
    assert sorted((c.source, c.label, c.kind) for c in clips) == [
        ("bench", "smart mirror", "keyword"),
        ("mine", "", "noise"),
        ("mine", "okay house", "keyword"),
    ]
    assert all(c.path.is_file() for c in clips)


def test_folders_never_split_a_speaker(tmp_path: Path) -> None:
    for speaker in range(40):
        for take in range(2):
            write_wav(tmp_path / f"mine/word/s{speaker}/{take}.wav")
    import_corpus("folders", tmp_path / "mine", tmp_path / "corpus")
    clips = read_corpus(tmp_path / "corpus")
    assert problems(clips) == []
    assert {c.split for c in clips} == {"train", "dev"}


@pytest.mark.parametrize("layout", ["speech-commands", "wake-word-benchmark", "folders"])
def test_folder_of_another_layout_is_refused(tmp_path: Path, layout: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError):
        import_corpus(layout, tmp_path / "empty", tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()


def test_broken_recording_stops_an_import_by_name(tmp_path: Path) -> None:
    (write_wav(tmp_path / "mine/word/a.wav")).write_bytes(b"no audio")
    with pytest.raises(AudioError, match=r"a\.wav"):
        import_corpus("folders", tmp_path / "mine", tmp_path / "corpus")
