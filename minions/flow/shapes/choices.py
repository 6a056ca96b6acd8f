"""The shapes of what may be one thing or another: Optional, unions, Literal. No thread, no lock."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from minions.flow.shapes.shape import Direction, NoExample, Part, Shape, Unfit, hook, shown


class OptionalShape(Shape):
    """A value or None. The value is stored as it is, so that a field can become optional without a migration."""

    def __init__(self, inner: Shape) -> None:
        self.name = f"{inner.name} | None"
        self.takes = (*inner.takes, type(None))
        self.children = (inner,)
        self.inline = f"({{v}} is None or {inner.inline})" if inner.inline else None
        dump, load = hook(inner, "unstructure"), hook(inner, "structure")
        self.unstructure = lambda value: None if value is None else dump(value)
        self.structure = lambda plain, _=None: None if plain is None else load(plain)

    def parts(self, value: Any) -> Iterator[Part]:
        if value is not None:
            yield "", self.children[0], value

    def stored_parts(self, plain: Any) -> Iterator[Part]:
        return self.parts(plain) if isinstance(plain, (dict, list)) else iter(())

    def complaint(self, value: object, error: BaseException, direction: Direction) -> str:
        return f"expected {self.name}, got {shown(value)}"

    def example(self, within: frozenset[Shape] = frozenset()) -> Any:
        try:
            return self.children[0].example(within)
        except NoExample:
            return None


class UnionShape(Shape):
    """One of several types. Stored with the name of the one: `{"$Alarm": {...}}`.

    Data without a name is taken where exactly one member takes it: it was stored before the union was declared.
    """

    def __init__(self, members: Sequence[Shape]) -> None:
        self.name = " | ".join(member.name for member in members)
        self.children = tuple(members)
        self._by_class = {cls: member for member in members for cls in member.takes}
        if float in self._by_class:
            self._by_class.setdefault(int, self._by_class[float])
        self.takes = tuple(self._by_class)
        self._by_tag = {f"${member.name}": member for member in members}
        dumps = {cls: (f"${member.name}", hook(member, "unstructure")) for cls, member in self._by_class.items()}

        def unstructure(value: Any) -> Any:
            found = dumps.get(type(value))
            if found is None:
                raise self.unfit(value)
            tag, dump = found
            return {tag: dump(value)}

        def structure(plain: Any, _: object = None) -> Any:
            member, inner = self._member(plain)
            return member.structure(inner)

        self.unstructure = unstructure
        self.structure = structure

    def parts(self, value: Any) -> Iterator[Part]:
        yield "", self._by_class[type(value)], value

    def stored_parts(self, plain: Any) -> Iterator[Part]:
        try:
            member, inner = self._member(plain)
        except Unfit:
            return
        yield "", member, inner

    def example(self, within: frozenset[Shape] = frozenset()) -> Any:
        for tag, member in self._by_tag.items():
            try:
                return {tag: member.example(within)}
            except NoExample:
                continue
        raise NoExample

    def _member(self, plain: Any) -> tuple[Shape, Any]:
        if type(plain) is dict and len(plain) == 1:
            [(tag, inner)] = plain.items()
            if tag in self._by_tag:
                return self._by_tag[tag], inner
            if tag.startswith("$"):
                raise Unfit(f"stored as {tag[1:]}, which is none of {self.name}")
        fitting = [member for member in self.children if _may_have_written(member, plain)]
        if len(fitting) != 1:
            raise Unfit(f"expected {self.name}, got {shown(plain)}, which fits {len(fitting) or 'none'} of them")
        return fitting[0], plain


def _may_have_written(shape: Shape, plain: Any) -> bool:
    try:
        return type(shape.unstructure(shape.structure(plain))) is type(plain)  # a float takes 5, and writes 5.0
    except Exception:  # noqa: BLE001 - each member refuses in its own way
        return False


class LiteralShape(Shape):
    """One of a few values, stored as each of them would be."""

    def __init__(self, members: Iterable[tuple[Any, Shape]]) -> None:
        # Looked up with the class, for True == 1, and a member of an IntEnum equals its number.
        plain_of: dict[tuple[type, Any], Any] = {}
        value_of: dict[tuple[type, Any], Any] = {}
        for value, shape in members:
            plain = shape.unstructure(value)
            if (type(plain), plain) in value_of:
                raise Unfit(f"two of the values have the same stored form, {plain!r}")
            plain_of[type(value), value] = plain
            value_of[type(plain), plain] = value
        self.name = f"Literal[{', '.join(map(_literal, value_of.values()))}]"
        self.takes = tuple({type(value) for value in value_of.values()})
        self.text = all(cls is str for cls, _ in value_of)
        self._example = next(plain for _, plain in value_of)

        self.unstructure = lambda value: plain_of[type(value), value]
        self.structure = lambda plain, _=None: value_of[type(plain), plain]

    def example(self, within: frozenset[Shape] = frozenset()) -> Any:
        return self._example


def _literal(value: Any) -> str:
    return f"{type(value).__name__}.{value.name}" if isinstance(value, enum.Enum) else repr(value)
