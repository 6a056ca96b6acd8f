"""`minions.toml` beside the script, through whole systems: what it says holds, and what is wrong with it is told all at once."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from minions import Component, ConfigurationError, Crashes, Inbox, Outbox, State, System, TopologyError, Watchdog


@attrs.frozen
class Reading:
    celsius: float


class Thermometer(Component):
    port: str = "/dev/none"
    readings = Outbox(Reading, optional=True)

    def run(self) -> None: ...


class Average(Component):
    limit: float = 10.0
    readings = Inbox(Reading)
    seen = State(list[str])

    def on_start(self) -> None:
        self.seen = [*self.seen, f"limit {self.limit}"]

    @readings.handler
    def add(self, reading: Reading) -> None: ...


class Project:
    """A system whose script lies in a folder of its own."""

    def __init__(self, folder: Path, toml: str) -> None:
        (folder / "minions.toml").write_text(toml)
        script = {"__file__": str(folder / "app.py"), "__name__": "app", "System": System}
        exec('system = System("greenhouse", stop_timeout_s=3.0)', script)
        self.system: System = script["system"]  # type: ignore[assignment]


def wired(system: System, average: Average) -> Average:
    thermometer = system.add(Thermometer())
    system.add(average)
    system.connect(thermometer.readings, average.readings)
    return average


def test_what_the_file_says_of_a_component_holds_in_each_life_and_the_object_that_was_added_stays_as_it_is(
    tmp_path: Path,
) -> None:
    system = Project(tmp_path, "[components.average]\nlimit = 25.5\n").system
    average = wired(system, Average(limit=1.0))

    with system.started():
        system.restart(average).result(20)
    assert average.seen == ["limit 25.5", "limit 25.5"]
    assert average.limit == 1.0

    (tmp_path / "minions.toml").unlink()
    with system.started():
        pass
    assert average.seen[-1] == "limit 1.0"


def test_what_the_file_says_of_system_and_watchdog_holds(tmp_path: Path) -> None:
    toml = "[system]\nstop_timeout_s = 7.5\nmax_zombies = 3\n[watchdog]\ntick_s = 0.25\n[crashes]\nkeep = 7\n"
    system = Project(tmp_path, toml).system
    wired(system, Average())

    with system.started():
        runtime = system._runtime
        assert runtime is not None
        assert runtime._options.stop_timeout_s == 7.5
        assert runtime._options.most_zombies == 3
        assert runtime._options.watchdog == Watchdog(tick_s=0.25)
        assert runtime._options.crashes == Crashes(keep=7)


def test_everything_that_is_wrong_with_the_file_is_told_at_once(tmp_path: Path) -> None:
    toml = '[system]\nstop_timeout_s = "soon"\n[components.average]\nlimit = "hot"\nlimits = 1\n[components.averag]\n'
    system = Project(tmp_path, toml).system
    wired(system, Average())

    with pytest.raises(ConfigurationError) as refused:
        system.check()
    assert refused.value.subject == str(tmp_path / "minions.toml")
    told = str(refused.value)
    for expected in ("stop_timeout_s", "[components.average] limit", "limits", "[components.averag]", "average"):
        assert expected in told
    assert len(refused.value.problems) == 4
    assert not (tmp_path / ".minions").exists()


def test_what_is_wrong_with_the_file_is_told_together_with_what_is_wrong_with_the_graph(tmp_path: Path) -> None:
    system = Project(tmp_path, "[nonsense]\n").system
    system.add(Thermometer())
    system.add(Thermometer())

    with pytest.raises(TopologyError) as refused:
        system.check()
    assert any("thermometer" in problem for problem in refused.value.problems)
    assert any("minions.toml: [nonsense]" in problem for problem in refused.value.problems)
