"""The states of one life, between the values that user code changes and their stored forms. Component's thread only; no lock."""

from __future__ import annotations

from typing import Any, Final

from minions.flow.codec import TypeCodec
from minions.model.ports import State

__all__ = ["NO_STATES", "States"]


class States:
    """Knows what the last whole unit left of each state, and so what a unit has changed."""

    def __init__(
        self, declared: dict[str, State[Any]], codecs: dict[str, TypeCodec[Any]], kept: dict[str, bytes]
    ) -> None:
        """Begins where the last whole unit ended.

        Args:
            declared: the states by name.
            codecs: how each is stored.
            kept: the stored form of each, as of the last whole unit; none where there has never been one.
        """
        self._declared = declared
        self._codecs = codecs
        self._kept = kept
        self._made_from: dict[str, Any] = {}  # the values that the stored forms were made from
        self._left: dict[str, Any] | None = None  # the values, while those of another partition are in their place

    def enter(self, values: dict[str, Any]) -> None:
        """Puts the values of this partition in their place."""
        if self._left is None:
            self.restore(values)
        else:
            values.update(self._left)

    def leave(self, values: dict[str, Any]) -> None:
        """Takes the values out of their place, which is another partition's now."""
        self._left = {name: values.pop(name) for name in self._codecs}

    def restore(self, values: dict[str, Any]) -> None:
        """Sets every value to what the last whole unit left."""
        for name, codec in self._codecs.items():
            stored = self._kept.get(name)
            if stored is None:
                values[name] = self._declared[name].first_value()
                self._made_from.pop(name, None)
            else:
                values[name] = self._made_from[name] = codec.decode(stored)

    def kept(self) -> dict[str, bytes]:
        """The stored forms as of the last whole unit; none where the value is still the first."""
        return dict(self._kept)

    def changed(self, values: dict[str, Any]) -> dict[str, bytes]:
        """The stored forms of the values that differ from what the last whole unit left.

        A value that can change is always encoded, because it may have changed without having been assigned.
        """
        changed: dict[str, bytes] = {}
        for name, codec in self._codecs.items():
            value = values[name]
            if codec.immutable and name in self._made_from and value is self._made_from[name]:
                continue
            stored = codec.encode(value)
            if stored != self._kept.get(name):
                changed[name] = stored
        return changed

    def saved(self, changed: dict[str, bytes], values: dict[str, Any]) -> None:
        """Takes note that a unit with these changes is whole."""
        for name, stored in changed.items():
            self._kept[name] = stored
            self._made_from[name] = values[name]


NO_STATES: Final = States({}, {}, {})
"""What is in place where no partition's message is being handled."""
