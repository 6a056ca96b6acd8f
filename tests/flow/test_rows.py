"""The rows of the store: there and back, and refused when they are laid out otherwise."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minions.errors import StoreDamaged
from minions.flow import rows
from minions.flow.rows import DeadLetter

NAMES = st.text(st.characters(codec="utf-8"), max_size=20)
STORED = st.binary(max_size=50)
NUMBERS = st.integers(1, 2**63)


@given(st.dictionaries(NAMES, STORED, max_size=5))
def test_states_come_back(states: dict[str, bytes]) -> None:
    assert rows.states_of("k", rows.states_body(states)) == states


@given(NAMES, st.lists(st.tuples(NUMBERS, STORED), min_size=1, max_size=5))
def test_messages_come_back(type_name: str, messages: list[tuple[int, bytes]]) -> None:
    assert rows.messages_of("k", rows.messages_body(type_name, "run", messages)) == (type_name, "run", messages)


@given(NUMBERS, st.lists(st.tuples(NUMBERS, NUMBERS), max_size=5).map(tuple))
def test_acks_come_back(low: int, intervals: tuple[tuple[int, int], ...]) -> None:
    assert rows.acks_of("k", rows.acks_body((low, intervals))) == (low, intervals)


@given(
    st.builds(
        DeadLetter,
        channel=NAMES,
        message_id=NAMES,
        type=NAMES,
        message=STORED,
        attempts=NUMBERS,
        error=NAMES,
        traceback=NAMES,
        at=st.floats(0, 1e12),
    )
)
def test_dead_letters_come_back(letter: DeadLetter) -> None:
    assert DeadLetter.of("k", letter.body()) == letter


@given(st.lists(NUMBERS, min_size=1))
def test_the_order_of_the_keys_is_that_of_the_numbers(numbers: list[int]) -> None:
    assert sorted(numbers) == sorted(numbers, key=lambda number: rows.channel_key("a.b", number))
    assert sorted(numbers) == sorted(numbers, key=rows.dead_number)


def test_every_kind_of_row_has_a_prefix_of_its_own() -> None:
    assert rows.channel_key("average.readings", 255) == "chan/average.readings/00000000000000ff"
    assert rows.dead_prefix("average.readings") + rows.dead_number(1) == "dead/average.readings/0000000000000001"
    assert len({rows.STATES, rows.ACKS, rows.CHANNELS, rows.DEAD}) == 4


READERS: list[Callable[[str, bytes], object]] = [rows.states_of, rows.acks_of, rows.messages_of, DeadLetter.of]


@pytest.mark.parametrize("read", READERS)
@given(body=st.binary(max_size=40))
@example(body=b"")
@example(body=b"\xff" * 12)
@example(body=b'{"low": 1e400, "above": []}')
@example(body=b'{"low": 1, "above": [[1, 2, 3]]}')
@example(body=b'{"low": null, "above": []}')
@example(body=b"[1]")
@example(body=struct.pack(">I", 1) + b"a")
@example(body=struct.pack(">I", 2) + b"{}" + struct.pack(">I", 0))
def test_a_body_that_was_not_written_here_is_told_and_never_crashes(
    read: Callable[[str, bytes], object], body: bytes
) -> None:
    try:
        read("chan/a/1", body)
    except StoreDamaged as error:
        assert "row 'chan/a/1' is not laid out as" in str(error)  # noqa: PT017 - it may well be read


@pytest.mark.parametrize(
    ("read", "body"),
    [
        (rows.states_of, rows.states_body({"a": b"12345"})),
        (rows.messages_of, rows.messages_body("int", "run", [(1, b"12345"), (2, b"67")])),
        (DeadLetter.of, DeadLetter("a.b", "a.b-1", "int", b"1", 3, "E: no", "Traceback", 1.0).body()),
        (rows.acks_of, json.dumps({"low": 3, "above": [[5, 6]]}).encode()),
    ],
)
def test_a_body_that_was_cut_short_is_told(read: Callable[[str, bytes], object], body: bytes) -> None:
    whole = read("k", body)
    for length in range(1, len(body)):
        try:
            assert read("k", body[:length]) != whole
        except StoreDamaged:
            continue
    with pytest.raises(StoreDamaged):
        read("k", body[:-1])


def test_a_row_without_messages_is_told() -> None:
    with pytest.raises(StoreDamaged):
        rows.messages_of("k", rows.messages_body("int", "run", []))
