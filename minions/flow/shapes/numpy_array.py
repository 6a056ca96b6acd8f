"""The shape of numpy arrays, where the program has imported numpy; it is never imported here. No thread, no lock."""

from __future__ import annotations

import sys
from typing import Any

from minions.flow.shapes.scalars import bytes_from_text, bytes_to_text
from minions.flow.shapes.shape import Shape, Unfit

_KINDS = "biufcmMSU"
"""Bools, numbers, times and fixed-length texts. The others hold pointers, or are read back as something else."""


class NumpyShape(Shape):
    """A numpy array: dtype, shape, and the bytes in C order and base64."""

    fixed = False
    by_value = False

    def __init__(self, numpy: Any, scalar: Any) -> None:
        self.takes = (numpy.ndarray,)
        self.name = f"ndarray of {scalar.__name__}" if scalar else "ndarray"
        self._numpy = numpy
        self._scalar = scalar

    def unstructure(self, array: Any) -> Any:
        if type(array) is not self._numpy.ndarray:
            raise self.unfit(array)
        self._check(array.dtype)
        return {"dtype": array.dtype.str, "shape": list(array.shape), "data": bytes_to_text(array.tobytes())}

    def structure(self, plain: Any, _: object = None) -> Any:
        if type(plain) is not dict or plain.keys() != {"dtype", "shape", "data"}:
            raise self.unfit(plain)
        dtype = self._numpy.dtype(plain["dtype"])
        self._check(dtype)
        data = bytearray(bytes_from_text(plain["data"]))  # writable, as the array was
        flat = self._numpy.frombuffer(data, dtype) if data else self._numpy.empty(0, dtype)
        return flat.reshape(plain["shape"])

    def example(self, within: frozenset[Shape] = frozenset()) -> Any:
        try:
            return self.unstructure(self._numpy.zeros(2, self._scalar or float))
        except (TypeError, Unfit):  # an abstract class of scalars
            return self.unstructure(self._numpy.zeros(2, int))

    def _check(self, dtype: Any) -> None:
        if dtype.kind not in _KINDS:
            raise Unfit(f"an array of {dtype} cannot be stored; store numbers, times or texts of fixed length")
        if self._scalar is not None and not issubclass(dtype.type, self._scalar):
            raise Unfit(f"expected {self.name}, got one of {dtype}")


def numpy_shape(origin: Any, arguments: tuple[Any, ...]) -> NumpyShape | None:
    """The shape of `numpy.ndarray` or `numpy.typing.NDArray[...]`; None where it is neither."""
    numpy = sys.modules.get("numpy")
    if numpy is None or origin is not getattr(numpy, "ndarray", None):  # missing while another thread imports numpy
        return None
    scalar = None
    if len(arguments) == 2:  # ndarray[shape, dtype[scalar]]
        [scalar] = getattr(arguments[1], "__args__", (None,))
    return NumpyShape(numpy, scalar if isinstance(scalar, type) and scalar is not Any else None)


def is_same_array(one: Any, other: Any) -> bool | None:
    """Whether two arrays have the same dtype, shape and bytes; None for what is no array."""
    numpy = sys.modules.get("numpy")
    if numpy is None or type(one) is not getattr(numpy, "ndarray", None):
        return None
    return bool(one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes())
