"""`minions.toml` as text: what it says, and everything that is wrong with it at once."""

from __future__ import annotations

import datetime
import decimal
import enum
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Optional

import attrs
import pytest

from minions import Component, ConfigurationError, Crashes, LagLimit, MemoryLimit, Watchdog
from minions.model.component import copy_of
from minions.model.configuration import (
    Configuration,
    SystemSettings,
    configuration_of,
    configured,
    read,
    unknown,
)

if TYPE_CHECKING:
    from collections.abc import Mapping as OnlyForTypeCheckers


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@attrs.define
class Box:
    width: int
    height: int = attrs.field(default=1, validator=attrs.validators.gt(0))


class Thermometer(Component):
    port: str
    limit: int = attrs.field(default=3, validator=attrs.validators.gt(0))
    ratio: float = 0.5
    path: Path = Path("x")
    colour: Colour = Colour.RED
    box: Box = attrs.field(factory=lambda: Box(1))
    names: list[str] = attrs.field(factory=list)
    tags: frozenset[str] = frozenset()
    boxes: tuple[Box, ...] = ()
    pair: tuple[int, str] = (1, "a")
    nested: list[list[int]] = attrs.field(factory=list)
    maybe: int | None = None
    maybe_box: Optional[Box] = None  # noqa: UP045 - both spellings are in use
    several: int | str = 1
    counts: dict[str, int] = attrs.field(factory=dict)
    raw: bytes = b""
    price: decimal.Decimal = decimal.Decimal(0)
    since: datetime.datetime = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
    day: datetime.date = datetime.date(2000, 1, 1)
    call: Callable[[], int] = int
    anything: Any = None
    mode: Literal["slow", "fast"] = "slow"
    flag: bool = False
    _hidden: int = 1


BLUEPRINT = Thermometer(port="/dev/null")


def said(text: str) -> tuple[Configuration, list[str]]:
    return configuration_of(text)


def of_component(
    text: str, blueprint: Component = BLUEPRINT, name: str = "thermometer"
) -> tuple[dict[str, Any], list[str]]:
    found = configured(blueprint, name, tomllib.loads(text))
    return dict(found.values), list(found.problems)


class TestFile:
    def test_an_empty_file_changes_nothing(self) -> None:
        assert said("") == (Configuration(), [])

    def test_what_it_says_takes_the_place_of_what_the_program_says(self) -> None:
        program = Watchdog(tick_s=0.5, memory=MemoryLimit(then="stop"), lag=LagLimit(over_s=60.0))
        text = """
            [watchdog]
            enabled = false
            [watchdog.memory]
            over_ratio = 0.5
            [system]
            stop_timeout_s = 3
            synchronous = "FULL"
            max_zombies = 7
            [crashes]
            size_bytes = 20_000
            [components.thermometer]
            port = "/dev/ttyUSB1"
        """
        configuration, problems = configuration_of(text, program, Crashes(keep=3))

        assert problems == []
        assert configuration.crashes == Crashes(keep=3, size_bytes=20_000)
        assert configuration.watchdog == Watchdog(
            enabled=False,
            tick_s=0.5,
            memory=MemoryLimit(over_ratio=0.5),  # the limit as a whole: "stop" is gone
            lag=LagLimit(over_s=60.0),
        )
        assert configuration.system == SystemSettings(stop_timeout_s=3.0, synchronous="FULL", max_zombies=7)
        assert configuration.components == {"thermometer": {"port": "/dev/ttyUSB1"}}

    def test_every_limit_can_be_set(self) -> None:
        text = """
            watchdog.memory.over_bytes = 500_000_000
            watchdog.descriptors.over_ratio = 0.5
            watchdog.disk_free.under_bytes = 1_000
            watchdog.cpu.for_s = 5
            watchdog.late.over_s = 1
            watchdog.lag.then = "restart"
            watchdog.errors.over_per_minute = 5
        """
        configuration, problems = said(text)

        assert problems == []
        watchdog = configuration.watchdog
        assert watchdog.memory == MemoryLimit(over_bytes=500_000_000)
        assert (watchdog.descriptors.mark, watchdog.disk_free.mark, watchdog.cpu.for_s) == (0.5, 1_000, 5.0)
        assert (watchdog.late.back, watchdog.lag.then, watchdog.errors.mark) == (0.5, "restart", 5.0)

    def test_everything_that_is_wrong_is_said_at_once_with_its_place(self) -> None:
        text = """
            top = 1
            [watchdgo]
            [watchdog]
            tick = 5
            tick_s = "fast"
            [watchdog.memory]
            then = "stopp"
            over_ratio = 1.5
            [watchdog.lagg]
            over_s = 1
            [watchdog.late]
            over_s = -0.5
            [crashes]
            keep = 0
            enabled = "no"
            kep = 1
            [system]
            synchronous = "full"
            max_zombies = true
            stop_timeout_s = -5
        """
        configuration, problems = said(text)

        share = "a share of the memory that the process may use"
        assert problems == [
            "top = 1: there is no such table; there are: watchdog, crashes, system, plugins, components",
            "[watchdgo]: there is no such table; did you mean watchdog?",
            "[watchdog] tick: there is no such key; did you mean tick_s?",
            '[watchdog] tick_s = "fast": expected a number',
            '[watchdog.memory] then = "stopp": expected one of "report", "pause_sources", "stop"',
            f"[watchdog.memory] over_ratio = 1.5: must be a number above 0 and at most 1 ({share})",
            "[watchdog.lagg]: there is no such table; did you mean lag?",
            "[watchdog.late] over_s = -0.5: must be a number above 0 (seconds)",
            '[crashes] enabled = "no": expected true or false',
            "[crashes] kep: there is no such key; did you mean keep?",
            "[crashes] keep = 0: must be a whole number from 1 to 10,000 (files; to record none, enabled = false)",
            '[system] synchronous = "full": expected one of "NORMAL", "FULL"',
            "[system] max_zombies = true: expected a whole number",
            "[system] stop_timeout_s = -5.0: must be above 0 (seconds)",
        ]
        assert configuration == Configuration()

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("watchdog = 1", "watchdog = 1: must be a table: write [watchdog], and its values in the lines below"),
            ("[watchdog]\nmemory = 0.9", "[watchdog] memory = 0.9: must be a table: write [watchdog.memory]"),
            ("[components]\nx = [1]", "[components] x = [1]: must be a table: write [components.x]"),
            ("[system]\nmax_zombies = -1", "[system] max_zombies = -1: must be 0 or more"),
            (
                "[watchdog]\ntick_s = inf",
                "[watchdog] tick_s = inf: must be a number above 0 and at most 3600 (seconds)",
            ),
            (
                '[system]\n"a b" = 1',
                '[system] "a b": there is no such key; there are: stop_timeout_s, synchronous, max_zombies, control',
            ),
        ],
    )
    def test_a_thing_of_the_wrong_kind_is_named(self, text: str, problem: str) -> None:
        assert said(text)[1] == [problem]

    def test_what_is_no_toml_is_said_with_its_line(self) -> None:
        program = Watchdog(tick_s=2.0)
        configuration, [problem] = configuration_of("[watchdog]\ntick_s = \n", program)
        assert problem.startswith("this is no TOML: ")
        assert "line 2" in problem
        assert configuration.watchdog == program

    @pytest.mark.parametrize("value", ["1" + 5_000 * "0", 5_000 * "[" + 5_000 * "]"], ids=["digits", "depth"])
    def test_what_is_past_all_bounds_is_no_toml_either(self, value: str) -> None:
        _, [problem] = configuration_of(f"[watchdog]\ntick_s = {value}\n")
        assert problem.startswith("this is no TOML: ")

    def test_a_component_that_is_not_there_is_named_with_the_nearest(self) -> None:
        assert unknown(["thermo", "average", "xyz"], ["thermometer", "average"]) == [
            "[components.thermo]: there is no such component; did you mean thermometer?",
            "[components.xyz]: there is no such component; there are: thermometer, average",
        ]
        assert unknown(["x"], []) == ["[components.x]: there is no such component; there are none"]

    def test_a_file_is_read_where_there_is_one(self, tmp_path: Path) -> None:
        path = tmp_path / "minions.toml"
        assert read(path) is None
        path.write_text("[watchdog]\n")
        assert read(path) == "[watchdog]\n"

    def test_a_file_that_cannot_be_read_is_refused_with_the_reason(self, tmp_path: Path) -> None:
        path = tmp_path / "minions.toml"
        path.write_bytes(b"\xff")
        with pytest.raises(ConfigurationError, match=r"minions.toml was refused: it is not UTF-8"):
            read(path)
        path.unlink()
        path.mkdir()
        with pytest.raises(ConfigurationError, match=r"minions.toml was refused: it cannot be read"):
            read(path)


class TestComponent:
    def test_values_become_what_the_fields_say(self) -> None:
        values, problems = of_component("""
            port = "/dev/ttyUSB1"
            limit = 5
            ratio = 1
            path = "a/b"
            colour = "blue"
            names = ["a"]
            tags = ["a", "b"]
            boxes = [{width = 1}]
            pair = [1, "b"]
            nested = [[1], []]
            maybe = 4
            maybe_box = {width = 5}
            several = "x"
            counts = {a = 1}
            price = "1.10"
            since = 2026-01-02T03:04:05Z
            day = 2026-01-02
            anything = [1, 2]
            mode = "fast"
            flag = true
            hidden = 2
            [box]
            width = 2
            height = 3
        """)
        assert problems == []
        assert values == {
            "port": "/dev/ttyUSB1",
            "limit": 5,
            "ratio": 1.0,
            "path": Path("a/b"),
            "colour": Colour.BLUE,
            "names": ["a"],
            "tags": frozenset({"a", "b"}),
            "boxes": (Box(1),),
            "pair": (1, "b"),
            "nested": [[1], []],
            "maybe": 4,
            "maybe_box": Box(5),
            "several": "x",
            "counts": {"a": 1},
            "price": decimal.Decimal("1.10"),
            "since": datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
            "day": datetime.date(2026, 1, 2),
            "anything": [1, 2],
            "mode": "fast",
            "flag": True,
            "hidden": 2,
            "box": Box(2, 3),
        }
        assert type(values["ratio"]) is float

    def test_everything_that_is_wrong_is_said_at_once_with_its_place(self) -> None:
        values, problems = of_component("""
            prot = "y"
            port = 5
            limit = -1
            ratio = true
            path = 5
            colour = "bleu"
            names = "abc"
            tags = {a = 1}
            boxes = [{width = 1}, {height = 0, v = 1}, {width = "a"}, 5]
            nested = [[1], "12"]
            maybe = "x"
            maybe_box = {width = 5, height = 0}
            several = 1.5
            counts = {a = "x", "b c" = 2.5}
            raw = "abc"
            price = 1.5
            since = 2026-01-02
            day = 2026-01-02T03:04:05Z
            call = 5
            mode = "medium"
            flag = 1
            hidden = 2
            box = 5
        """)
        place = "[components.thermometer]"
        assert problems == [
            f"{place} prot: there is no such field; did you mean port?",
            f"{place} port = 5: expected a text",
            f"{place} limit = -1: 'limit' must be > 0: -1",
            f"{place} ratio = true: expected a number",
            f"{place} path = 5: expected a path, as a text",
            f'{place} colour = "bleu": expected one of "red", "blue"',
            f'{place} names = "abc": expected a list (list[str])',
            f"{place} tags = {{a = 1}}: expected a list (frozenset[str])",
            f"{place} boxes[1].width: is missing; write a whole number",
            f"{place} boxes[1].v: there is no such key; there are: width, height",
            f'{place} boxes[2].width = "a": expected a whole number',
            f"{place} boxes[3] = 5: expected a table (Box)",
            f'{place} nested[1] = "12": expected a list (list[int])',
            f'{place} maybe = "x": expected a whole number',
            f"{place} maybe_box: 'height' must be > 0: 0",
            f"{place} several = 1.5: expected a whole number or a text",
            f'{place} counts.a = "x": expected a whole number',
            f'{place} counts."b c" = 2.5: expected a whole number',
            f"{place} raw: a value of type bytes cannot be written here: set it in the program",
            f"{place} price = 1.5: expected a number, as a text",
            f"{place} since = 2026-01-02: expected a date with a time",
            f"{place} day = 2026-01-02 03:04:05+00:00: expected a date",
            f"{place} call: a value of type Callable[[], int] cannot be written here: set it in the program",
            f'{place} mode = "medium": expected one of "slow", "fast"',
            f"{place} flag = 1: expected true or false",
            f"{place} box = 5: expected a table (Box)",
        ]
        assert values == {"hidden": 2}

    @pytest.mark.parametrize("text", ["limit = 1.0", 'limit = "1"', "limit = true"])
    def test_no_number_is_guessed(self, text: str) -> None:
        [problem] = of_component(text)[1]
        assert problem.endswith(": expected a whole number")

    def test_a_pair_needs_all_its_parts(self) -> None:
        [problem] = of_component("pair = [1]")[1]
        assert problem.startswith("[components.thermometer] pair")

    def test_values_that_do_not_go_together_are_refused_by_the_class(self) -> None:
        class Range(Component):
            low: int = 0
            high: int = 10

            def __attrs_post_init__(self) -> None:
                if self.low > self.high:
                    raise ValueError(f"low ({self.low}) is above high ({self.high})")

            def run(self) -> None: ...

        assert of_component("low = 11", Range(), "range")[1] == [
            "[components.range] low = 11: low (11) is above high (10)"
        ]
        assert of_component("low = 3\nhigh = 4", Range(), "range") == ({"low": 3, "high": 4}, [])
        [problem] = of_component("low = 8\nhigh = 4", Range(high=20), "range")[1]
        assert problem == "[components.range]: low (8) is above high (4)"

    def test_a_component_without_configuration_says_so(self) -> None:
        class Plain(Component):
            def run(self) -> None: ...

        assert of_component("x = 1", Plain(), "my plain") == (
            {},
            ['[components."my plain"] x: there is no such field; Plain has no configuration'],
        )

    def test_a_type_that_cannot_be_looked_up_concerns_its_own_field_only(self) -> None:
        class Odd(Component):
            known: int = 1
            odd: OnlyForTypeCheckers[str, int] = attrs.field(factory=dict)

            def run(self) -> None: ...

        values, [problem] = of_component("known = 2\nodd = {a = 1}", Odd(), "odd")
        assert values == {"known": 2}
        assert problem.startswith("[components.odd] odd: its type 'OnlyForTypeCheckers[str, int]' cannot be told (")
        assert problem.endswith("): set it in the program")

    def test_a_type_may_be_a_part_of_the_class(self) -> None:
        class Motor(Component):
            class Direction(enum.Enum):
                LEFT = "left"
                RIGHT = "right"

            direction: Direction = Direction.LEFT

            def run(self) -> None: ...

        values, problems = of_component('direction = "right"', Motor(), "motor")
        assert (values, problems) == ({"direction": Motor.Direction.RIGHT}, [])

    def test_an_inherited_field_is_looked_up_where_it_was_written(self) -> None:
        class Child(Thermometer):
            more: int = 0

        assert of_component('colour = "blue"\nmore = 3', Child(port="x")) == ({"colour": Colour.BLUE, "more": 3}, [])

    def test_a_life_gets_the_values_and_the_blueprint_keeps_its_own(self) -> None:
        blueprint = Thermometer(port="a", limit=9)
        values, _ = of_component('port = "b"\nnames = ["x"]', blueprint)

        one, another = (copy_of(blueprint, None, values) for _ in range(2))

        assert (one.port, one.limit, one.names) == ("b", 9, ["x"])
        assert one.names is not another.names
        assert (blueprint.port, blueprint.names) == ("a", [])
