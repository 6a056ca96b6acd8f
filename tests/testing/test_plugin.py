"""The pytest plugin, in a pytest of its own: what its fixtures give, what it says of a test that fails, what it costs."""

from __future__ import annotations

import configparser
import inspect
import json
import os
import sys
from pathlib import Path

import pytest

import minions.testing

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parents[2]

SYSTEM = """
    import pytest
    from minions import Component, Inbox, Outbox, State, System, events

    class Numbers(Component):
        out = Outbox(int)

        def run(self) -> None:
            self.out.send(1)

    class Sum(Component):
        numbers = Inbox(int)
        total = State(int)

        @numbers.handler
        def add(self, number: int) -> None:
            self.total += number

    def made():
        system = System("sums")
        numbers, total = system.add(Numbers()), system.add(Sum())
        system.connect(numbers.out, total.numbers)
        return system, total
"""


@pytest.fixture
def child(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A folder for a pytest of its own, in a process of its own, into which the plugin comes by its entry point."""
    installed = pytester.path / "installed"
    metadata = installed / "minions_here-1.0.dist-info"
    metadata.mkdir(parents=True)
    metadata.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: minions-here\nVersion: 1.0\n")
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    points = config["options.entry_points"]["pytest11"]
    metadata.joinpath("entry_points.txt").write_text(f"[pytest11]\n{points.strip()}\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(installed), str(ROOT)]))
    pytester.makeini("[pytest]\naddopts = -p no:cacheprovider\n")
    return pytester


def run(child: pytest.Pytester, *options: str) -> pytest.RunResult:
    return child.runpytest_subprocess(*options, timeout=60)


def test_each_fixture_gives_what_it_says(child: pytest.Pytester) -> None:
    child.makepyfile(
        SYSTEM
        + """
    def test_running(running, fake_clock):
        system, total = made()
        with running(system, clock=fake_clock) as run:
            run.until_idle()
            fake_clock.advance(3.0)
            assert total.total == 1

    def test_harness(harness):
        h = harness(Sum())
        h.send(h.component.numbers, 3)
        assert h.component.total == 3

    def test_harness_in_a_block(harness):
        with harness(Sum()) as h:
            h.send(h.component.numbers, 3)

    def test_project(project_folder):
        import os, sys
        from pathlib import Path
        assert Path.cwd() == project_folder
        assert list(project_folder.iterdir()) == []
        project_folder.joinpath("project_code.py").write_text("VALUE = 1")
        import project_code
        assert project_code.VALUE == 1

    def test_another_project(project_folder):
        project_folder.joinpath("project_code.py").write_text("VALUE = 2")
        import project_code
        assert project_code.VALUE == 2
    """
    )
    run(child).assert_outcomes(passed=5)


def test_the_components_are_seen_in_the_report_of_a_test_that_fails(child: pytest.Pytester) -> None:
    child.makepyfile(
        SYSTEM
        + """
    def test_running(running):
        system, total = made()
        with running(system) as run:
            run.until_idle()
            assert total.total == 2

    def test_harness(harness):
        h = harness(Sum())
        h.send(h.component.numbers, 3)
        h.crash()
        h.restart()
        assert h.component.total == 2

    def test_what_was_not_expected(running):
        system, total = made()
        with running(system, expect_dead_letters=1) as run:
            run.until_idle()

    def test_that_passes(running):
        with running(made()[0]):
            pass
    """
    )
    result = run(child)
    result.assert_outcomes(failed=3, passed=1)
    result.stdout.fnmatch_lines(
        ["-* minions: sums -*", "components:", "  sum: running, life 1, waits for a message"], consecutive=True
    )
    result.stdout.re_match_lines_random(
        [
            r"  ComponentFinished\(component='numbers', epoch=1\)",
            r"-* minions: Sum -*",
            r"E +AssertionError: sums: 0 dead letters, expected 1",
        ]
    )
    assert result.outlines.count("components:") == 3


def test_the_components_are_seen_where_a_fixture_of_the_user_fails(child: pytest.Pytester) -> None:
    child.makepyfile(
        SYSTEM
        + """
    class Stops(Component):
        def on_stop(self):
            print("on_stop was run")

        def ask(self): ...

    @pytest.fixture
    def started(harness):
        h = harness(Stops()).start()
        raise ValueError("the fixture fails")

    def test_it(started): ...
    """
    )
    result = run(child, "-s")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["-* minions: Stops -*"])
    assert "on_stop was run" not in result.stdout.str()


def test_a_fixture_makes_as_many_as_a_test_asks_for_and_each_is_in_the_report(child: pytest.Pytester) -> None:
    child.makepyfile(
        SYSTEM
        + """
    def test_many(harness, running):
        one, other = harness(Sum(), name="one").start(), harness(Sum(), name="other").start()
        for name in ("first", "second"):
            system = System(name)
            system.add(Sum())
            system.connect(system.add(Numbers()).out, system._topology.nodes[0].blueprint.numbers)
            with running(system):
                pass
        assert False

    def test_it_is_the_same_within_a_test(harness, request):
        assert request.getfixturevalue("harness") is harness
    """
    )
    result = run(child)
    result.assert_outcomes(failed=1, passed=1)
    text = result.stdout.str()
    assert text.count("minions: Sum") == 2
    for name in ("one: running", "other: running", "minions: first", "minions: second"):
        assert name in text


def test_tests_in_processes_side_by_side(child: pytest.Pytester) -> None:
    pytest.importorskip("xdist")
    child.makepyfile(
        SYSTEM
        + """
    @pytest.mark.parametrize("number", range(6))
    def test_all(harness, running, fake_clock, explore, project_folder, number):
        system, total = made()
        with running(system, clock=fake_clock, folder=project_folder) as run:
            run.until_idle()
            assert total.total == 1
        with harness(Sum()) as h:
            h.send(h.component.numbers, number)
        assert explore(made()[0], runs=3).runs == 3
        assert number != 5
    """
    )
    result = run(child, "-n2")
    result.assert_outcomes(passed=5, failed=1)
    result.stdout.fnmatch_lines(["-* minions: sums -*"])


def test_a_harness_is_stopped_after_a_test_that_passes_and_dropped_after_one_that_fails(child: pytest.Pytester) -> None:
    child.makepyfile(
        """
    import pytest
    from minions import Component

    class Stops(Component):
        name: str

        def on_stop(self) -> None:
            print(self.name, "stops")

        def answer(self) -> None: ...

    @pytest.mark.parametrize("passes", [True, False])
    def test_it(harness, passes):
        harness(Stops(name=f"passes={passes}")).start()
        assert passes
    """
    )
    result = run(child, "-s")
    result.assert_outcomes(passed=1, failed=1)
    text = result.stdout.str()
    assert "passes=True stops" in text
    assert "passes=False stops" not in text


def test_each_harness_is_stopped_although_another_one_raises_when_it_is(child: pytest.Pytester) -> None:
    child.makepyfile(
        SYSTEM
        + """
    class Grumbles(Component):
        def on_stop(self):
            raise ValueError("no")

    class Says(Component):
        def on_stop(self):
            open("said.txt", "w").close()

    def test_it(harness):
        for component in Says(), Grumbles():
            harness(component).start()
    """
    )
    run(child).assert_outcomes(passed=1, errors=1)
    assert child.path.joinpath("said.txt").exists()


def test_options(child: pytest.Pytester) -> None:
    child.makepyfile(
        """
    def test_it(pytestconfig):
        print(pytestconfig.getoption("--minions-seed"), pytestconfig.getoption("--minions-runs"))
    """
    )
    run(child, "-s", "--minions-seed=7", "--minions-runs=3").stdout.fnmatch_lines(["*7 3*"])
    run(child, "-s").stdout.fnmatch_lines(["*None None*"])
    for option in ("--minions-seed=-1", "--minions-seed=x", "--minions-runs=0"):
        name, _, value = option.partition("=")
        least = 0 if "seed" in name else 1
        result = run(child, option)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([f"*argument {name}: '{value}' must be a whole number from {least} up"])


def test_the_options_go_before_what_a_test_of_a_simulation_says(child: pytest.Pytester) -> None:
    child.makepyfile(
        SYSTEM
        + """
    def test_seed(simulate):
        system, total = made()
        print("seed", simulate(system, 3).seed, simulate(system, seed=4).seed, simulate(system).seed)

    def test_runs(explore):
        system, total = made()
        for found in (explore(system, 2, workers=1), explore(system, runs=2, first_seed=1, workers=1)):
            print("explored", found.runs)

    def test_first_seed(explore):
        from minions.testing import SimulationFailed
        with pytest.raises(SimulationFailed) as caught:
            explore(made()[0], 2, first_seed=1, workers=1, at_end=lambda view: False, shrink_s=0.0)
        print("failed", caught.value.seed)

    def test_the_same_functions(simulate, explore):
        import minions.testing
        print("same", simulate is minions.testing.simulate, explore is minions.testing.explore)
    """
    )
    result = run(child, "-s", "--minions-seed=7", "--minions-runs=3")
    result.assert_outcomes(passed=4)
    text = result.stdout.str()
    assert "seed 7 7 7" in text
    assert "failed 7" in text
    assert text.count("explored 3") == 2
    assert "same False False" in text
    text = run(child, "-s").stdout.str()
    assert "seed 3 4 0" in text
    assert "failed 1" in text
    assert text.count("explored 2") == 2
    assert "same True True" in text


def test_what_does_not_use_it_does_not_pay_for_it(child: pytest.Pytester) -> None:
    child.makepyfile(
        """
    import sys

    def test_nothing_is_imported():
        assert "pytest_minions" in sys.modules
        assert [name for name in sys.modules if name.partition(".")[0] in ("minions", "attr", "attrs", "greenlet")] == []

    def test_a_fixture_imports_it(fake_clock):
        assert "minions.testing" in sys.modules
    """
    )
    run(child).assert_outcomes(passed=2)


def test_a_whole_run_that_does_not_use_it_imports_nothing_of_it_whatever_becomes_of_its_tests(
    child: pytest.Pytester,
) -> None:
    child.makeconftest(
        """
    import sys

    def pytest_sessionfinish():
        names = {name.partition(".")[0] for name in sys.modules}
        print("imported:", sorted(names & {"minions", "cattrs", "greenlet", "diskcache", "psutil"}))
    """
    )
    child.makepyfile(
        """
    import pytest

    @pytest.fixture
    def broken():
        raise ValueError("no")

    def test_passes(): ...
    def test_fails(tmp_path): assert False
    def test_is_skipped(): pytest.skip("not here")
    def test_is_broken(broken): ...
    """
    )
    for options in ((), ("--collect-only",), ("--fixtures",), ("--minions-seed=3", "--minions-runs=2")):
        result = run(child, "-s", *options)
        result.stdout.fnmatch_lines(["*imported: [[]]*"])
        assert "minions:" not in result.stdout.str()
    run(child).assert_outcomes(passed=1, failed=1, skipped=1, errors=1)


def test_it_imports_what_pytest_has_imported_before(child: pytest.Pytester) -> None:
    script = child.makepyfile(
        script="""
    import json, sys
    import pytest
    before = set(sys.modules)
    import pytest_minions
    print(json.dumps(sorted(set(sys.modules) - before)))
    """
    )
    result = child.run(sys.executable, script)
    assert json.loads(result.outlines[-1]) == ["pytest_minions"]


@pytest.mark.parametrize("name", ["harness", "running", "simulate", "explore"])
def test_the_type_of_a_fixture_is_that_of_its_function(name: str) -> None:
    kind = getattr(minions.testing, f"{name.title()}Fixture")
    function = inspect.signature(getattr(minions.testing, name))
    called = inspect.signature(kind.__call__)
    assert list(called.parameters.values())[1:] == list(function.parameters.values())
    assert called.return_annotation == function.return_annotation
