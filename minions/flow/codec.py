"""How messages and states become bytes and come back equal; what cannot is refused. No thread, no lock.

What can be declared can be stored: builtins, the values of the standard library, attrs classes, dataclasses, NamedTuples,
TypedDicts, enumerations, numpy arrays, collections and unions of them. Any other type is refused by `codec_of`, when a
system is declared; a value that is not what was declared is refused by `encode`, at the line that sends it. The bytes
are JSON, never pickle, and either JSON library reads what the other wrote.

A codec is built once for a type and may then be used by any number of threads at once.

Equal means the same class and the same contents, with this much of interpretation: an int in a field for floats comes
back as the equal float; an object that was held twice comes back as two; what is set on an instance and is no field of
its class is not stored.
"""

from __future__ import annotations

import importlib.util
import json as stdlib_json
from collections.abc import Callable, Mapping
from typing import Any, Generic, Literal, TypeVar

import attrs

from minions.errors import CannotDecode, CannotEncode, CannotStore, StoreTooNew
from minions.flow.shapes.declared import shape_of
from minions.flow.shapes.records import RecordShape
from minions.flow.shapes.sameness import is_same
from minions.flow.shapes.shape import Shape, fault, is_immutable, reachable, shown

__all__ = ["TypeCodec", "codec_of", "state_codec_of", "verify"]

T = TypeVar("T")
Json = Literal["auto", "orjson", "stdlib"]
UnknownFields = Literal["refuse", "ignore"]
Migration = Callable[[Any], Any]

MAX_DEPTH = 150
"""How many levels of JSON a value may have. orjson writes 254, and loading takes up to four of 1,000 Python frames a level."""


@attrs.frozen(eq=False)
class TypeCodec(Generic[T]):
    """How the values of one declared type are stored. Any thread may use it, several at once.

    Attributes:
        type: the declared type.
        name: what it is called beside stored data, without its module, so that a class may be moved: `Reading`,
            `dict[str, int]`.
        immutable: whether nothing in a value can change, so that threads may share the value itself. Of any other value
            each gets a copy of its own: `decode(encode(value))`.
        encode: makes JSON bytes of a value. Raises CannotEncode, with the path to what could not be loaded again.
        decode: makes the value of its bytes. Raises CannotDecode, with the path to what is not as declared.
    """

    type: Any
    name: str
    immutable: bool
    encode: Callable[[T], bytes] = attrs.field(repr=False)
    decode: Callable[[bytes], T] = attrs.field(repr=False)


def codec_of(declared: Any, *, json: Json = "auto", unknown_fields: UnknownFields = "refuse") -> TypeCodec[Any]:
    """The codec of a declared type. It takes about a millisecond, so do it once for a type.

    Args:
        declared: an attrs class, a dataclass, a builtin, `list[int]`, `dict[str, Foo]`, an enumeration, `A | B`, ...
        json: which JSON library; "auto" is orjson where it is installed.
        unknown_fields: what becomes of a stored field that its class does not have. To ignore it is to lose it for good
            when the value is stored again, so it is refused unless asked for.

    Raises:
        CannotStore: parts of the type cannot be stored, or an example did not come back equal. The message has class,
            field and remedy, for all such parts at once.
    """
    dumps, loads = _json_functions(json)
    shape = _shape_of(declared, dumps, loads, unknown_fields)
    unstructure, structure = _guarded(shape), shape.structure

    def encode(value: Any) -> bytes:
        try:
            return dumps(unstructure(value))
        except Exception as error:  # because of whatever a value of the user's raises; told with its path
            raise _cannot_encode(shape, value, dumps, error) from error

    def decode(data: bytes) -> Any:
        try:
            return structure(loads(data))
        except Exception as error:  # because of the same
            raise _cannot_decode(shape, _loaded(shape.name, data, loads), error) from error

    codec: TypeCodec[Any] = TypeCodec(declared, shape.name, is_immutable(shape), encode, decode)
    _try_example(shape, codec)
    return codec


def state_codec_of(
    declared: Any,
    *,
    version: int = 1,
    migrations: Mapping[int, Migration] = {},
    json: Json = "auto",
    unknown_fields: UnknownFields = "refuse",
) -> TypeCodec[Any]:
    """As `codec_of`, with the name of the type and a version in the bytes, so that a state outlives changes of its class.

    `decode` raises StoreTooNew for data of a later version, and CannotDecode for another type's, unless it is of an
    earlier version: a migration may take one class over from another.

    Args:
        declared: as for `codec_of`.
        version: the version of the class. Raise it by one with each change that needs a migration; a new field that has
            a default needs none.
        migrations: `migrations[n]` makes the plain JSON data of version n + 1 from that of version n; one for each
            version from the oldest that may be loaded. It may change the data in place, and returns it.
        json: as for `codec_of`.
        unknown_fields: as for `codec_of`.

    Raises:
        CannotStore: as for `codec_of`, or a migration is missing.
    """
    dumps, loads = _json_functions(json)
    shape = _shape_of(declared, dumps, loads, unknown_fields)
    unstructure, structure = _guarded(shape), shape.structure
    name, steps = shape.name, dict(migrations)
    _check_migrations(name, version, steps)

    def encode(value: Any) -> bytes:
        try:
            return dumps({"type": name, "version": version, "value": unstructure(value)})
        except Exception as error:  # because of the same
            raise _cannot_encode(shape, value, dumps, error) from error

    def decode(data: bytes) -> Any:
        plain = _migrated(_loaded(name, data, loads), name, version, steps)
        try:
            return structure(plain)
        except Exception as error:  # because of the same
            raise _cannot_decode(shape, plain, error) from error

    codec: TypeCodec[Any] = TypeCodec(declared, name, is_immutable(shape), encode, decode)
    _try_example(shape, codec)
    return codec


def verify(codec: TypeCodec[T], value: T) -> None:
    """Store a value and load it again, in memory.

    Compared are class and fields, whatever the class's own `==` says; NaN is the same as NaN.

    Raises:
        CannotStore: the value is refused, or does not come back the same.
    """
    try:
        again = codec.decode(codec.encode(value))
    except (CannotEncode, CannotDecode) as error:
        raise CannotStore(str(error)) from error
    if not is_same(value, again):
        raise CannotStore(f"{codec.name}: {_different(value, again)}")


# JSON -----------------------------------------------------------------------------------------------------------------

Dumps = Callable[[Any], bytes]
Loads = Callable[[bytes], Any]


def _json_functions(json: Json) -> tuple[Dumps, Loads]:
    if json == "orjson" or (json == "auto" and importlib.util.find_spec("orjson") is not None):
        import orjson  # noqa: PLC0415 - an extra

        dumps, copied = orjson.dumps, b"".join
        # orjson leaves what it returns in the buffer that it wrote it to, which takes 4 KiB for 100 bytes and 64 KiB for 5,000.
        return lambda plain: copied((dumps(plain), b"")), orjson.loads
    # Unescaped, as orjson writes it; to make UTF-8 of it then refuses lone surrogates, as orjson does.
    encoder = stdlib_json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), check_circular=False)
    decoder = stdlib_json.JSONDecoder(parse_constant=_refuse_constant)
    return lambda plain: encoder.encode(plain).encode(), lambda data: decoder.decode(str(data, "utf-8"))


def _refuse_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _shape_of(declared: Any, dumps: Dumps, loads: Loads, unknown_fields: UnknownFields) -> Shape:
    def write_key(plain: Any) -> str:
        return dumps(plain).decode()

    def read_key(text: str) -> Any:
        return loads(text.encode())

    return shape_of(declared, (write_key, read_key), ignore_unknown=unknown_fields == "ignore")


# What is asked of a value beyond its shape ----------------------------------------------------------------------------


class _TooDeep(Exception):
    pass


class _Different(Exception):
    pass


def _guarded(shape: Shape) -> Callable[[Any], Any]:
    """`unstructure`, and after it what some types need.

    Values that nest without end could be written and then not be read, so their depth is measured. Where loading runs
    code of a class that could refuse or change what was stored, the value is loaded at once: only this tells whether a
    converter takes what it has made. That doubles the time or more; validators of immutable classes are spared it.
    """
    found = reachable(shape)
    measured = any(part.unbounded for part in found)
    tried = any(part.runs_code or (part.validates and not is_immutable(part)) for part in found)
    if not measured and not tried:
        return shape.unstructure

    def unstructure(value: Any) -> Any:
        plain = shape.unstructure(value)
        if measured and _is_too_deep(plain):
            raise _TooDeep
        if tried:
            try:
                again = shape.structure(plain)
            except Exception as error:  # because of what the class raises when it is made; told
                raise _Different(f"it could not be loaded again: {_cannot_decode(shape, plain, error)}") from error
            # Plain data that is equal is the quick answer; that of a set may come in another order.
            if shape.unstructure(again) != plain and not is_same(value, again):
                raise _Different(_different(value, again))
        return plain

    return unstructure


def _is_too_deep(plain: Any) -> bool:
    level = [plain]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for part in level:
            if type(part) is dict:
                inner += part.values()
            elif type(part) is list:
                inner += part
        if not inner:
            return False
        level = inner
    return True


def _different(value: object, again: object) -> str:
    return f"{shown(value)} would come back as {shown(again)}; let converters and __init__ keep what they have made"


def _try_example(shape: Shape, codec: TypeCodec[Any]) -> None:
    """One example there and back. A class whose validators want what cannot be made up is left to `encode`."""
    examples: list[Callable[[], Any]] = [shape.example]
    if isinstance(shape, RecordShape):
        examples.append(shape.example_of_required)
    for example in examples:
        try:
            value = shape.structure(example())
        except Exception:  # noqa: BLE001 - the class's own code refuses in its own way
            continue
        verify(codec, value)
        return


# States ---------------------------------------------------------------------------------------------------------------


def _check_migrations(name: str, version: int, steps: Mapping[int, Migration]) -> None:
    if type(version) is not int or version < 1:
        raise CannotStore(f"{name}: version {version!r} is not a whole number from 1")
    for step in steps:
        if type(step) is not int or not 1 <= step < version:
            raise CannotStore(
                f"{name}: a migration from version {step!r} leads to none of the versions up to {version}"
            )
    for step in range(min(steps, default=max(version - 1, 1)), version):
        if step not in steps:
            raise CannotStore(
                f"{name}: the migration from version {step} to {step + 1} is missing; add {step}: ... to migrations"
            )


def _migrated(envelope: Any, name: str, version: int, steps: Mapping[int, Migration]) -> Any:
    """What is in the envelope, as of this version."""
    if type(envelope) is not dict or envelope.keys() != {"type", "version", "value"}:
        raise CannotDecode(f"{name}: the stored bytes are no state: type and version are missing")
    stored_name, stored_version, plain = envelope["type"], envelope["version"], envelope["value"]
    if type(stored_version) is not int:
        raise CannotDecode(f"{name}: the stored bytes are no state: its version is {shown(stored_version)}")
    if stored_version > version:
        raise StoreTooNew(
            f"{name}: stored as version {stored_version} of {stored_name}, and this program knows versions up to {version}; "
            "run the later program, or restore a snapshot that this one has made"
        )
    if stored_version == version and stored_name != name:
        raise CannotDecode(
            f"{name}: stored as {stored_name}; declare that, or raise the version and give a migration from it"
        )
    for step in range(stored_version, version):
        if step not in steps:
            raise CannotDecode(
                f"{name}: stored as version {stored_version}, and the migration from version {step} to {step + 1} is missing"
            )
        try:
            plain = steps[step](plain)
        except Exception as error:  # because of what the user's migration raises; told
            raise CannotDecode(
                f"{name}: the migration from version {step} to {step + 1} failed: {type(error).__name__}: {error}"
            ) from error
    return plain


# Errors ---------------------------------------------------------------------------------------------------------------


def _cannot_encode(shape: Shape, value: Any, dumps: Dumps, error: Exception) -> CannotEncode:
    if isinstance(error, (RecursionError, _TooDeep)):
        return CannotEncode(f"{shape.name}: nested deeper than {MAX_DEPTH} levels, or holds itself; store it flat")
    if isinstance(error, _Different):
        return CannotEncode(f"{shape.name}: {error}")
    where, why = fault(shape, value, "unstructure", _root(shape), lambda function, part: dumps(function(part)))
    return CannotEncode(f"{where}: {why}")


def _cannot_decode(shape: Shape, plain: Any, error: Exception) -> CannotDecode:
    if isinstance(error, RecursionError):
        return CannotDecode(f"{shape.name}: nested too deep to be loaded where so many calls are open already")
    where, why = fault(shape, plain, "structure", _root(shape), lambda function, part: function(part))
    return CannotDecode(f"{where}: {why}")


def _root(shape: Shape) -> str:
    return shape.name if isinstance(shape, RecordShape) else "$"


def _loaded(name: str, data: bytes, loads: Loads) -> Any:
    try:
        return loads(data)
    except Exception as error:  # because of each JSON library has errors of its own; told
        raise CannotDecode(f"{name}: the stored bytes are not JSON: {error}") from error
