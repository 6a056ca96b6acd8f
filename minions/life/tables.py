"""The tables of a component, between user code and the rows that they are kept in.

A table is read where it is asked, never as a whole: what the open unit has done to it comes first, then what whole units have
done that is not on disk yet, then the disk. A live table belongs to the component's thread; a view is read by any thread.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping, MutableMapping, Sequence, ValuesView
from heapq import merge
from itertools import groupby, islice
from typing import Any, Final, Protocol, TypeVar

import attrs

from minions.errors import CannotDecode, CannotEncode, StoreTooNew, UsageError
from minions.flow import rows
from minions.flow.codec import TypeCodec, state_codec_of
from minions.flow.keys import KeyCodec, key_codec_of
from minions.flow.storage import RowReader
from minions.life.capture import Read
from minions.model.ports import Table

__all__ = ["NOTHING_UNSAVED", "LiveTable", "TableCodecs", "TableView", "table_codecs_of", "tables_on_disk"]

_MOST_CACHED = 4_096
_MOST_CACHED_BYTES = 16 << 20
_AT_ONCE = 256
_MOST_WALKS, _MOST_WALKED = 100, 1_000
_AFTER_SLASH = "0"  # the character behind the slash that prefixes end with: what begins so ends before it
_ABSENT: Final = object()

V = TypeVar("V")
V_co = TypeVar("V_co", covariant=True)


class _Read(Protocol[V_co]):
    """See `RowReader.rows`."""

    def __call__(self, first: str, end: str, most: int, *, after: bool) -> Sequence[tuple[str, V_co]]: ...


class Unsaved(Protocol):
    """What whole units have done to rows and is not on disk yet: the group commit of a journal."""

    def unsaved(self, prefix: str) -> dict[str, bytes | None]: ...
    def unsaved_row(self, prefix: str, key: str) -> tuple[bytes | None] | None: ...


class _NothingUnsaved:
    def unsaved(self, prefix: str) -> dict[str, bytes | None]:
        return {}

    def unsaved_row(self, prefix: str, key: str) -> tuple[bytes | None] | None:
        return None


NOTHING_UNSAVED: Final[Unsaved] = _NothingUnsaved()
"""Where no system runs, the disk is right."""


@attrs.frozen(eq=False)
class TableCodecs:
    """How the keys and values of one table are stored."""

    keys: KeyCodec
    values: TypeCodec[Any]


def table_codecs_of(table: Table[Any, Any]) -> TableCodecs:
    """The codecs of a declared table.

    Raises:
        CannotStore: its keys or its values cannot be stored.
    """
    values = state_codec_of(table.type, version=table.version, migrations=table.migrations)
    return TableCodecs(key_codec_of(table.key_type), values)


class _Items(ItemsView[Any, Any]):
    """Read a few rows at a time, and not one by one, as the mapping's own would be."""

    _mapping: TableView

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return self._mapping.between()


class _Values(ValuesView[Any]):
    """Likewise."""

    _mapping: TableView

    def __iter__(self) -> Iterator[Any]:
        return (value for _, value in self._mapping.between())


def tables_on_disk(disk: RowReader) -> Iterator[tuple[str, str]]:
    """Home and name of each table that has entries on disk. Reads one key of each."""
    at, end = rows.TABLES, rows.TABLES[:-1] + _AFTER_SLASH
    while found := disk.keys(at, end, 1):
        home, table, _ = rows.table_place(found[0][0])
        yield home, table
        at = rows.table_prefix(home, table)[:-1] + _AFTER_SLASH


class TableView(Mapping[Any, Any]):
    """A table as the last whole unit left it, to be read. Blocks for as long as the disk takes."""

    _wholes = 0  # how many units have changed it since it was made

    def __init__(self, name: str, home: str, codecs: TableCodecs, unsaved: Unsaved, disk: RowReader) -> None:
        """Args:
        name: of the table, in its component.
        home: the name under which the component's state is kept.
        codecs: how keys and values are stored.
        unsaved: knows what is not on disk yet.
        disk: reads the rest.
        """
        self._name = name
        self._codecs = codecs
        self._unsaved = unsaved
        self._disk = disk
        self._enter(home)

    def _enter(self, home: str) -> None:
        self._where = f"{home}.{self._name}"
        self.prefix = rows.table_prefix(home, self._name)

    def __getitem__(self, key: Any) -> Any:
        value = self._value(self._codecs.keys.encode(key))
        if value is _ABSENT:
            raise KeyError(key)
        return value

    def __iter__(self) -> Iterator[Any]:
        return (self._codecs.keys.decode(text) for text in self._texts())

    def items(self) -> ItemsView[Any, Any]:
        return _Items(self)

    def values(self) -> ValuesView[Any]:
        return _Values(self)

    def __len__(self) -> int:
        known = self._known()
        return self._disk.count(self.prefix, self._end, {self.prefix + text: there for text, there in known.items()})

    def between(self, first: Any = None, last: Any = None) -> Iterator[tuple[Any, Any]]:
        """See `Table.between`."""
        keys = self._codecs.keys
        begin = "" if first is None else keys.encode(first)
        end = None if last is None else keys.encode(last)
        for text, body in self._walk(self._disk.rows, begin, end):
            value = self._passing(text, body)
            if value is not _ABSENT:
                yield keys.decode(text), value

    def _texts(self) -> Iterator[str]:
        """The texts of all keys, in order; no value is read."""
        for text, there in self._walk(self._disk.keys, "", None):
            if there or self._is_there(text):
                yield text

    def _walk(self, read: _Read[V], begin: str, end: str | None) -> Iterator[tuple[str, V | None]]:
        """The texts of keys, in order, with what was read of each; None where that may be wrong, and has to be asked for."""
        prefix = self.prefix
        known = sorted(text for text in self._known() if text >= begin and (end is None or text <= end))
        on_disk = self._on_disk(read, begin, end)  # read after what is unsaved: a commit in between is then seen here
        both = merge(((text, None) for text in known), on_disk, key=lambda row: row[0])
        for text, group in groupby(both, key=lambda row: row[0]):
            found = [row for _, row in group]
            self._refuse_other_home(prefix)
            if len(found) > 1 or found[0] is None or found[0][1] != self._wholes:
                yield text, None
            else:
                yield text, found[0][0]

    @property
    def _end(self) -> str:
        """The end of the range of all keys."""
        return self.prefix[:-1] + _AFTER_SLASH

    def _on_disk(self, read: _Read[V], begin: str, end: str | None) -> Iterator[tuple[str, tuple[V, int]]]:
        """What is on disk, and how many units had changed the table when it was read.

        A few rows at a time, because a reader that stays keeps the log from being emptied.
        """
        prefix, after = self.prefix, False
        at, stop = prefix + begin, self._end if end is None else prefix + end + "\0"
        while found := read(at, stop, _AT_ONCE, after=after):
            as_of = self._wholes
            for key, what in found:
                yield key[len(prefix) :], (what, as_of)
            at, after = found[-1][0], True

    def _refuse_other_home(self, prefix: str) -> None:
        """An iteration may go on in a later unit, but not in that of another partition."""

    def _known(self) -> dict[str, bool]:
        """The keys about which the disk may be wrong, and whether they are there."""
        return {text: body is not None for text, body in self._unsaved.unsaved(self.prefix).items()}

    def _value(self, text: str) -> Any:
        body = self._body(text)
        return _ABSENT if body is None else self._decoded(text, body)

    def _is_there(self, text: str) -> bool:
        return self._body(text) is not None

    def _passing(self, text: str, body: bytes | None) -> Any:
        """A value that an iteration comes to, with what was read of it, or None where that may be wrong."""
        return self._value(text) if body is None else self._decoded(text, body)

    def _body(self, text: str) -> bytes | None:
        row = self._unsaved.unsaved_row(self.prefix, text)
        return row[0] if row is not None else self._disk.row(self.prefix + text)

    def _decoded(self, text: str, body: bytes) -> Any:
        try:
            return self._codecs.values.decode(body)
        except (CannotDecode, StoreTooNew) as error:
            key = self._codecs.keys.decode(text)
            raise type(error)(f"{self._where}[{key!r}]: {error}") from error

    def __repr__(self) -> str:
        return f"<table {self._where}>"


@attrs.define(eq=False)
class _Touched:
    """What the open unit has looked at or changed.

    Attributes:
        value: as it is now; _ABSENT where the entry was deleted.
        kept: the stored form as of the last whole unit; None where there is none, or it is not known.
        changed: whether it was assigned or deleted.
    """

    value: Any
    kept: bytes | None
    changed: bool


class _Walk:
    """What an iteration has met, for who replays the unit; no more than so many entries of it.

    Attributes:
        begin: the text of the first key that it could have met.
        last: up to which one it has met all that are there; None for the end of the table.
        met: what was read of each.
        is_over: whether it has come to its end.
    """

    __slots__ = ("begin", "end", "is_over", "last", "met")

    def __init__(self, begin: str, end: str | None) -> None:
        self.begin = begin
        self.end = end
        self.last: str | None = begin
        self.met: dict[str, Any] = {}
        self.is_over = False

    def noting(self, found: Iterator[tuple[str, V | None]]) -> Iterator[tuple[str, V | None]]:
        """Passes on what an iteration finds."""
        for text, body in islice(found, _MOST_WALKED):
            self.met[text] = body
            self.last = text
            yield text, body
        if len(self.met) < _MOST_WALKED:
            self.last = self.end
            self.is_over = True
        yield from found


class LiveTable(TableView, MutableMapping[Any, Any]):
    """A table in a running component. Component's thread only.

    Values that can change are encoded again at the end of each unit that has looked at them, and written if they differ.
    """

    def __init__(
        self,
        name: str,
        home: str,
        codecs: TableCodecs,
        unsaved: Unsaved,
        disk: RowReader,
        *,
        notes_reads: bool = False,
    ) -> None:
        """Args as for a view, and:

        notes_reads: whether it is noted, for `seen`, what iterations meet.
        """
        super().__init__(name, home, codecs, unsaved, disk)
        self._notes_reads = notes_reads
        self._touched: dict[str, _Touched] = {}
        self._encoded: dict[str, bytes | None] = {}  # the changes of the unit that is becoming whole
        self._cached: dict[
            str, tuple[Any, bytes | None]
        ] = {}  # value and stored form, by the whole key, the oldest first
        self._cached_bytes = 0
        self._in_place = True
        self._walks: list[_Walk] = []  # the iterations of the open unit
        self._length: int | None = None  # as of the last whole unit, where the open one has asked

    # ------------------------------------------------------------------ what the life does with it
    def enter(self, home: str) -> None:
        """Becomes the table of a partition."""
        self._in_place = True
        self._enter(home)

    def leave(self) -> None:
        """Belongs to no partition, and refuses everything."""
        self._in_place = False

    def changes(self) -> dict[str, bytes | None]:
        """The rows that the open unit writes, or deletes (None); the keys are those after `prefix`.

        Raises:
            CannotEncode: a value would not survive being stored.
        """
        self._encoded = {}
        immutable = self._codecs.values.immutable
        for text, touched in self._touched.items():
            if touched.value is _ABSENT:
                if touched.changed:
                    self._encoded[text] = None
            elif touched.changed or not immutable:
                stored = self._encode(text, touched.value)
                if stored != touched.kept:
                    self._encoded[text] = stored
        return self._encoded

    def saved(self) -> None:
        """Takes note that the unit of the last `changes` is whole."""
        self._wholes += bool(self._encoded)
        for text, touched in self._touched.items():
            self._cache(text, touched.value, self._encoded.get(text, touched.kept))
        self._touched.clear()
        self._encoded = {}
        if self._walks:
            self._walks.clear()
        self._length = None

    def restore(self) -> None:
        """Forgets what the open unit has done."""
        for text in self._touched:
            self._uncache(text)
        self._touched.clear()
        self._walks.clear()
        self._length = None

    def seen(self) -> Read:
        """What is at hand of the table as the last whole unit left it: more than the open unit has read, not less."""
        if not self._in_place:
            return Read({}, frozenset(), (), None)
        known: dict[str, bytes | None] = {}
        begin = len(self.prefix)
        for key in reversed(self._cached):
            if key.startswith(self.prefix):
                known.setdefault(key[begin:], self._cached[key][1])
        present: set[str] = set()
        ranges: list[tuple[str, str | None]] = []
        for walk in self._walks:
            upto = self._add_met(walk, known, present)
            if upto is not _ABSENT:
                ranges.append((walk.begin, upto))
        return Read(known, frozenset(present), tuple(ranges), self._length)

    def _add_met(self, walk: _Walk, known: dict[str, bytes | None], present: set[str]) -> Any:
        """Adds what an iteration has met; says up to which text, None for the end, everything is known: `_ABSENT` for nothing."""
        before: Any = _ABSENT
        for text, body in walk.met.items():
            if isinstance(body, bytes):
                known.setdefault(text, body)
            elif body is not None:
                if text not in known:
                    present.add(text)
            elif text not in known:
                row = self._unsaved.unsaved_row(self.prefix, text)
                if row is None:  # the open unit has assigned it without a look, or it was committed meanwhile
                    return before
                known[text] = row[0]
            before = text
        return walk.last if walk.met or walk.is_over else _ABSENT

    # ------------------------------------------------------------------ the mapping
    def __setitem__(self, key: Any, value: Any) -> None:
        self._refuse_out_of_place()
        text = self._codecs.keys.encode(key)
        if self._codecs.values.immutable:
            self._encode(text, value)  # one that cannot be stored fails where it is assigned
        self._touch(text, value)

    def __delitem__(self, key: Any) -> None:
        text = self._codecs.keys.encode(key)
        if self._value(text) is _ABSENT:
            raise KeyError(key)
        self._touch(text, _ABSENT)

    def _touch(self, text: str, value: Any) -> None:
        known = self._touched.get(text)
        self._touched[text] = _Touched(value, None if known is None or known.value is _ABSENT else known.kept, True)

    def between(self, first: Any = None, last: Any = None) -> Iterator[tuple[Any, Any]]:
        self._refuse_out_of_place()
        return super().between(first, last)

    def clear(self) -> None:
        for text in self._texts():
            self._touch(text, _ABSENT)

    def __len__(self) -> int:
        length = super().__len__()
        self._length = self._length_before(length)
        return length

    def _length_before(self, length: int) -> int | None:
        """How many entries the last whole unit left; None where the open one has changed some that it has not looked at."""
        for text, touched in self._touched.items():
            if touched.changed:
                before = touched.kept is not None
                if not before:
                    known = self._cached.get(self.prefix + text)
                    if known is None:
                        return None
                    before = known[1] is not None
                length += before - (touched.value is not _ABSENT)
        return length

    def _walk(self, read: _Read[V], begin: str, end: str | None) -> Iterator[tuple[str, V | None]]:
        found = super()._walk(read, begin, end)
        if not self._notes_reads or len(self._walks) >= _MOST_WALKS:
            return found
        walk = _Walk(begin, end)
        self._walks.append(walk)
        return walk.noting(found)

    def _known(self) -> dict[str, bool]:
        self._refuse_out_of_place()
        return super()._known() | {text: touched.value is not _ABSENT for text, touched in self._touched.items()}

    def _value(self, text: str) -> Any:
        self._refuse_out_of_place()
        touched = self._touched.get(text)
        if touched is not None:
            return touched.value
        key = self.prefix + text
        if key in self._cached:
            self._cached[key] = value, body = self._cached.pop(key)  # the last to be forgotten now
        else:
            body = self._body(text)
            value = _ABSENT if body is None else self._decoded(text, body)
            self._cache(text, value, body)
        self._look_at(text, value, body)
        return value

    def _is_there(self, text: str) -> bool:
        touched = self._touched.get(text)
        return super()._is_there(text) if touched is None else touched.value is not _ABSENT

    def _passing(self, text: str, body: bytes | None) -> Any:
        if body is None or text in self._touched or self.prefix + text in self._cached:
            return self._value(text)
        value = self._decoded(text, body)
        self._look_at(text, value, body)
        return value

    def _look_at(self, text: str, value: Any, body: bytes | None) -> None:
        if value is not _ABSENT and not self._codecs.values.immutable:
            self._touched[text] = _Touched(value, body, False)

    def _encode(self, text: str, value: Any) -> bytes:
        try:
            return self._codecs.values.encode(value)
        except CannotEncode as error:
            raise CannotEncode(f"{self._where}[{self._codecs.keys.decode(text)!r}]: {error}") from error

    # ------------------------------------------------------------------ the cache
    def _cache(self, text: str, value: Any, body: bytes | None) -> None:
        self._uncache(text)
        self._cached[self.prefix + text] = value, body
        self._cached_bytes += len(self.prefix) + len(text) + len(body or b"")
        while self._cached and (len(self._cached) > _MOST_CACHED or self._cached_bytes > _MOST_CACHED_BYTES):
            oldest = next(iter(self._cached))
            self._forget(oldest)

    def _uncache(self, text: str) -> None:
        if self.prefix + text in self._cached:
            self._forget(self.prefix + text)

    def _forget(self, key: str) -> None:
        _, body = self._cached.pop(key)
        self._cached_bytes -= len(key) + len(body or b"")

    def _refuse_other_home(self, prefix: str) -> None:
        self._refuse_out_of_place()
        if prefix != self.prefix:
            raise UsageError(
                f"{self._where}: this iteration has begun in another partition (partition_by); begin it anew in each handler"
            )

    def _refuse_out_of_place(self) -> None:
        if not self._in_place:
            raise UsageError(
                f"{self._where} has entries for each partition (partition_by), which are there while a message is handled: use "
                "it in a handler"
            )
