"""Feedback: what it is about, where it is kept, and what a bad disk does to it."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from test_captures import KEEP, event, noise

from kws.daemon import feedback
from kws.daemon.archive import read_archive
from kws.daemon.captures import Captures, CaptureSettings
from kws.daemon.feedback import FILE, Feedback
from kws.errors import ConfigError, KwsError

WORDS = ("hey jarvis", "alexa")


@pytest.fixture
def captures(tmp_path: Path) -> Captures:
    return Captures(tmp_path / "captures", KEEP)


def feedback_of(folder: Path, captures: Captures, *events: dict[str, Any]) -> Feedback:
    """Feedback that has heard of these events."""
    told = Feedback(folder, WORDS, captures)
    for each in events:
        told.heard(each)
    return told


def about(label: str, event: dict[str, Any]) -> dict[str, Any]:
    """What is answered to feedback about this event."""
    names = {"label": label, "keyword": event["keyword"], "event_id": event["id"]}
    return names | {"wall_time": event["wall_time"]}


def test_false_is_said_about_the_last_detection_then_about_the_one_before(
    tmp_path: Path, captures: Captures
) -> None:
    heard = [event(1), event(2, keyword="alexa"), event(3, "near-miss"), event(4, "state")]
    told = feedback_of(tmp_path, captures, *heard)
    for each in heard[:2]:
        captures.store(noise(0.1), each, 0.1)
    assert told.add("false") == about("false", heard[1])
    assert told.add("false") == about("false", heard[0])
    with pytest.raises(KwsError, match="nothing was detected in the last 10 minutes"):
        told.add("false")
    captures.close()
    assert [c.label for c in read_archive(captures.folder)] == ["false", "false"]
    assert told.since_start == told.total == {("false", "alexa"): 1, ("false", "hey jarvis"): 1}


def test_false_can_name_the_keyword(tmp_path: Path, captures: Captures) -> None:
    told = feedback_of(tmp_path, captures, event(1), event(2, keyword="alexa"))
    assert told.add("false", "hey jarvis")["event_id"] == "e1"
    with pytest.raises(ConfigError, match="'siri'; choose one of: hey jarvis, alexa"):
        told.add("false", "siri")


def test_missed_is_said_about_a_fresh_near_miss(tmp_path: Path, captures: Captures) -> None:
    told = feedback_of(tmp_path, captures, event(1, "near-miss"), event(2))
    captures.store(noise(0.1), event(1, "near-miss"), 0.1)
    said = told.add("missed", ring=noise(0.1))
    captures.close()
    assert said == about("missed", event(1))
    (capture,) = read_archive(captures.folder)  # the ring is not needed
    assert (capture.kind, capture.label) == ("near-miss", "missed")


def test_missed_without_a_trace_keeps_the_ring(tmp_path: Path, captures: Captures) -> None:
    told = feedback_of(tmp_path, captures, event(1, "near-miss"))
    ring = noise(0.5)
    said = told.add("missed", "alexa", ring)
    captures.close()
    assert said["keyword"] == "alexa"
    (capture,) = read_archive(captures.folder)
    assert (capture.kind, capture.keyword, capture.label) == ("missed", "alexa", "missed")
    assert capture.event["id"] == said["event_id"]


def test_missed_without_a_trace_must_name_one_of_several_keywords(tmp_path: Path, captures: Captures) -> None:
    told = feedback_of(tmp_path, captures)
    with pytest.raises(KwsError, match="kws feedback missed KEYWORD, one of: hey jarvis, alexa"):
        told.add("missed", ring=noise(0.1))
    assert not told.total
    told.keywords = ("alexa",)  # another model was loaded
    assert told.add("missed", ring=np.zeros(0, np.int16))["keyword"] == "alexa"
    captures.close()
    assert read_archive(captures.folder) == []  # muted: no audio, but it counts
    assert told.total == {("missed", "alexa"): 1}


def test_old_events_are_not_meant(
    tmp_path: Path, captures: Captures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feedback, "FALSE_WITHIN_SECONDS", 0.05)
    told = feedback_of(tmp_path, captures, event(1))
    time.sleep(0.1)
    with pytest.raises(KwsError):
        told.add("false")


def test_wall_clock_that_jumps_changes_nothing(tmp_path: Path, captures: Captures) -> None:
    told = feedback_of(tmp_path, captures, event(1, wall_time="2099-01-01T00:00:00.000Z"))
    told.heard(event(2, wall_time="1970-01-01T00:00:00.000Z"))
    assert told.add("false")["event_id"] == "e2"
    assert told.add("false")["event_id"] == "e1"


def test_counts_outlive_the_daemon_in_a_private_file(tmp_path: Path) -> None:
    captures = Captures(tmp_path / "captures", CaptureSettings())
    told = feedback_of(tmp_path / "state", captures, event(1), event(2, "near-miss"))
    told.add("false")
    told.add("missed")
    path = tmp_path / "state" / FILE
    assert path.stat().st_mode & 0o777 == 0o600
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(li["label"], li["keyword"], li["event_id"]) for li in lines] == [
        ("false", "hey jarvis", "e1"),
        ("missed", "hey jarvis", "e2"),
    ]
    again = feedback_of(tmp_path / "state", captures, event(3))
    again.add("false")
    assert again.total == {("false", "hey jarvis"): 2, ("missed", "hey jarvis"): 1}
    assert again.since_start == {("false", "hey jarvis"): 1}
    assert not captures.folder.exists()  # no audio, though something was said about it


def test_half_a_line_costs_only_itself(tmp_path: Path, captures: Captures) -> None:
    feedback_of(tmp_path, captures, event(1)).add("false")
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole + whole[:30])  # power was lost
    feedback_of(tmp_path, captures, event(2)).add("false")
    assert feedback_of(tmp_path, captures).total == {("false", "hey jarvis"): 2}


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary())
def test_any_file_is_read_and_written_on(tmp_path: Path, content: bytes) -> None:
    captures = Captures(tmp_path, CaptureSettings())
    (tmp_path / FILE).write_bytes(content)
    feedback_of(tmp_path, captures, event(1)).add("false")
    assert (tmp_path / FILE).read_bytes().startswith(content)
    assert feedback_of(tmp_path, captures).total["false", "hey jarvis"] == 1


def test_file_does_not_grow_for_ever(
    tmp_path: Path, captures: Captures, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE).write_bytes(b"\n" * 1_000_001)
    told = feedback_of(tmp_path, captures, event(1), event(2))
    told.add("false")
    told.add("false")
    assert (tmp_path / FILE).stat().st_size == 1_000_001
    assert told.total["false", "hey jarvis"] == 2
    assert len(caplog.messages) == 1


def test_read_only_folder_costs_the_file_and_one_warning(
    read_only: Path, caplog: pytest.LogCaptureFixture
) -> None:
    captures = Captures(read_only / "captures", CaptureSettings())
    told = feedback_of(read_only / "state", captures, event(1), event(2))
    told.add("false")
    told.add("false")
    assert told.since_start["false", "hey jarvis"] == 2
    assert len(caplog.messages) == 1
    assert "make room or correct its permissions" in caplog.messages[0]


@pytest.mark.system
def test_full_disk_costs_the_file_and_one_warning(
    small_disk: Path, captures: Captures, caplog: pytest.LogCaptureFixture
) -> None:
    (small_disk / "full").write_bytes(bytes(65536))
    told = feedback_of(small_disk, captures, event(1), event(2))
    told.add("false")
    told.add("false")
    assert told.since_start["false", "hey jarvis"] == 2
    assert len(caplog.messages) == 1
    assert "No space left" in caplog.messages[0]
