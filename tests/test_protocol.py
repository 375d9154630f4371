"""The lines that a daemon and its clients exchange: whatever arrives, there is a request or a sentence."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kws.errors import KwsError
from kws.protocol import VERSION, address, line, request_in

LEAVES = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | st.text()
JSON = st.recursive(
    LEAVES, lambda item: st.lists(item, max_size=4) | st.dictionaries(st.text(), item, max_size=4)
)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode) | JSON.map(json.dumps).map(str.encode))
def test_any_bytes_are_a_request_or_a_sentence(received):
    try:
        request = request_in(received)
    except KwsError as refusal:
        sentence = str(refusal)
    else:
        assert request["version"] == VERSION
        assert isinstance(request["request"], str)
        return
    assert len(sentence.splitlines()) == 1
    assert sentence.endswith("and a newline")


@given(st.text(), st.dictionaries(st.text(), JSON, max_size=4))
def test_a_request_arrives_as_it_was_sent(name, arguments):
    message = {**arguments, "version": VERSION, "request": name}
    sent = line(message)
    assert sent.count(b"\n") == 1
    assert sent.endswith(b"\n")
    assert sent.isascii()
    received = request_in(sent)
    assert received["request"] == name
    assert received.keys() == message.keys()


@given(JSON)
def test_a_line_is_strict_json_whatever_the_figures(value):
    def refuse(constant):
        raise AssertionError(constant)

    json.loads(line({"value": value}), parse_constant=refuse)


def test_infinity_becomes_null_and_nothing_else_changes():
    sent = json.loads(line({"level": [-math.inf, 0.5, {"x": math.nan}], "name": "é"}))
    assert sent == {"version": 1, "level": [None, 0.5, {"x": None}], "name": "é"}


@pytest.mark.parametrize(
    ("received", "complaint"),
    [
        (b"", "not JSON"),
        (b"[" * 4000, "not JSON"),
        (b'{"version":1,"request":NaN}', "NaN is no number"),
        (b"\xff\xfe", "not JSON"),
        (b'["status"]', "a JSON object"),
        (b'{"request":"status"}', "speaks version 1, not None"),
        (b'{"version":2,"request":"status"}', "speaks version 1, not 2"),
        (b'{"version":1}', "has a name"),
        (b'{"version":1,"request":["status"]}', "has a name"),
    ],
)
def test_what_is_no_request_is_named(received, complaint):
    with pytest.raises(KwsError, match=complaint):
        request_in(received)


def test_the_longest_path_that_the_kernel_takes_is_107_bytes():
    folder = Path("/" + "ä" * 51)  # 103 bytes
    assert len(address(folder, "abc").encode()) == 107
    with pytest.raises(KwsError, match=r"too long for a socket.*XDG_RUNTIME_DIR"):
        address(folder, "abcd")
