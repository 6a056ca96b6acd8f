"""The shapes of classes with fields: attrs classes, dataclasses, NamedTuples, TypedDicts. No thread, no lock."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import attrs
import cattrs
from cattrs.gen import make_dict_structure_fn_from_attrs

from minions.flow.shapes.shape import Direction, NoExample, Part, Shape, compiled, hook, plain_form, shown


@attrs.frozen
class Field:
    """One field of a record.

    Attributes:
        attribute: the attrs field from which cattrs makes an argument of `__init__`; None where the field is set
            afterwards (`init=False`), or where there is no `__init__`.
    """

    name: str
    shape: Shape
    required: bool
    attribute: Any = None


class RecordShape(Shape):
    """An attrs class, a dataclass, a NamedTuple: an object by field name, fields with `init=False` included.

    A field that is absent in what was stored gets its default.
    """

    finished = False
    fields: Sequence[Field] = ()

    def __init__(self, cls: type, name: str, *, fixed: bool, by_value: bool, runs_code: bool, validates: bool) -> None:
        self.name = name
        self.takes = (cls,)
        self.fixed = fixed
        self.by_value = by_value
        self.runs_code = runs_code
        self.validates = validates
        self._cls = cls

    def finish(self, fields: Sequence[Field], *, ignore_unknown: bool) -> None:
        """Compile both directions. Until this is called, the shape can be referred to and not used."""
        self.fields = tuple(fields)
        self.children = tuple(field.shape for field in fields)
        self.unstructure = self._unstructurer()
        self.structure = self._structurer(ignore_unknown)
        self.finished = True

    def _unstructurer(self) -> Callable[[Any], Any]:
        # A field with a plain form is written as `'sensor': v0 if type(v0) is str else dump0(v0)`; each is read once,
        # so that what was checked is what is stored, whatever other threads do.
        names: dict[str, Any] = {"cls": self._cls, "unfit": self.unfit}
        reads, pairs = [], []
        for number, field in enumerate(self.fields):
            names[f"dump{number}"] = hook(field.shape, "unstructure")
            reads.append(f"    v{number} = value.{field.name}")
            pairs.append(f"{field.name!r}: {plain_form(field.shape, f'v{number}', f'dump{number}')}")
        head = ["def run(value):", "    if type(value) is not cls:", "        raise unfit(value)"]
        return compiled([*head, *reads, f"    return {{{', '.join(pairs)}}}"], names, self.name)

    def _structurer(self, ignore_unknown: bool) -> Callable[..., Any]:
        # cattrs asks the converter for the hook of each field's type, and the types that it is shown are our shapes.
        # (Hooks as keyword arguments of the generator would collide with fields named `cl` or `converter`.)
        converter = cattrs.Converter(detailed_validation=False)
        converter.register_structure_hook_factory(
            lambda declared: isinstance(declared, Shape), lambda shape: hook(shape, "structure")
        )
        build: Callable[[Any, Any], Any] = make_dict_structure_fn_from_attrs(
            [field.attribute.evolve(type=field.shape) for field in self.fields if field.attribute],
            self._cls,
            converter,
            {parameter.__name__: Any for parameter in getattr(self._cls, "__parameters__", ())},
            _cattrs_use_linecache=False,
        )
        known = frozenset(field.name for field in self.fields)
        afterwards = [(field, hook(field.shape, "structure")) for field in self.fields if not field.attribute]

        def structure(plain: Any, _: object = None) -> Any:
            if type(plain) is not dict or not (known.issuperset(plain) or ignore_unknown):
                raise self.unfit(plain)
            return build(plain, None)

        def structure_all(plain: Any, _: object = None) -> Any:
            value = structure(plain)
            for field, load in afterwards:
                if field.required or field.name in plain:
                    object.__setattr__(value, field.name, load(plain[field.name]))
            return value

        return structure_all if afterwards else structure

    def parts(self, value: Any) -> Iterator[Part]:
        for field in self.fields:
            if hasattr(value, field.name):
                yield f".{field.name}", field.shape, getattr(value, field.name)

    def stored_parts(self, plain: Any) -> Iterator[Part]:
        if type(plain) is dict:
            for field in self.fields:
                if field.name in plain:
                    yield f".{field.name}", field.shape, plain[field.name]

    def complaint(self, value: object, error: BaseException, direction: Direction) -> str:
        if direction == "unstructure":
            unset = [field.name for field in self.fields if not hasattr(value, field.name)]
            if type(value) is self._cls and unset:
                return f"{', '.join(unset)} was never set; give a default"
            refused = f"expected {self.name}, got {shown(value)}"
            subclass = f"; declare {self.name} | {type(value).__name__}" if isinstance(value, self._cls) else ""
            return refused + subclass
        if not isinstance(value, dict):
            return f"expected {self.name}, got {shown(value)}"
        wrong = _wrong_keys(self.fields, value)
        if wrong is not None:
            return f"{wrong}; give the field a default, keep it, or give a migration"
        return f"the class refuses what was stored: {type(error).__name__}: {error}"

    def example(self, within: frozenset[Shape] = frozenset()) -> Any:
        if self in within:
            raise NoExample
        return {field.name: field.shape.example(within | {self}) for field in self.fields}

    def example_of_required(self) -> Any:
        """One without the fields that have defaults."""
        return {field.name: field.shape.example(frozenset([self])) for field in self.fields if field.required}


class TypedDictShape(Shape):
    """A dict with declared keys."""

    fixed = False
    finished = False
    fields: Sequence[Field] = ()

    def __init__(self, name: str) -> None:
        self.name = name
        self.takes = (dict,)

    def finish(self, fields: Sequence[Field], *, ignore_unknown: bool) -> None:
        """As in `RecordShape`."""
        self.fields = tuple(fields)
        self.children = tuple(field.shape for field in fields)
        known = frozenset(field.name for field in fields)
        required = frozenset(field.name for field in fields if field.required)
        dumps = {field.name: hook(field.shape, "unstructure") for field in fields}
        loads = {field.name: hook(field.shape, "structure") for field in fields}

        def unstructure(value: Any) -> Any:
            if type(value) is not dict or not required <= value.keys() <= known:
                raise self.unfit(value)
            return {key: dumps[key](inner) for key, inner in value.items()}

        def structure(plain: Any, _: object = None) -> Any:
            if type(plain) is not dict or not required <= plain.keys():
                raise self.unfit(plain)
            if not plain.keys() <= known and not ignore_unknown:
                raise self.unfit(plain)
            return {key: loads[key](inner) for key, inner in plain.items() if key in known}

        self.unstructure = unstructure
        self.structure = structure
        self.finished = True

    def parts(self, value: Any) -> Iterator[Part]:
        for field in self.fields:
            if field.name in value:
                yield f"[{field.name!r}]", field.shape, value[field.name]

    def stored_parts(self, plain: Any) -> Iterator[Part]:
        return self.parts(plain) if type(plain) is dict else iter(())

    def complaint(self, value: object, error: BaseException, direction: Direction) -> str:
        wrong = _wrong_keys(self.fields, value) if isinstance(value, dict) else None
        return f"expected {self.name}, and {wrong}" if wrong else super().complaint(value, error, direction)

    def example(self, within: frozenset[Shape] = frozenset()) -> Any:
        if self in within:
            raise NoExample
        return {field.name: field.shape.example(within | {self}) for field in self.fields}


def _wrong_keys(fields: Sequence[Field], found: Collection[Any]) -> str | None:
    if missing := [field.name for field in fields if field.required and field.name not in found]:
        return f"{', '.join(missing)} is missing"
    known = {field.name for field in fields}
    if unknown := [name for name in found if name not in known]:
        return f"{', '.join(map(shown, unknown))} is not declared"
    return None
