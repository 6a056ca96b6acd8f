"""The shapes of lists, tuples, sets, deques and dicts. No thread, no lock."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from minions.flow.shapes.scalars import HIGHEST_INT, LOWEST_INT
from minions.flow.shapes.shape import NoExample, Part, Shape, Unfit, compiled, hook, plain_form, shown

KeyJson = tuple[Callable[[Any], str], Callable[[str], Any]]
"""Writes and reads the JSON text of a key."""


class PlainShape(Shape):
    """A bare `dict` or `list`: what JSON has by itself, to any depth, and nothing else. Also any one value inside it."""

    unbounded = True
    fixed = False

    def __init__(self, cls: type | None = None) -> None:
        self.name = cls.__name__ if cls else "plain JSON data"
        self.takes = (cls,) if cls else (list, dict)
        self._cls = cls

    def unstructure(self, value: Any) -> Any:
        if self._cls is not None and type(value) is not self._cls:
            raise self.unfit(value)
        _check_plain(value)
        return value

    def structure(self, plain: Any, _: object = None) -> Any:
        if self._cls is not None and type(plain) is not self._cls:
            raise self.unfit(plain)
        return plain

    def parts(self, value: Any) -> Iterator[Part]:
        anything = PlainShape()
        items = value.items() if type(value) is dict else enumerate(value)
        return ((f"[{shown(where)}]", anything, inner) for where, inner in items)

    def complaint(self, value: object, error: BaseException, direction: str) -> str:
        if direction == "unstructure" and not isinstance(error, Unfit):
            return f"{shown(value)} holds a lone surrogate, which is no text; store bytes"
        return str(error)

    def example(self, within: frozenset[Shape] = frozenset()) -> Any:
        return {"a": [1, 0.5, True, None]} if self._cls is dict else [1, 0.5, True, None, {"a": "b"}]


def _check_plain(value: Any) -> None:
    cls = type(value)
    if cls is list:
        for item in value:
            _check_plain(item)
    elif cls is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise Unfit(f"key {shown(key)} is not a str; declare the dict, as in dict[{type(key).__name__}, ...]")
            _check_plain(item)
    elif cls is int and not LOWEST_INT <= value <= HIGHEST_INT:
        raise Unfit(f"{shown(value)} is over 64 bits; declare it as int, which takes it")
    elif cls is float and value - value != 0.0:
        raise Unfit(f"{value} has no form in plain JSON; declare it as float, which takes it")
    elif cls not in (str, int, float, bool, type(None)):
        raise Unfit(f"{shown(value)} is not plain JSON data; declare what the dict or list holds")


class ArrayShape(Shape):
    """Any number of values of one shape: list, tuple, set, frozenset."""

    def __init__(self, cls: type, item: Shape) -> None:
        self.name = f"tuple[{item.name}, ...]" if cls is tuple else f"{cls.__name__}[{item.name}]"
        self.takes = (cls,)
        self.children = (item,)
        self.fixed = cls in (tuple, frozenset)
        self._cls = cls
        lines = [
            "def run(value):",
            "    if type(value) is not cls:",
            "        raise unfit(value)",
            f"    return [{plain_form(item, 'x', 'item')} for x in value]",
        ]
        self.unstructure = compiled(
            lines, {"cls": cls, "unfit": self.unfit, "item": hook(item, "unstructure")}, self.name
        )
        load = hook(item, "structure")

        def structure(plain: Any, _: object = None) -> Any:
            if type(plain) is not list:
                raise self.unfit(plain)
            items = [load(part) for part in plain]
            return items if cls is list else cls(items)

        self.structure = structure

    def parts(self, value: Any) -> Iterator[Part]:
        ordered = self._cls in (list, tuple, deque)
        for index, inner in enumerate(value):
            yield f"[{index}]" if ordered else f"{{{shown(inner)}}}", self.children[0], inner

    def stored_parts(self, plain: Any) -> Iterator[Part]:
        if type(plain) is list:
            for index, inner in enumerate(plain):
                yield f"[{index}]", self.children[0], inner

    def example(self, within: frozenset[Shape] = frozenset()) -> Any:
        try:
            return [self.children[0].example(within)]
        except NoExample:
            return []


class DequeShape(ArrayShape):
    """A deque, with its maximal length."""

    def __init__(self, item: Shape) -> None:
        super().__init__(deque, item)
        dump_items, load = self.unstructure, hook(item, "structure")

        def unstructure(value: Any) -> Any:
            items = dump_items(value)
            return [value.maxlen, items]

        def structure(plain: Any, _: object = None) -> Any:
            if not self._is_stored(plain):
                raise self.unfit(plain)
            maxlen, items = plain
            return deque([load(part) for part in items], maxlen)

        self.unstructure = unstructure
        self.structure = structure

    def stored_parts(self, plain: Any) -> Iterator[Part]:
        return super().stored_parts(plain[1]) if self._is_stored(plain) else iter(())

    def example(self, within: frozenset[Shape] = frozenset()) -> Any:
        return [5, super().example(within)]

    @staticmethod
    def _is_stored(plain: Any) -> bool:
        return (
            type(plain) is list and len(plain) == 2 and type(plain[0]) in (int, type(None)) and type(plain[1]) is list
        )


class TupleShape(Shape):
    """A tuple of fixed length, each place with a shape of its own."""

    def __init__(self, items: Sequence[Shape]) -> None:
        self.name = f"tuple[{', '.join(item.name for item in items) or '()'}]"
        self.takes = (tuple,)
        self.children = tuple(items)
        dumps = [hook(item, "unstructure") for item in items]
        loads = [hook(item, "structure") for item in items]
        length = len(items)

        def unstructure(value: Any) -> Any:
            if type(value) is not tuple or len(value) != length:
                raise self.unfit(value)
            return [dump(part) for dump, part in zip(dumps, value, strict=True)]

        def structure(plain: Any, _: object = None) -> Any:
            if type(plain) is not list or len(plain) != length:
                raise self.unfit(plain)
            return tuple([load(part) for load, part in zip(loads, plain, strict=True)])

        self.unstructure = unstructure
        self.structure = structure

    def parts(self, value: Any) -> Iterator[Part]:
        if len(value) == len(self.children):
            for index, (child, inner) in enumerate(zip(self.children, value, strict=True)):
                yield f"[{index}]", child, inner

    def stored_parts(self, plain: Any) -> Iterator[Part]:
        return self.parts(plain) if type(plain) is list else iter(())

    def example(self, within: frozenset[Shape] = frozenset()) -> Any:
        return [child.example(within) for child in self.children]


class MappingShape(Shape):
    """dict, OrderedDict, Counter, defaultdict: keys of one shape, values of one shape, in their order.

    JSON has text keys only. A key whose plain form is a text is stored as that, any other as the JSON text of its plain
    form.
    """

    fixed = False

    def __init__(self, cls: type, key: Shape, value: Shape, key_json: KeyJson) -> None:
        inside = key.name if cls is Counter else f"{key.name}, {value.name}"
        self.name = f"{cls.__name__}[{inside}]"
        self.takes = (cls,)
        self.children = (key, value)
        self._dump_key, self._load_key = _key_hooks(key, key_json)
        plain_key = plain_form(key, "k", "key") if key.text else "key(k)"
        lines = [
            "def run(value):",
            "    if type(value) is not cls:",
            "        raise unfit(value)",
            f"    plain = {{{plain_key}: {plain_form(value, 'x', 'item')} for k, x in value.items()}}",
            "    if len(plain) != len(value):",
            "        raise Unfit('two keys have the same stored form')",
            "    return plain",
        ]
        names = {"cls": cls, "unfit": self.unfit, "Unfit": Unfit}
        names |= {"key": self._dump_key, "item": hook(value, "unstructure")}
        self.unstructure = compiled(lines, names, self.name)
        load_key, load_value = self._load_key, hook(value, "structure")

        def structure(plain: Any, _: object = None) -> Any:
            if type(plain) is not dict:
                raise self.unfit(plain)
            items = {load_key(k): load_value(x) for k, x in plain.items()}
            return items if cls is dict else cls(items)

        self.structure = structure

    def parts(self, value: Any) -> Iterator[Part]:
        key, item = self.children
        for k, inner in value.items():
            yield f".key {shown(k)}", key, k
            yield f"[{shown(k)}]", item, inner

    def stored_parts(self, plain: Any) -> Iterator[Part]:
        if type(plain) is dict:
            key = _StoredKeyShape(self.children[0], self._load_key)
            for k, inner in plain.items():
                yield f".key {shown(k)}", key, k
                yield f"[{shown(k)}]", self.children[1], inner

    def example(self, within: frozenset[Shape] = frozenset()) -> Any:
        key, item = self.children
        try:
            return {self._dump_key(key.structure(key.example(within))): item.example(within)}
        except NoExample:
            return {}


class DefaultDictShape(MappingShape):
    """A defaultdict whose factory is the class of its values; no other factory could be found again."""

    def __init__(self, key: Shape, value: Shape, key_json: KeyJson) -> None:
        super().__init__(defaultdict, key, value, key_json)
        dump_items = self.unstructure
        factory = value.takes[0]
        load_key, load_value = self._load_key, hook(value, "structure")

        def unstructure(value: Any) -> Any:
            items = dump_items(value)
            if value.default_factory is not factory:
                raise Unfit(f"expected {factory.__name__} as default_factory, got {shown(value.default_factory)}")
            return items

        def structure(plain: Any, _: object = None) -> Any:
            if type(plain) is not dict:
                raise self.unfit(plain)
            return defaultdict(factory, {load_key(k): load_value(x) for k, x in plain.items()})

        self.unstructure = unstructure
        self.structure = structure


class _StoredKeyShape(Shape):
    """The text of a key, as a part that an error message can point at."""

    def __init__(self, key: Shape, load: Callable[[str], Any]) -> None:
        self.name = key.name
        self.takes = (str,)
        self.structure = load


def _key_hooks(key: Shape, key_json: KeyJson) -> tuple[Callable[[Any], str], Callable[[str], Any]]:
    dump, load = hook(key, "unstructure"), hook(key, "structure")
    if key.text:
        return dump, load
    write, read = key_json
    return lambda value: write(dump(value)), lambda text: load(read(text))
