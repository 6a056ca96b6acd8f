"""`minions crashes` and `minions replay`: child processes with a real program, and the test that they write run by pytest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from minions.cli.crash_shown import time_text

MINIONS = (sys.executable, "-m", "minions.cli")

APP = """
import attrs
from minions import Component, Outbox, State, System
from till import Order, Stock, Till

class Shop(Component):
    out = Outbox(Order)
    sent = State(int)

    def run(self) -> None:
        for order in (Order("tea", 2), Order("po'''t", 3))[self.sent:]:
            with self.unit():
                self.sent += 1
                self.out.send(order)

@attrs.frozen
class Left:
    count: int

class Shelf(Stock):
    def left(self, item: str) -> Left:
        return Left(len(item))

system = System("shop")
other = System("other")
other.add(Stock())
shop, stock, till = system.add(Shop()), system.add(Shelf(), name="stock"), system.add(Till())
system.connect(shop.out, till.orders)

if __name__ == "__main__":
    system.run()
"""

TILL = """
from typing import Any
import attrs
from minions import Component, Inbox, Retry, State, Uses
from prices import price_of

@attrs.frozen
class Order:
    item: str
    count: int

class Stock(Component):
    kept = State(int)

    def left(self, item: str) -> Any: ...

class Till(Component):
    orders = Inbox(Order, retry=Retry(attempts=1))
    total = State(int)
    stock = Uses(Stock)

    @orders.handler
    def sell(self, order: Order) -> None:
        left = self.stock.left(order.item)
        self.total += price_of(order.item) * order.count + left.count
"""

PRICES = """
def price_of(item: str) -> int:
    if item.startswith("po"):
        raise KeyError(item)
    return 1
"""

ERROR = "KeyError: " + repr("po'''t")

MENDED = """
def price_of(item: str) -> int:
    return 1
"""


class Project:
    """A folder with a program that has crashed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        (folder / "app.py").write_text(APP)
        (folder / "till.py").write_text(TILL)
        (folder / "prices.py").write_text(PRICES)
        self.run("app.py")

    def run(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-B", *arguments],
            cwd=cwd or self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def minions(self, *arguments: str, code: int = 0, cwd: Path | None = None) -> str:
        """What a command prints, which has to end with this code."""
        done = subprocess.run(
            [*MINIONS, *arguments],
            cwd=cwd or self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stderr if code and not done.stdout else done.stdout

    def mend(self) -> None:
        (self.folder / "prices.py").write_text(MENDED)

    @property
    def id(self) -> str:
        [crash] = json.loads(self.minions("crashes", "--json"))["crashes"]
        assert isinstance(crash["id"], str)
        return crash["id"]

    def files(self) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


class TestList:
    def test_it_tells_component_time_error_and_file(self, project: Project) -> None:
        head, columns, line = project.minions("crashes").splitlines()
        assert head == f"in {project.folder / '.minions' / 'crashes'}:"
        assert columns.split() == ["id", "component", "failed", "in", "error"]
        assert line.split()[1] == "till"
        assert line.endswith(f"sell  {ERROR}")
        assert project.minions("replay", "--list") == project.minions("crashes")

    def test_json_has_the_file(self, project: Project) -> None:
        [crash] = json.loads(project.minions("crashes", "--json", "--component", "till"))["crashes"]
        assert Path(crash["file"]).stem == crash["id"]
        assert (crash["kind"], crash["where"], crash["set_aside"]) == ("handler", "sell", True)
        assert json.loads(project.minions("crashes", "--json", "--component", "shop")) == {"crashes": []}

    def test_a_file_that_is_none_breaks_nothing(self, project: Project) -> None:
        (project.folder / ".minions" / "crashes" / "29991231T000000.000000Z-odd.json").write_text("{")
        lines = project.minions("crashes").splitlines()
        assert "is no crash that this version can read" in lines[2]
        assert "KeyError" in lines[3]
        assert "is no crash" in project.minions("replay", "last", code=6)

    def test_there_may_be_none(self, project: Project) -> None:
        for path in (project.folder / ".minions" / "crashes").iterdir():
            path.unlink()
        assert project.minions("crashes") == "there are no crashes\n"
        assert "there is no crash 'last'" in project.minions("replay", "last", code=6)

    def test_a_folder_that_is_not_there_is_not_one_without_crashes(self, project: Project) -> None:
        (project.folder / "file").write_text("")
        for named in ("nowhere", "file"):
            said = project.minions("crashes", "--folder", named, code=3)
            assert f"no system runs on {named}, and nothing is kept there" in said


class TestReplay:
    def test_it_fails_again_with_the_traceback_and_leaves_the_folder_as_it_is(self, project: Project) -> None:
        before = project.files()
        printed = project.minions("replay", "last", code=1)

        assert "till, sell, " in printed
        assert "fails again, at the same line" in printed
        assert "Traceback (most recent call last)" in printed
        assert 'prices.py", line 4, in price_of' in printed
        assert printed.endswith(f"{ERROR}\n")
        assert project.files() == before

    def test_json(self, project: Project) -> None:
        found = json.loads(project.minions("replay", project.id[:20], "--json", code=1))
        assert (found["failed"], found["same"], found["stopped"]) == (True, True, "")
        assert found["traceback"] == found["recorded"]["traceback"]

    def test_once_mended_it_fails_no_more(self, project: Project) -> None:
        project.mend()
        printed = project.minions("replay", "last")
        assert f"does not fail any more; it had failed with {ERROR}" in printed

    def test_a_call_that_it_had_not_come_to_leaves_it_open(self, project: Project) -> None:
        app = project.folder / "till.py"
        app.write_text(
            app.read_text().replace("* order.count + left.count", "* order.count + self.stock.left('more').count")
        )
        project.mend()
        assert 'say what it answers: replay(..., answers={"stock.left": ...})' in project.minions(
            "replay", "last", code=6
        )

    def test_from_another_folder_with_the_program_named(
        self, project: Project, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        elsewhere = tmp_path_factory.mktemp("elsewhere")
        folder = str(project.folder)
        project.minions("replay", "last", "--folder", folder, "--app", f"{folder}/app.py:system", cwd=elsewhere, code=1)
        project.minions("replay", "last", "--folder", folder, cwd=elsewhere, code=1)

    @pytest.mark.parametrize(
        ("arguments", "code", "reason"),
        [
            ((), 2, "one of the arguments CRASH --list is required"),
            (("last", "--list"), 2, "not allowed with argument CRASH"),
            (("last", "--pytest"), 2, "expected one argument"),
            (("nix",), 6, "there is no crash 'nix' in"),
            (("last", "--app", "nix.py"), 6, "there is no file nix.py"),
            (("last", "--app", "app.py:other"), 6, "has no component of that name; it has stock"),
            (("last", "--folder", "prices.py"), 6, "there is no crash 'last'"),
        ],
    )
    def test_wrong_arguments(self, project: Project, arguments: tuple[str, ...], code: int, reason: str) -> None:
        assert reason in project.minions("replay", *arguments, code=code)

    def test_a_refusal_in_json(self, project: Project) -> None:
        assert json.loads(project.minions("replay", "nix", "--json", code=6))["crash"] == "nix"

    def test_without_a_project(self, project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
        nowhere = tmp_path_factory.mktemp("nowhere")
        assert "there is no system in" in project.minions("replay", "last", cwd=nowhere, code=3)
        assert "there is no system in" in project.minions("crashes", cwd=nowhere, code=3)

    def test_a_program_that_is_gone(self, project: Project) -> None:
        (project.folder / "app.py").rename(project.folder / "main.py")
        assert "which program has crashed cannot be told" in project.minions("replay", "last", code=6)
        project.minions("replay", "last", "--app", "main.py", code=1)

    def test_help_has_an_example_and_the_exit_codes(self, project: Project) -> None:
        printed = project.minions("replay", "--help")
        assert "minions replay last --pytest tests/test_average.py" in printed
        assert "6  it cannot be told" in printed


class TestPytest:
    def test_the_test_is_red_on_the_bug_and_green_after_the_mend(self, project: Project) -> None:
        (project.folder / "tests").mkdir()
        file = "tests/test_till.py"
        assert "It holds the message and the state" in project.minions("replay", "last", "--pytest", file)
        for path in (project.folder / ".minions" / "crashes").iterdir():
            path.unlink()  # the test needs no other file

        red = project.run("-m", "pytest", "-q", "-p", "no:cacheprovider", file)
        project.mend()
        green = project.run("-m", "pytest", "-q", "-p", "no:cacheprovider", file)

        assert red.returncode == 1, red.stdout + red.stderr
        assert ERROR in red.stdout
        assert "test_till_sell_does_not_fail" in red.stdout
        assert green.returncode == 0, green.stdout + green.stderr
        assert str(project.folder) not in (project.folder / file).read_text()

    def test_a_file_that_is_there_is_left_as_it_is(self, project: Project) -> None:
        (project.folder / "test_till.py").write_text("mine")
        assert "is there already" in project.minions("replay", "last", "--pytest", "test_till.py", code=6)
        assert (project.folder / "test_till.py").read_text() == "mine"

    def test_a_folder_that_is_not_there(self, project: Project) -> None:
        project.minions("replay", "last", "--pytest", "nowhere/test_till.py", code=1)


TIMED = """
from minions import Component, Inbox, Outbox, Retry, State, System

class Ringing(Component):
    rings = Outbox(str)
    rung = State(int)

    def run(self) -> None:
        if not self.rung:
            with self.unit():
                self.rung = 1
                self.rings.send("now")

class Watch(Component):
    rings = Inbox(str, retry=Retry(attempts=1))
    total = State(int)

    def on_start(self) -> None:
        self.began_s = self.monotonic()

    @rings.handler
    def answer(self, ring: str) -> None:
        later = [self.now() for _ in range(1_002)]
        raise ValueError(f"{later[0].isoformat()} {later[-1].isoformat()} {self.began_s!r}")

system = System("timed")
ringing, watch = system.add(Ringing()), system.add(Watch())
system.connect(ringing.rings, watch.rings)

if __name__ == "__main__":
    system.run()
"""


class TestTime:
    """A unit that depends on the time."""

    @pytest.fixture
    def project(self, project: Project) -> Project:
        for path in (project.folder / ".minions" / "crashes").iterdir():
            path.unlink()
        reads = "for _ in range(1_002)"
        (project.folder / "timed.py").write_text(TIMED.replace(reads, "for _ in range(2)"))
        project.run("timed.py")
        return project

    def test_it_fails_again_with_the_time_of_then(self, project: Project) -> None:
        recorded = json.loads(project.minions("replay", "last", "--json", code=1))
        assert (recorded["same"], recorded["stopped"]) == (True, "")
        assert recorded["error"] == recorded["recorded"]["error"]

    def test_the_written_test_holds_the_reads_and_is_red_with_them(self, project: Project) -> None:
        [crash] = json.loads(project.minions("crashes", "--json"))["crashes"]
        project.minions("replay", "last", "--pytest", "test_watch.py")
        red = project.run("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_watch.py")
        assert red.returncode == 1, red.stdout + red.stderr
        assert crash["error"] in red.stdout

        program = project.folder / "timed.py"
        program.write_text(program.read_text().replace("raise ValueError(", "assert later[0] < later[1]; print("))
        green = project.run("-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "test_watch.py")
        assert green.returncode == 0, green.stdout + green.stderr
        assert crash["error"].removeprefix("ValueError: ") in green.stdout

    def test_a_written_test_that_reads_more_says_so_and_may_be_told(self, project: Project) -> None:
        project.minions("replay", "last", "--pytest", "test_watch.py")
        program, test = project.folder / "timed.py", project.folder / "test_watch.py"
        program.write_text(program.read_text().replace("raise ValueError(", "self.monotonic(); print("))
        untold = project.run("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_watch.py")
        test.write_text(test.read_text().replace("app=APP)", 'app=APP, answers={"monotonic": 7.0})'))
        told = project.run("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_watch.py")

        assert "it reads self.monotonic(), which it had not before it failed; say what it reads" in untold.stdout
        assert (untold.returncode, told.returncode) == (1, 0), told.stdout


class TestShow:
    def test_it_tells_what_went_into_the_unit(self, project: Project) -> None:
        printed = project.minions("crashes", "show", "last").splitlines()
        assert printed[0] == f"{project.id}:"
        assert printed[1].startswith("till, life 1, failed in sell (handler) at 2")
        assert printed[1].endswith(f": {ERROR}")
        assert printed[2].startswith("message id: ")
        assert printed[2].endswith(", attempt 1, set aside")
        assert printed[3:7] == [
            """received from orders: {"item":"po'''t","count":3}""",
            "state total: 5",
            """called stock.left("po\'\'\'t"): Left(count=6)""",
            "Traceback (most recent call last):",
        ]
        assert printed[-1] == ERROR

    def test_json_has_everything_wherever_it_is_asked_for(self, project: Project) -> None:
        for arguments in (("show", project.id, "--json"), ("--json", "show", "last")):
            crash = json.loads(project.minions("crashes", *arguments))
            assert crash["id"] == project.id
            assert crash["messages"][0]["stored"] == {"item": "po'''t", "count": 3}
            assert crash["states"]["total"]["value"] == 5
            assert crash["calls"][0]["method"] == "left"
            assert crash["reads"] == {"first": [], "more": 0, "missing": ""}

    def test_it_tells_what_was_read_of_the_clock(self, project: Project) -> None:
        for path in (project.folder / ".minions" / "crashes").iterdir():
            path.unlink()
        (project.folder / "timed.py").write_text(TIMED)
        project.run("timed.py")

        crash = json.loads(project.minions("crashes", "show", "last", "--json"))
        [began] = crash["reads_at_start"]["first"]
        reads = crash["reads"]
        assert began["clock"] == "monotonic"
        assert (len(reads["first"]), reads["more"], reads["missing"]) == (1_000, 2, "")
        assert {read["clock"] for read in reads["first"]} == {"now"}

        printed = project.minions("crashes", "show", "last").splitlines()
        told = [line for line in printed if "read " in line]
        first = crash["error"].split()[1].replace("T", " ")
        assert told[:2] == [
            f"on_start had read self.monotonic(): {began['seconds']!r} s",
            f"read self.now(): {first}",
        ]
        assert told[-2:] == [
            "read the clock 980 times more, which --json shows",
            "read the clock 2 times more, which was not recorded",
        ]
        assert len(told) == 1 + 20 + 2
        assert "say what it reads" in project.minions("replay", "last", code=6)

    def test_there_is_none_of_that_name(self, project: Project) -> None:
        assert "there is no crash 'nix' in" in project.minions("crashes", "show", "nix", code=1)
        assert "CRASH" in project.minions("crashes", "show", code=2)


@pytest.mark.parametrize("at", [float("nan"), float("inf"), 1e300])
def test_a_record_whose_moment_is_none_is_shown_all_the_same(at: float) -> None:
    assert time_text(at) == f"{at!r} s"
