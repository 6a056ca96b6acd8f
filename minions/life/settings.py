"""What the program says of its system, and what ``minions.toml`` says in its place. Frozen values."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import attrs

from minions.model import checks
from minions.model.crashes import Crashes
from minions.model.limits import Watchdog
from minions.model.topology import Node

__all__ = ["Configured", "Settings"]


@attrs.frozen(kw_only=True)
class Settings:
    """What holds for the whole system; see `System`."""

    synchronous: Literal["NORMAL", "FULL"]
    stop_timeout_s: float
    watchdog: Watchdog
    max_zombies: int
    control: bool
    crashes: Crashes

    def problems(self) -> Iterator[str]:
        """Everything that is wrong with what the program says."""
        if self.synchronous not in ("NORMAL", "FULL"):
            yield f"synchronous={self.synchronous!r} must be 'NORMAL' or 'FULL'"
        seconds = "a number of seconds, more than 0"
        yield from checks.number("stop_timeout_s", self.stop_timeout_s, seconds, most=sys.float_info.max, above=True)
        yield from checks.kind("watchdog", self.watchdog, Watchdog, "Watchdog(tick_s=5.0)")
        yield from checks.whole_number("max_zombies", self.max_zombies, 0)
        yield from checks.switch("control", self.control)
        yield from checks.kind("crashes", self.crashes, Crashes, "Crashes(keep=10)")


@attrs.frozen
class Configured:
    """What holds once the file was read.

    Attributes:
        settings: of the system.
        values: for each component that the file names, the arguments that it gives.
        problems: everything that is wrong with the file.
    """

    settings: Settings
    values: Mapping[str, Mapping[str, Any]]
    problems: list[str]

    @classmethod
    def of(
        cls, path: Path, settings: Settings, nodes: Iterable[Node], configure_plugins: Callable[..., Sequence[str]]
    ) -> Configured:
        """Reads the file, if there is one.

        Args:
            path: where the file is.
            settings: what the program says.
            nodes: the components.
            configure_plugins: takes what the file says of plugins, and says what is wrong with that.

        Raises:
            ConfigurationError: the file cannot be read.
        """
        if not os.path.exists(path):  # noqa: PTH110 - which a folder that nobody may enter does not make raise
            configure_plugins()
            return cls(settings, {}, [])
        from minions.model import configuration  # noqa: PLC0415 - only who has such a file has to pay for it

        nodes = list(nodes)
        text = configuration.read(path) or ""
        said, problems = configuration.configuration_of(text, settings.watchdog, settings.crashes)
        problems += configuration.unknown(said.components, [node.name for node in nodes])
        values = {}
        for node in nodes:
            if node.name in said.components:
                found = configuration.configured(node.blueprint, node.name, said.components[node.name])
                values[node.name] = found.values
                problems += found.problems
        problems += configure_plugins(**attrs.asdict(said.plugins), settings=said.plugin_tables)
        system = {name: value for name, value in attrs.asdict(said.system).items() if value is not None}
        return cls(attrs.evolve(settings, watchdog=said.watchdog, crashes=said.crashes, **system), values, problems)
