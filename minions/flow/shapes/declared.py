"""Reads a declared type into its shape, or refuses it with the place and what to do. No thread, no lock.

The world of types is closed: what is not named here is refused, so that nothing is stored that nobody has thought of.
"""

from __future__ import annotations

import collections
import collections.abc
import dataclasses
import enum
import inspect
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

import attrs

from minions.errors import CannotStore
from minions.flow.shapes.annotations import field_types, full_name_of, name_of, origin_of
from minions.flow.shapes.choices import LiteralShape, OptionalShape, UnionShape
from minions.flow.shapes.containers import (
    ArrayShape,
    DefaultDictShape,
    DequeShape,
    KeyJson,
    MappingShape,
    PlainShape,
    TupleShape,
)
from minions.flow.shapes.numpy_array import numpy_shape
from minions.flow.shapes.records import Field, RecordShape, TypedDictShape
from minions.flow.shapes.scalars import SCALARS, enum_shape
from minions.flow.shapes.shape import Shape, Unfit, is_key

_KEEP_OUT = "keep it in a private attribute of the component, or declare the inbox with durable=False"
_ANYTHING = "name the type; a bare dict or list takes plain JSON data"
_REMEDIES: dict[Any, str] = {
    Any: _ANYTHING,
    object: _ANYTHING,
    typing.Self: "name the class",
    enum.Enum: "declare the enumeration itself",
    type: "store the name of the class",
    tuple: "say what it holds, as in tuple[int, str] or tuple[int, ...]",
    set: "say what it holds, as in set[str]",
    frozenset: "say what it holds, as in frozenset[str]",
    collections.deque: "say what it holds, as in deque[str]",
    collections.Counter: "say what it counts, as in Counter[str]",
    collections.OrderedDict: "say what it holds, as in OrderedDict[str, int]",
    collections.defaultdict: "say what it holds, as in defaultdict[str, int]",
    collections.abc.Callable: "store the name of the function",
    types.FunctionType: "store the name of the function",
    **dict.fromkeys(
        (collections.abc.Sequence, collections.abc.Collection, collections.abc.Iterable),
        "declare the class that is used, list[...] or tuple[..., ...]",
    ),
    collections.abc.MutableSequence: "declare list[...]",
    collections.abc.Mapping: "declare dict[..., ...]",
    collections.abc.MutableMapping: "declare dict[..., ...]",
    collections.abc.Set: "declare set[...] or frozenset[...]",
    collections.abc.MutableSet: "declare set[...]",
}
_BUILT_IN = (int, float, complex, str, bytes, bytearray, list, tuple, set, frozenset, dict, collections.deque)
_WRAPPERS = {
    typing.Annotated,
    typing.Final,
    typing.Required,
    typing.NotRequired,
    getattr(typing, "ReadOnly", typing.Final),
}


def shape_of(declared: Any, key_json: KeyJson, *, ignore_unknown: bool) -> Shape:
    """The shape of a declared type.

    Args:
        key_json: writes and reads the JSON text of a dict's key that is not a str.
        ignore_unknown: whether stored fields that a class does not have are dropped.

    Raises:
        CannotStore: with class, field and remedy, for all the parts that cannot be stored at once.
    """
    reader = _Reader(key_json, ignore_unknown)
    try:
        shape = reader.read(declared, name_of(declared))
    except RecursionError as error:
        raise CannotStore(f"{name_of(declared)}: the type has no end; name the types of its fields") from error
    reader.check_keys()
    if reader.problems:
        raise CannotStore("\n".join(reader.problems))
    return shape


class _RefusedShape(Shape):
    """Stands where a type was refused, so that the reading goes on and finds the next problem."""

    name = "?"
    takes = ()

    def unstructure(self, value: Any) -> Any:
        return value

    def structure(self, plain: Any, _: object = None) -> Any:
        return plain


class _Reader:
    """Reads one declared type. `problems` is what was refused."""

    def __init__(self, key_json: KeyJson, ignore_unknown: bool) -> None:
        self.problems: list[str] = []
        self._key_json = key_json
        self._ignore_unknown = ignore_unknown
        self._classes: dict[Any, RecordShape | TypedDictShape] = {}
        self._keys: list[tuple[str, Shape, str]] = []
        self._open_aliases: list[Any] = []

    def read(self, declared: Any, where: str) -> Shape:
        """The shape of a part of the type; `where` it is, for what is refused."""
        for look in (self._scalar, self._wrapped, self._choice, self._collection, self._class):
            if (shape := look(declared, where)) is not None:
                return shape
        return self._refuse(declared, where)

    def check_keys(self) -> None:
        """Keys can be judged when all classes have been read to their end."""
        for where, key, what in self._keys:
            if not isinstance(key, _RefusedShape) and not is_key(key):
                self._problem(
                    f"{where}: {key.name} can change or is compared by identity, so it cannot be {what} that is stored; "
                    "use a text, a number, a tuple or a frozen class"
                )

    # What a type may be: each of these returns None for what it does not know -------------------------------------

    def _scalar(self, declared: Any, where: str) -> Shape | None:
        if isinstance(declared, type) and issubclass(declared, enum.Enum) and len(declared):
            return enum_shape(declared, name_of(declared))
        if declared in (list, dict) or (declared in (typing.List, typing.Dict)):  # noqa: UP006 - as users write it
            return PlainShape(origin_of(declared))
        try:
            make = SCALARS.get(type(None) if declared is None else declared)
        except TypeError:  # an annotation that cannot be hashed
            return None
        return make() if make else numpy_shape(origin_of(declared), typing.get_args(declared))

    def _wrapped(self, declared: Any, where: str) -> Shape | None:
        if isinstance(declared, typing.NewType):
            return self.read(declared.__supertype__, where)
        if typing.get_origin(declared) in _WRAPPERS:
            return self.read(typing.get_args(declared)[0], where)
        alias = origin_of(declared)
        if type(alias).__name__ != "TypeAliasType":
            return None
        if declared in self._open_aliases:
            return self._refuse(declared, where, "an alias that contains itself has no name to store; make it a class")
        self._open_aliases.append(declared)
        arguments = typing.get_args(declared)
        shape = self.read(alias.__value__[arguments] if arguments else alias.__value__, where)
        self._open_aliases.pop()
        return shape

    def _choice(self, declared: Any, where: str) -> Shape | None:
        origin, arguments = typing.get_origin(declared), typing.get_args(declared)
        if origin is typing.Literal:
            try:
                return LiteralShape([(value, self.read(type(value), where)) for value in arguments])
            except (Unfit, TypeError) as error:
                return self._problem(f"{where}: {error}; use an enumeration")
        if origin not in (typing.Union, types.UnionType):
            return None
        members = [self.read(argument, where) for argument in arguments if argument is not type(None)]
        if any(isinstance(member, _RefusedShape) for member in members):
            return _RefusedShape()
        if clash := _clash(members):
            return self._problem(f"{where}: {clash}; make one of them a class of its own")
        shape = members[0] if len(members) == 1 else UnionShape(members)
        return OptionalShape(shape) if len(members) < len(arguments) else shape

    def _collection(self, declared: Any, where: str) -> Shape | None:
        origin, arguments = typing.get_origin(declared), typing.get_args(declared)
        if origin is tuple and declared is not typing.Tuple:  # noqa: UP006 - as users write it
            if len(arguments) == 2 and arguments[1] is Ellipsis:
                return ArrayShape(tuple, self.read(arguments[0], where))
            return TupleShape([self.read(argument, where) for argument in arguments])
        if not arguments:
            return None
        if origin is list:
            return ArrayShape(list, self.read(arguments[0], where))
        if origin is collections.deque:
            return DequeShape(self.read(arguments[0], where))
        if origin in (set, frozenset):
            return ArrayShape(origin, self._key(arguments[0], where, "in a set"))
        return self._mapping(origin, arguments, where)

    def _mapping(self, origin: Any, arguments: tuple[Any, ...], where: str) -> Shape | None:
        if origin is collections.Counter:
            arguments = (*arguments, int)
        elif origin not in (dict, collections.OrderedDict, collections.defaultdict):
            return None
        key, value = self._key(arguments[0], where, "a key"), self.read(arguments[1], where)
        if isinstance(value, _RefusedShape):
            return value
        if origin is collections.defaultdict:
            return DefaultDictShape(key, value, self._key_json)
        return MappingShape(origin, key, value, self._key_json)

    def _key(self, declared: Any, where: str, what: str) -> Shape:
        key = self.read(declared, where)
        self._keys.append((where, key, what))
        return key

    def _class(self, declared: Any, where: str) -> Shape | None:
        cls = origin_of(declared)
        if not isinstance(cls, type) or not (_has_fields(cls) or typing.is_typeddict(cls)):
            return None
        if (known := self._classes.get(declared)) is not None:
            known.unbounded = known.unbounded or not known.finished
            return known
        if (problem := _misdeclared(cls)) is not None:
            return self._problem(problem)
        try:
            hints = field_types(declared)
        except (NameError, TypeError) as error:
            return self._problem(
                f"{name_of(cls)}: its annotations cannot be read, {error}; write what they name at module level"
            )
        name = name_of(declared)
        if typing.is_typeddict(cls):
            shape: RecordShape | TypedDictShape = TypedDictShape(name)
            fields = [(key, _is_required(cls, key, hint), None) for key, hint in hints.items()]
        else:
            shape = _record_shape(cls, name, hints)
            fields = [(a.name, a.default is attrs.NOTHING, a if a.init else None) for a in _attributes(cls)]
        self._classes[declared] = shape
        read = [Field(key, self._field(key, hints, name), required, init) for key, required, init in fields]
        shape.finish(read, ignore_unknown=self._ignore_unknown)
        return shape

    def _field(self, field: str, hints: Mapping[str, Any], name: str) -> Shape:
        if field not in hints:
            return self._problem(f"{name}.{field}: it has no type; annotate it")
        return self.read(hints[field], f"{name}.{field}")

    # What is refused ----------------------------------------------------------------------------------------------

    def _refuse(self, declared: Any, where: str, remedy: str | None = None) -> Shape:
        origin = origin_of(declared)
        if remedy is None and isinstance(origin, collections.abc.Hashable):
            remedy = _REMEDIES.get(origin)
        if isinstance(declared, (str, typing.ForwardRef)):
            remedy = "it is a name in quotes; write the type itself"
        if getattr(origin, "__module__", None) == "numpy":
            remedy = "declare int, float or numpy.ndarray"
        if remedy is None and isinstance(declared, TypeVar):
            remedy = "give the generic class its types, as in Box[int]"
        if remedy is None and isinstance(origin, type) and issubclass(origin, _BUILT_IN):
            remedy = "it would come back as its base class; declare that, or an attrs class with a field for it"
        return self._problem(f"{where}: a {full_name_of(declared)} cannot be stored; {remedy or _KEEP_OUT}")

    def _problem(self, text: str) -> Shape:
        if text not in self.problems:
            self.problems.append(text)
        return _RefusedShape()


def _clash(members: list[Shape]) -> str | None:
    """What two members of a union have in common, so that a value or its stored form does not tell which of them it is."""
    names = collections.Counter(member.name for member in members)
    classes = collections.Counter(cls for member in members for cls in set(member.takes))
    common = [name for name, count in names.items() if count > 1]
    common += [cls.__name__ for cls, count in classes.items() if count > 1]
    return f"two of {' | '.join(names.elements())} are a {common[0]} and cannot be told apart" if common else None


def _record_shape(cls: Any, name: str, hints: Mapping[str, Any]) -> RecordShape:
    own_init = _has_own_init(cls)
    if _is_named_tuple(cls):
        fixed, post_init = True, False
    elif attrs.has(cls):
        fixed = _is_frozen(cls)
        post_init = hasattr(cls, "__attrs_pre_init__") or hasattr(cls, "__attrs_post_init__")
    else:
        fixed, post_init = cls.__dataclass_params__.frozen, hasattr(cls, "__post_init__")
    attributes = _attributes(cls)
    # A converter that is the class of its field gives back what it has made.
    converts = any(a.converter and a.converter is not origin_of(hints.get(a.name)) for a in attributes)
    return RecordShape(
        cls,
        name,
        fixed=fixed,
        by_value=cls.__eq__ is not object.__eq__ and cls.__hash__ is not None,
        runs_code=own_init or post_init or converts,
        validates=any(a.validator for a in attributes),
    )


def _attributes(cls: Any) -> list[Any]:
    """The attrs fields of an attrs class, or those that a dataclass or NamedTuple would have as one."""
    if attrs.has(cls):
        # By keyword where `__init__` is the user's own, and may have another order.
        return [a.evolve(kw_only=a.kw_only or _has_own_init(cls)) for a in attrs.fields(cls)]
    if _is_named_tuple(cls):
        defaults = cls._field_defaults
        fields = {name: attrs.field(default=defaults.get(name, attrs.NOTHING), alias=name) for name in cls._fields}
    else:
        fields = {
            field.name: attrs.field(
                default=attrs.NOTHING if _is_without_default(field) else None,  # that it has one is all that counts
                init=field.init,
                kw_only=bool(field.kw_only) or _has_own_init(cls),
                alias=field.name,
            )
            for field in dataclasses.fields(cls)
        }
    return list(attrs.fields(attrs.make_class("Twin", fields)))


def _misdeclared(cls: Any) -> str | None:
    """Why instances of a class with fields would not come back whole, with the remedy."""
    name = name_of(cls)
    if typing.is_typeddict(cls):
        return None
    own_mark = "_fields" if _is_named_tuple(cls) else "__attrs_attrs__" if attrs.has(cls) else "__dataclass_fields__"
    if own_mark not in vars(cls):
        return (
            f"{name}: it would come back as the class that it is derived from; decorate it too, or declare that class"
        )
    if not _is_named_tuple(cls) and (base := next((base for base in _BUILT_IN if issubclass(cls, base)), None)):
        return f"{name}: as a {base.__name__} it holds what is no field, which would be lost; make that a field"
    for field in getattr(cls, "__dataclass_fields__", {}).values():
        if not attrs.has(cls) and field._field_type is dataclasses._FIELD_INITVAR:  # type: ignore[attr-defined]
            return f"{name}.{field.name}: an InitVar is not kept, and {name} cannot be made without; make it a field"
    if _has_own_init(cls):
        taken = inspect.signature(cls.__init__).parameters
        open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values())
        missing = [a.name for a in _attributes(cls) if a.init and a.alias not in taken]
        if missing and not open_ended:
            return f"{name}: its __init__ does not take {', '.join(missing)}, so it cannot be made again; let it take each field"
    return None


def _has_fields(cls: type) -> bool:
    return attrs.has(cls) or dataclasses.is_dataclass(cls) or _is_named_tuple(cls)


def _is_named_tuple(cls: Any) -> bool:
    return issubclass(cls, tuple) and hasattr(cls, "_fields")


def _has_own_init(cls: Any) -> bool:
    """Whether `__init__` or `__new__` was written by hand."""
    if _is_named_tuple(cls):
        return False
    if cls.__new__ is not object.__new__:
        return True
    return "__attrs_init__" in vars(cls) if attrs.has(cls) else not cls.__dataclass_params__.init


def _is_frozen(cls: Any) -> bool:
    """Whether an attrs class is frozen, which it only shows by what it does."""
    try:
        object.__new__(cls).anything = None
    except attrs.exceptions.FrozenError:
        return True
    except Exception:  # noqa: BLE001 - a class with slots, or a __setattr__ of its own
        return False
    return False


def _is_without_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _is_required(cls: Any, key: str, hint: Any) -> bool:
    # Under `from __future__ import annotations` the class itself does not know; its annotations do.
    wrapper = typing.get_origin(hint)
    if wrapper in (typing.Required, typing.NotRequired):
        return wrapper is typing.Required
    return key in cls.__required_keys__
