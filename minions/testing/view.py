"""What invariants look at: states, tables and waiting messages, as of the last whole unit of work and as of the last commit.

A `View` is made for each process and reads only what it is asked for. What it answers is not to be changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from minions.errors import CannotEncode, UsageError
from minions.flow import rows
from minions.flow.channel import Channel, Entry
from minions.flow.codec import TypeCodec
from minions.flow.ledger import Ledger, Recovered
from minions.flow.storage import RowReader
from minions.life.plan import NodePlan
from minions.life.ports import message_of
from minions.life.runtime import Runtime
from minions.life.tables import NOTHING_UNSAVED, TableView, Unsaved
from minions.model.component import Component
from minions.model.partition import home_of, partition_of_key
from minions.model.topology import Topology
from minions.testing.callers import Called, Caller
from minions.testing.disk import MemoryDisk

__all__ = ["ComponentView", "Picture", "View", "changed_in"]

Read = dict[tuple[str, str, str], Any]
"""By the picture, the component and what was asked for of it."""


class View:
    """A simulated system at one moment, between two steps.

    ``view["bank"].total`` is the state `total` of the component ``bank`` as the last whole unit of work left it; a table is
    answered as a mapping, an inbox as a tuple of the messages that were sent to it and are not settled, in order: those that wait
    and those in work. ``view.committed["bank"].total`` is the same as of the last commit: what a crash now would leave.

    Attributes:
        whole: the system as of the last whole unit of work; ``view[...]`` is ``view.whole[...]``.
        committed: the system as of the last commit.
        crashes: how often the process has died so far.
        now_s: the simulation's time, monotonic seconds.
        at_end: whether the run has come to its end.
    """

    def __init__(
        self,
        topology: Topology,
        runtime: Runtime,
        disk: MemoryDisk,
        cache: dict[Any, Any],
        callers: Sequence[Caller] = (),
    ) -> None:
        """Args:
        topology: the system.
        runtime: that of the process that runs.
        disk: its disk.
        cache: what was decoded before; one for all views of a run.
        callers: who calls from outside.
        """
        self._callers = callers
        self._read: dict[tuple[str, str, str], Any] = {}  # what was asked for since the last `look`, and the answer
        self.crashes = 0
        self.now_s = 0.0
        self.at_end = False
        self.whole = Picture(topology, runtime, _Whole(runtime), cache, self._read, "")
        self._by_name = self.whole.by_name
        self.committed = Picture(topology, runtime, _Committed(disk, cache), cache, self._read, "committed ")

    def look(self, *, crashes: int, now_s: float, at_end: bool) -> None:
        """Begins another look; for the arguments see above."""
        self._read.clear()
        self.crashes = crashes
        self.now_s = now_s
        self.at_end = at_end

    @property
    def read(self) -> dict[str, Any]:
        """What was asked for since this look began, and the answer, for people."""
        return {"".join(asked): answer for asked, answer in self._read.items()}

    def __getitem__(self, component: Component | str) -> ComponentView:
        known = self._by_name.get(component) if type(component) is str else None
        return self.whole[component] if known is None else known

    def called(self, caller: str) -> tuple[Called, ...]:
        """The calls from outside that are over, of one caller, in order, with what it was told.

        Args:
            caller: its name, as in the argument `calls` of `simulate`.

        Raises:
            UsageError: there is no caller of that name.
        """
        found = next((each for each in self._callers if each.name == caller), None)
        if found is None:
            names = ", ".join(repr(each.name) for each in self._callers) or "none at all"
            raise UsageError(f"view.called({caller!r}): there is no such caller in calls={{...}}; there are {names}")
        called = self._read["", "called by ", caller] = tuple(found.called)
        return called

    def __repr__(self) -> str:
        return "<view>"


class _Source(Protocol):
    """Where a picture comes from."""

    def states(self, home: str) -> Mapping[str, bytes]: ...

    def messages(self, channel: Channel) -> tuple[Any, ...]: ...

    def unsaved(self) -> Unsaved: ...

    def reader(self) -> RowReader: ...

    def dead_letters(self) -> list[rows.DeadLetter]: ...


class Picture:
    """All components as of one moment. ``picture["bank"]``, or the component that was added in the place of its name."""

    def __init__(
        self, topology: Topology, runtime: Runtime, source: _Source, cache: dict[Any, Any], read: Read, prefix: str
    ) -> None:
        self._topology = topology
        self._runtime = runtime
        self._source = source
        self._cache = cache
        self._read = read
        self._prefix = prefix  # of what is noted as read
        self.by_name: dict[str, ComponentView] = {}  # what was made so far

    def __getitem__(self, component: Component | str) -> ComponentView:
        if isinstance(component, str) and (view := self.by_name.get(component)) is not None:
            return view
        node = self._topology.node_of(component) if isinstance(component, Component) else None
        name: Any = node.name if node is not None else component
        plan = self._runtime.plan.nodes.get(name) if isinstance(name, str) else None
        if plan is None:
            raise UsageError(
                f"there is no component {component!r} in the system that is simulated; there are "
                f"{', '.join(self._runtime.plan.nodes)}"
            )
        view = self.by_name[name] = ComponentView(plan, None, self._source, self._cache, self._read, self._prefix)
        return view

    def __repr__(self) -> str:
        return "<view of all components>"

    def dead_letters(self, component: Component | str) -> tuple[Any, ...]:
        """The messages of a component that were set aside and not retried."""
        view = self[component]
        name = view._plan.node.name
        letters = [each for each in self._source.dead_letters() if each.channel.partition(".")[0] == name]
        found = tuple(self._runtime.dead_letters.message_of(letter) for letter in letters)
        self._read[self._prefix, "dead letters of ", name] = found
        return found


class ComponentView:
    """One component; its states, tables and inboxes are attributes."""

    def __init__(
        self,
        plan: NodePlan,
        partition: int | None,
        source: _Source,
        cache: dict[Any, Any],
        read: Read,
        prefix: str,
    ) -> None:
        name = plan.node.name
        self._plan = plan
        self._home_of = name if partition is None else home_of(name, partition)
        self._prefixes = (prefix, f"{self._home_of}.")
        self._has_home = partition is not None or not plan.partitioned
        self._source = source
        self._cache = cache
        self._read = read
        self._prefix = prefix

    def partition(self, key: Any) -> ComponentView:
        """The same as seen from the partition of a key, for a component with `partition_by`.

        Raises:
            UsageError: it has no partitions, or that is no key.
        """
        name = self._plan.node.name
        if not self._plan.partitioned:
            raise UsageError(f"{name} has no partitions: say view[{name!r}] without partition({key!r})")
        try:
            partition = partition_of_key(key)
        except TypeError as error:
            raise UsageError(f"view[{name!r}].partition(key): {error}") from error
        return ComponentView(self._plan, partition, self._source, self._cache, self._read, self._prefix)

    def __getattr__(self, name: str) -> Any:
        plan = self._plan
        if name in plan.state_codecs:
            value = shown = self._state(name)
        elif name in plan.table_codecs:
            value = TableView(name, self._home, plan.table_codecs[name], self._source.unsaved(), self._source.reader())
            shown = dict(value)
        elif name in plan.reads:
            value = shown = self._source.messages(plan.reads[name])
        else:
            has = [*plan.state_codecs, *plan.table_codecs, *plan.reads]
            raise AttributeError(
                f"{plan.node.name} has no state, table or inbox {name!r} that could be looked at; it has {', '.join(has)}"
            )
        self._read[*self._prefixes, name] = shown
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_"):
            component = self._plan.node.name
            raise UsageError(
                f"view[{component!r}].{name} = ...: an invariant looks, and changes nothing: have {component} do that"
            )
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        return f"<view of {self._plan.node.name}>"  # the same in each run, because an assertion may show it

    @property
    def _home(self) -> str:
        if not self._has_home:
            name = self._plan.node.name
            raise UsageError(f"{name} has a state for each partition: say view[{name!r}].partition(key)")
        return self._home_of

    def _state(self, name: str) -> Any:
        stored = self._source.states(self._home_of if self._has_home else self._home).get(name)
        if stored is None:
            return self._plan.node.declaration.states[name].first_value()
        codec = self._plan.state_codecs[name]
        key = (codec, stored)
        if key not in self._cache:
            self._cache[key] = codec.decode(stored)
        return self._cache[key]


def changed_in(cache: Mapping[Any, Any]) -> str:
    """The type of a state that an invariant was shown and has changed, which hides from the next look what the state is."""
    for key, value in cache.items():
        if isinstance(key, tuple) and not key[0].immutable and _has_changed(value, *key):
            return str(key[0].name)
    return ""


def _has_changed(value: Any, codec: TypeCodec[Any], stored: bytes) -> bool:
    try:
        if codec.encode(value) == stored:
            return False
    except CannotEncode:
        return True
    return bool(value != codec.decode(stored))  # a set that is the same may be stored in another order


class _Whole:
    """What whole units have left."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def states(self, home: str) -> Mapping[str, bytes]:
        return self._runtime.journal.states.get(home, {})

    def messages(self, channel: Channel) -> tuple[Any, ...]:
        channel.gather_locked()  # nobody else has a turn, so that nobody has to be kept out
        entries: list[Entry] = [entry for queue in channel.queues for entry in queue]
        entries += channel.delayed
        for reader in channel.readers:
            entries += [entry for entry in reader.in_hand if entry[0] is channel]
        return tuple(message_of(entry) for entry in sorted(entries, key=lambda entry: entry[1]))

    def unsaved(self) -> Unsaved:
        return self._runtime.journal.commits

    def reader(self) -> RowReader:
        return self._runtime.disk

    def dead_letters(self) -> list[rows.DeadLetter]:
        return self._runtime.dead_letters.listed()


class _Committed:
    """What is on disk."""

    def __init__(self, disk: MemoryDisk, cache: dict[Any, Any]) -> None:
        self._disk = disk
        self._cache = cache

    def states(self, home: str) -> Mapping[str, bytes]:
        return self._recovered.states.get(home, {})

    def messages(self, channel: Channel) -> tuple[Any, ...]:
        left = self._recovered.channels.get(channel.name)
        if left is None or channel.codec is None:
            return ()
        return tuple(channel.codec.decode(stored) for _, stored in left.waiting)

    def unsaved(self) -> Unsaved:
        return NOTHING_UNSAVED

    def reader(self) -> RowReader:
        return self._disk.reader()

    def dead_letters(self) -> list[rows.DeadLetter]:
        return [rows.DeadLetter.of(key, body) for key, body in self._disk.read_rows(rows.DEAD)]

    @property
    def _recovered(self) -> Recovered:
        """What the next start would find."""
        known: tuple[int, Recovered] | None = self._cache.get("committed")
        if known is None or known[0] != self._disk.changes:
            known = self._cache["committed"] = (self._disk.changes, Ledger({}).recover(_Rows(self._disk)))
        return known[1]


class _Rows:
    def __init__(self, disk: MemoryDisk) -> None:
        self._disk = disk

    def rows(self, prefix: str) -> Any:
        return iter(self._disk.read_rows(prefix))
