"""The codec while classes change: fields that come and go, and states that are migrated."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import attrs
import pytest

from minions.errors import CannotDecode, CannotStore, StoreTooNew
from minions.flow.codec import codec_of, state_codec_of
from tests.flow.codec_samples import Alarm, FrozenTotal, Options, Pair, Plain, Reading, decode_refusal

# Classes change


def test_a_new_field_with_a_default_needs_no_migration() -> None:
    assert codec_of(Reading).decode(b'{"sensor":"a","celsius":1.5}') == Reading("a", 1.5, 0)
    assert codec_of(Pair).decode(b'{"first":1}') == Pair(1)
    assert codec_of(Plain).decode(b'{"x":1}') == Plain(1)
    assert codec_of(FrozenTotal).decode(b'{"parts":[1],"total":5}').total == 5


def test_a_stored_field_that_the_class_does_not_have_is_refused_unless_ignored() -> None:
    data = b'{"sensor":"a","celsius":1.5,"old":1}'
    assert decode_refusal(Reading, data) == (
        "Reading: 'old' is not declared; give the field a default, keep it, or give a migration"
    )
    assert codec_of(Reading, unknown_fields="ignore").decode(data) == Reading("a", 1.5)
    assert codec_of(Options, unknown_fields="ignore").decode(b'{"name":"a","old":1}') == {"name": "a"}


def test_an_int_field_can_become_a_float_field() -> None:
    assert codec_of(float).decode(b"5") == 5.0
    assert type(codec_of(list[float]).decode(b"[5]")[0]) is float


def test_a_field_can_become_optional_or_a_union() -> None:
    assert codec_of(int | None).decode(codec_of(int).encode(5)) == 5
    assert codec_of(int | str).decode(codec_of(int).encode(5)) == 5
    assert type(codec_of(int | float).decode(b"5")) is int
    assert type(codec_of(int | float).decode(b"5.0")) is float
    assert codec_of(Reading | Alarm).decode(codec_of(Reading).encode(Reading("a", 1.0))) == Reading("a", 1.0)


def test_what_was_stored_as_a_former_alternative_is_not_taken_for_another() -> None:
    assert "stored as Gone, which is none of dict[str, float] | int" in decode_refusal(
        dict[str, float] | int, b'{"$Gone":1.5}'
    )


def test_data_that_two_alternatives_could_be_is_not_guessed() -> None:
    assert "which fits 2 of them" in decode_refusal(dt.date | str, b'"2024-01-01"')


@attrs.define
class Summary:
    count: int = 0
    mean: float = 0.0


def rename_total(plain: Any) -> Any:
    plain["mean"] = plain.pop("total") / max(plain["count"], 1)
    return plain


def test_a_state_carries_its_type_and_version() -> None:
    codec = state_codec_of(Summary, version=2, migrations={1: rename_total})
    assert json.loads(codec.encode(Summary(1, 2.0))) == {
        "type": "Summary",
        "version": 2,
        "value": {"count": 1, "mean": 2.0},
    }


def test_a_state_is_migrated_step_by_step() -> None:
    codec = state_codec_of(
        Summary, version=3, migrations={1: lambda total: {"count": 4, "total": total}, 2: rename_total}
    )
    assert codec.decode(b'{"type":"Summary","version":1,"value":8.0}') == Summary(4, 2.0)
    assert codec.decode(b'{"type":"Summary","version":2,"value":{"count":2,"total":3.0}}') == Summary(2, 1.5)
    assert codec.decode(codec.encode(Summary(1, 1.0))) == Summary(1, 1.0)


def test_a_state_of_a_later_version_is_refused() -> None:
    with pytest.raises(
        StoreTooNew, match="Summary: stored as version 9 of Summary, and this program knows versions up to 1"
    ):
        state_codec_of(Summary).decode(b'{"type":"Summary","version":9,"value":{}}')


def test_a_state_of_another_type_is_refused_unless_a_migration_takes_it_over() -> None:
    data = b'{"type":"Total","version":1,"value":{"count":1,"total":2.0}}'
    with pytest.raises(CannotDecode, match="Summary: stored as Total; declare that, or raise the version"):
        state_codec_of(Summary).decode(data)
    assert state_codec_of(Summary, version=2, migrations={1: rename_total}).decode(data) == Summary(1, 2.0)


@pytest.mark.parametrize(
    ("version", "steps", "reason"),
    [
        (2, [], "from version 1 to 2 is missing"),
        (4, [1, 3], "from version 2 to 3 is missing"),
        (4, [2], "from version 3 to 4 is missing"),
        (2, [1, 2], "a migration from version 2 leads to none"),
        (2, [0, 1], "a migration from version 0 leads to none"),
        (0, [], "version 0 is not a whole number from 1"),
        (True, [], "version True is not"),
    ],
)
def test_a_missing_or_needless_migration_is_refused_at_once(version: int, steps: list[int], reason: str) -> None:
    with pytest.raises(CannotStore, match=reason):
        state_codec_of(Summary, version=version, migrations=dict.fromkeys(steps, rename_total))


def test_a_state_older_than_the_oldest_migration_is_refused() -> None:
    codec = state_codec_of(Summary, version=4, migrations={3: rename_total})
    with pytest.raises(CannotDecode, match="stored as version 1, and the migration from version 1 to 2 is missing"):
        codec.decode(b'{"type":"Summary","version":1,"value":{}}')


def test_a_migration_that_fails_or_makes_something_else_is_named() -> None:
    codec = state_codec_of(Summary, version=2, migrations={1: rename_total})
    with pytest.raises(CannotDecode, match="migration from version 1 to 2 failed: KeyError: 'total'") as caught:
        codec.decode(b'{"type":"Summary","version":1,"value":{"count":1}}')
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(CannotDecode, match=r"Summary\.count: expected int, got 'a'"):
        codec.decode(b'{"type":"Summary","version":2,"value":{"count":"a"}}')


@pytest.mark.parametrize(
    "data", [b"{}", b"[]", b'{"count":1}', b'{"type":"Summary","version":"1","value":{}}', b"null"]
)
def test_bytes_without_an_envelope_are_no_state(data: bytes) -> None:
    with pytest.raises(CannotDecode, match="the stored bytes are no state"):
        state_codec_of(Summary).decode(data)
