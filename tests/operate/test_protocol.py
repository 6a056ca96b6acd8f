"""The control protocol: what is a request, what is an answer, and what is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minions.operate.protocol import (
    MOST_ANSWER_BYTES,
    MOST_REQUEST_BYTES,
    VERSION,
    Lines,
    Refused,
    Request,
    answer_line,
    answer_of,
    refusal_line,
    request_line,
    request_of,
)


def all_of(lines: Lines) -> list[bytes]:
    found = []
    while (line := lines.next()) is not None:
        found.append(line)
    return found


def line(**fields: object) -> bytes:
    return json.dumps({"v": VERSION, "id": 1, "do": "status", **fields}).encode()


# Requests


def test_a_request_survives_the_way() -> None:
    request = Request(7, "why", {"component": "ä\n"})
    sent = request_line(request)
    assert sent.count(b"\n") == 1
    assert request_of(sent[:-1]) == request


def test_a_request_needs_no_number_and_no_arguments() -> None:
    assert request_of(b'{"v": 1, "do": "status"}') == Request(None, "status", {})


@pytest.mark.parametrize(
    "garbage",
    [b"", b"{", b"null", b"[]", b'"status"', b"\xff\xfe", b"GET / HTTP/1.1", b"[" * 60_000, b"1" * 5_000, b"NaN"],
    ids=range(10),
)
def test_what_is_no_json_object_is_malformed(garbage: bytes) -> None:
    with pytest.raises(Refused) as refused:
        request_of(garbage)
    assert refused.value.kind == "malformed"
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("version", [0, 2, "1", None, True, 1.5, []])
def test_another_version_is_refused_with_both_versions_and_a_remedy(version: object) -> None:
    with pytest.raises(Refused, match=r"version 1 .* asked in version .* use the minions command") as refused:
        request_of(line(v=version))
    assert refused.value.kind == "version"


@pytest.mark.parametrize(
    "fields",
    [{"id": "1"}, {"id": 1.5}, {"id": True}, {"id": 1 << 60}, {"do": 1}, {"do": None}, {"with": []}, {"with": None}],
    ids=str,
)
def test_a_field_of_the_wrong_type_is_malformed(fields: dict[str, object]) -> None:
    with pytest.raises(Refused) as refused:
        request_of(line(**fields))
    assert refused.value.kind == "malformed"


def test_arguments_are_checked_and_named() -> None:
    request = Request(1, "why", {"component": 7, "components": ["a", 1], "after": -1, "empty": ""})
    for read, name in (
        (request.text, "component"),
        (request.text, "missing"),
        (request.text, "empty"),
        (request.texts, "components"),
        (request.number_of, "after"),
    ):
        with pytest.raises(Refused, match=f"why: '{name}'") as refused:
            read(name)
        assert refused.value.kind == "arguments"
    assert request.texts("missing") == ()
    assert request.number_of("missing") == 0
    assert Request(1, "x", {"a": ["b"]}).texts("a") == ("b",)
    assert Request(1, "x", {"a": 5}).number_of("a") == 5


def test_true_is_no_number() -> None:
    with pytest.raises(Refused):
        Request(1, "events", {"after": True}).number_of("after")


# Answers


def test_an_answer_survives_the_way() -> None:
    assert answer_of(answer_line(3, {"a": [1, None, "ü"]}), 3) == {"a": [1, None, "ü"]}


def test_a_refusal_survives_the_way() -> None:
    with pytest.raises(Refused, match="no such") as refused:
        answer_of(refusal_line(3, Refused("no-such-component", "no such")), 3)
    assert refused.value.kind == "no-such-component"


def test_a_refusal_of_a_kind_that_is_not_known_is_a_failure() -> None:
    with pytest.raises(Refused, match="new") as refused:
        answer_of(b'{"v": 1, "error": {"kind": "of the future", "text": "new"}}', 3)
    assert refused.value.kind == "failed"


@pytest.mark.parametrize("answer", [b'{"v":2,"id":3,"result":{}}', b'{"v":1,"id":4,"result":{}}', b'{"v":1,"id":3}'])
def test_an_answer_to_something_else_is_none(answer: bytes) -> None:
    with pytest.raises(Refused):
        answer_of(answer, 3)


def test_an_answer_that_is_too_long_becomes_a_refusal() -> None:
    with pytest.raises(Refused, match="ask for one component"):
        answer_of(answer_line(3, {"text": "x" * MOST_ANSWER_BYTES}), 3)


# Lines


@given(st.lists(st.binary(max_size=30).filter(lambda text: b"\n" not in text)), st.lists(st.integers(1, 20)))
def test_lines_come_out_as_they_went_in_however_they_are_cut(texts: list[bytes], cuts: list[int]) -> None:
    data = b"".join(text + b"\n" for text in texts)
    lines, found = Lines(), []
    for cut in cuts:
        lines.feed(data[:cut])
        data = data[cut:]
        found += all_of(lines)
    lines.feed(data)
    assert found + all_of(lines) == texts


def test_half_a_line_is_none() -> None:
    lines = Lines()
    lines.feed(b"one\ntw")
    assert all_of(lines) == [b"one"]
    lines.feed(b"o\n")
    assert all_of(lines) == [b"two"]


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_line_that_is_too_long_is_refused_whether_its_end_has_come_or_not(end: bytes) -> None:
    lines = Lines(10)
    lines.feed(b"x" * 11 + end)
    with pytest.raises(Refused, match="10 bytes"):
        lines.next()
    assert lines.next() is None, "nothing of it is kept"


def test_a_line_of_just_the_length_that_may_be_passes() -> None:
    lines = Lines(10)
    lines.feed(b"x" * 10 + b"\n" + b"y" * 10)
    assert all_of(lines) == [b"x" * 10]


def test_a_request_of_ordinary_size_fits() -> None:
    assert (
        len(request_line(Request(1, "dead-retry", {"ids": ["average.readings-0c329514-1"] * 1_000})))
        < MOST_REQUEST_BYTES
    )
