"""Schedules as values: what a class may declare, which tick comes next, which are late, and what follows for those."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minions.errors import DeclarationError, UsageError
from minions.model import schedules
from minions.model.component import Component
from minions.model.ports import Inbox, Uses
from minions.model.schedules import MOST_MADE_UP, Cron, Every, Missed, Schedule, cron, every
from minions.model.topology import Node, Topology

BERLIN = "Europe/Berlin"


@attrs.frozen
class Number:
    value: int


def in_berlin(text: str, *, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(BERLIN), fold=fold).timestamp()


def told(moments: Iterable[float], zone: str = BERLIN) -> list[str]:
    """Moments as clocks on the wall show them, with the offset from UTC in hours."""
    times = [datetime.fromtimestamp(moment, ZoneInfo(zone)) for moment in moments]
    return [f"{time:%d %H:%M}+{(time.utcoffset() or timedelta()) // timedelta(hours=1)}" for time in times]


def following(schedule: Schedule, moment_s: float, count: int) -> list[float]:
    """The ticks after a moment, each asked for after the one before it."""
    found: list[float] = []
    for _ in range(count):
        found.append(schedule.next_after(found[-1] if found else moment_s))
    return found


def at(expression: str, zone: str = "UTC", missed: Missed = "once") -> Cron:
    return Cron(expression=expression, timezone=zone, missed=missed)


def each(seconds: float, missed: Missed = "once") -> Every:
    return Every(parts=(("seconds", seconds),), missed=missed)


# ---------------------------------------------------------------------- the next tick
def test_the_time_between_two_ticks_is_the_sum_of_what_is_said() -> None:
    schedule = Every(parts=(("days", 1), ("hours", 2), ("minutes", 3), ("seconds", 4.5)))
    assert schedule.period_s == 86_400 + 2 * 3_600 + 3 * 60 + 4.5
    assert schedule.next_after(10.0) == 10.0 + schedule.period_s
    assert str(schedule) == "@every(days=1, hours=2, minutes=3, seconds=4.5)"


SPRING, AUTUMN = "2024-03-30T12:00", "2024-10-26T12:00"


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        ("30 2 * * *", SPRING, ["31 03:00+2", "01 02:30+2", "02 02:30+2"]),  # it is skipped: made right after the gap
        ("15,45 2 * * *", SPRING, ["31 03:00+2", "01 02:15+2", "01 02:45+2"]),  # once for both
        ("30 2,3 * * *", SPRING, ["31 03:00+2", "31 03:30+2", "01 02:30+2"]),
        ("0 3 * * *", SPRING, ["31 03:00+2", "01 03:00+2"]),
        ("30 2 * * *", AUTUMN, ["27 02:30+2", "28 02:30+1", "29 02:30+1"]),  # it comes twice: the first time only
        ("15,45 2 * * *", AUTUMN, ["27 02:15+2", "27 02:45+2", "28 02:15+1"]),
        ("30 2,3 * * *", AUTUMN, ["27 02:30+2", "27 03:30+1", "28 02:30+1"]),
        ("0 3 * * *", AUTUMN, ["27 03:00+1", "28 03:00+1"]),
        ("*/30 * * * *", "2024-03-31T01:15", ["31 01:30+1", "31 03:00+2", "31 03:30+2"]),  # goes by real time
        ("30 * * * *", "2024-03-31T01:15", ["31 01:30+1", "31 03:30+2"]),
        ("*/30 * * * *", "2024-10-27T01:45", ["27 02:00+2", "27 02:30+2", "27 02:00+1", "27 02:30+1", "27 03:00+1"]),
        ("30 * * * *", "2024-10-27T01:45", ["27 02:30+2", "27 02:30+1", "27 03:30+1"]),
        ("0 30 2 * * *", SPRING, ["01 02:30+2", "02 02:30+2"]),  # six fields go by real time
        ("0 30 2 * * *", AUTUMN, ["27 02:30+2", "27 02:30+1", "28 02:30+1"]),
    ],
)
def test_clocks_that_are_put_forward_or_back(expression: str, after: str, expected: list[str]) -> None:
    schedule = at(expression, BERLIN)
    ticks = following(schedule, in_berlin(after), len(expected))
    assert told(ticks) == expected
    assert told(schedule.newest(in_berlin(after), ticks[-1], 10)) == expected
    assert list(schedule.problems()) == []


def test_in_the_second_of_the_hours_that_come_twice_what_was_made_in_the_first_is_not_made_again() -> None:
    schedule = at("30 2 * * *", BERLIN)
    first = in_berlin("2024-10-27T02:30")
    between = in_berlin("2024-10-27T02:10", fold=1)
    assert first < between
    assert told([schedule.next_after(between)]) == ["28 02:30+1"]
    assert schedule.newest(first - 60, between, 3) == (first,)
    assert schedule.newest(first, between, 3) == ()


def test_fields_as_crontab_has_them() -> None:
    begin = datetime(2024, 2, 1, tzinfo=UTC).timestamp()
    expected = {
        "0 0 L * *": "2024-02-29",
        "0 0 * * FRI#2": "2024-02-09",
        "0 0 * * 5L": "2024-02-23",
        "0 0 29 2 *": "2024-02-29",
        "0 0 1-7 MAR *": "2024-03-01",
    }
    found = {text: datetime.fromtimestamp(at(text).next_after(begin), UTC).date().isoformat() for text in expected}
    assert found == expected


def test_local_time_is_that_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = in_berlin("2024-07-01T12:00")
    schedule = at("0 6 * * *", "local")
    monkeypatch.setenv("TZ", f":{BERLIN}")
    assert told([schedule.next_after(begin)]) == ["02 06:00+2"]
    monkeypatch.delenv("TZ")
    here = tmp_path / "localtime"
    monkeypatch.setattr(schedules, "_LOCALTIME", here)
    assert told([schedule.next_after(begin)], "UTC") == ["02 06:00+0"]
    here.symlink_to(Path("/usr/share/zoneinfo", BERLIN))
    assert told([schedule.next_after(begin)]) == ["02 06:00+2"]


# ---------------------------------------------------------------------- ticks that are late
@pytest.mark.parametrize(
    ("missed", "now_s", "base", "after_downtime"),
    [
        ("once", 105.0, 100.0, 100.0),  # nothing is late
        ("once", 110.0, 100.0, 100.0),  # the one of this moment
        ("once", 139.0, 120.0, 120.0),  # three are late: the newest is left
        ("none", 105.0, 100.0, 100.0),
        ("none", 139.0, 120.0, 130.0),  # after a downtime none is
        ("all", 139.0, 100.0, 100.0),
        ("all", 100.0 + 10 * MOST_MADE_UP, 100.0, 100.0),
        ("all", 100.0 + 10 * (MOST_MADE_UP + 7), 170.0, 170.0),
        ("once", 99.0, 99.0, 99.0),  # the clock was put back: it is counted anew
        ("none", 99.0, 99.0, 99.0),
    ],
)
def test_what_is_left_of_ticks_that_are_late(missed: Missed, now_s: float, base: float, after_downtime: float) -> None:
    schedule = each(10.0, missed)
    assert schedule.base(100.0, now_s) == base
    assert schedule.base_after_downtime(100.0, now_s) == after_downtime


@pytest.mark.parametrize(
    ("missed", "base", "after_downtime"),
    [("once", "05 00:30", "05 00:30"), ("none", "05 00:30", "06 00:30"), ("all", "02 00:30", "02 00:30")],
)
def test_what_is_left_of_times_of_day_that_are_late(missed: Missed, base: str, after_downtime: str) -> None:
    schedule = at("30 0 * * *", missed=missed)
    last, now = (datetime(2024, 5, day, hour, 30, tzinfo=UTC).timestamp() for day, hour in ((2, 0), (6, 12)))

    def shown(moment: float) -> str:
        return f"{datetime.fromtimestamp(moment, UTC):%d %H:%M}"

    assert shown(schedule.base(last, now)) == base
    assert shown(schedule.base_after_downtime(last, now)) == after_downtime


@pytest.mark.parametrize(
    ("expression", "put_back_s", "waits"),
    [
        ("30 2 * * *", 3 * 3_600.0, True),
        ("30 2 * * *", 3 * 3_600.0 + 1.0, False),
        ("*/5 * * * *", 60.0, True),
        ("*/5 * * * *", 61.0, False),
        ("0 * * * *", 61.0, False),
        ("0 30 2 * * *", 61.0, False),
    ],
)
def test_what_was_made_is_not_made_again_when_the_clock_is_put_back_by_little(
    expression: str, put_back_s: float, waits: bool
) -> None:
    last = 1_700_000_000.0
    now = last - put_back_s
    for schedule in (at(expression), at(expression, missed="none")):
        assert schedule.base(last, now) == (last if waits else now)
        assert schedule.base_after_downtime(last, now) == (last if waits else now)


EXPRESSIONS = (
    "30 2 * * *",
    "15,45 2,3 * * *",
    "*/20 * * * *",
    "7 */2 * * *",
    "0 30 2 * * *",
    "0 0 * * MON",
    "59 23 L * *",
)
ZONES = (BERLIN, "UTC", "America/St_Johns", "Australia/Lord_Howe", "Antarctica/Troll")


@given(
    expression=st.sampled_from(EXPRESSIONS),
    zone=st.sampled_from(ZONES),
    begin=st.one_of(
        st.floats(1.70e9, 1.76e9),
        st.floats(-2.0, 4.0).map(lambda hours: in_berlin("2024-10-27T00:00") + hours * 3_600),
        st.floats(-2.0, 4.0).map(lambda hours: in_berlin("2024-03-31T00:00") + hours * 3_600),
    ),
    span_h=st.floats(0.0, 100.0),
)
@settings(deadline=None, max_examples=150)
def test_looking_back_finds_what_looking_ahead_has_found(
    expression: str, zone: str, begin: float, span_h: float
) -> None:
    schedule = at(expression, zone)
    end = begin + span_h * 3_600
    ahead: list[float] = []
    while (tick := schedule.next_after(ahead[-1] if ahead else begin)) <= end:
        assert tick > (ahead[-1] if ahead else begin)
        ahead.append(tick)
    assert list(schedule.newest(begin, end, 1_000)) == ahead
    assert list(schedule.newest(begin, end, 3)) == ahead[-3:]


@given(
    period=st.integers(1, 1_000),
    last=st.integers(0, 10_000),
    late=st.integers(-100, 10_000),
    missed=st.sampled_from(["once", "all"]),
)
def test_ticks_at_equal_distances_stay_where_they_are(period: int, last: int, late: int, missed: Missed) -> None:
    schedule = each(period, missed)
    now = last + late
    grid = list(range(last + period, now + 1, period))
    assert list(schedule.newest(last, now, 10_000)) == grid
    left = grid[-1:] if missed == "once" else grid[-MOST_MADE_UP:]
    base = schedule.base(last, now)
    assert schedule.next_after(base) == (left[0] if left else (last if late >= 0 else now) + period)


def test_jitter_makes_a_tick_later_by_a_part_of_it() -> None:
    schedule = attrs.evolve(at("30 2 * * *"), jitter_s=4.0)
    assert [schedule.late_by_s(chance) for chance in (0.0, 0.25, 1.0)] == [0.0, 1.0, 4.0]
    assert each(10.0).late_by_s(1.0) == 0.0


# ---------------------------------------------------------------------- declaring
def problems(define: Callable[[], object]) -> tuple[str, ...]:
    with pytest.raises(DeclarationError) as refused:
        define()
    return refused.value.problems


def defined(decorator: Callable[[Any], Any], **more: Any) -> type[Component]:
    def report(self: Any) -> None: ...

    return type("Defined", (Component,), {"report": decorator(report), "__module__": __name__, **more})


@pytest.mark.parametrize(
    ("decorator", "expected"),
    [
        (every(), "report: @every() says no time: write @every(seconds=60), or minutes=, hours=, days="),
        (every(seconds=-1), "report: @every(seconds=-1) must be at least a microsecond, and finite"),
        (every(hours=math.inf), "report: @every(hours=inf) must be at least a microsecond, and finite"),
        (every(seconds=5e-324), "report: @every(seconds=5e-324) must be at least a microsecond, and finite"),
        (every(seconds=10**400), "report: @every(seconds=1000"),
        (every(seconds=10**5_000), "report: @every(seconds=<int>) must be a number"),
        (every(seconds=1, jitter_s=10**400), "report: @every(jitter_s=1000"),
        (every(seconds=math.nan), "report: @every(seconds=nan) must be a number"),
        (every(minutes="5"), "report: @every(minutes='5') must be a number"),  # type: ignore[arg-type]
        (every(seconds=True), "report: @every(seconds=True) must be a number"),
        (every(seconds=5, jitter_s=5), "report: @every(seconds=5) has jitter_s=5, which must be less than"),
        (every(seconds=5, jitter_s=-1), "report: @every(jitter_s=-1) must be a number of seconds from 0 up"),
        (every(seconds=5, missed="some"), "report: @every(missed='some') must be one of once, all, none"),  # type: ignore[arg-type]
        (every(seconds=5, at_start=1), "report: @every(at_start=1) must be True or False"),  # type: ignore[arg-type]
        (cron("* * *"), "report: @cron('* * *') is no schedule (Wrong number of fields): write minute, hour,"),
        (cron("61 * * * *"), "report: @cron('61 * * * *') is no schedule (Bad minute)"),
        (cron("0 0 31 2 *"), "report: @cron('0 0 31 2 *') is no schedule (Bad day-of-month)"),
        (cron("0 0 30 2 1#6"), "report: @cron('0 0 30 2 1#6') is no schedule (Bad day-of-week)"),
        (cron(5), "report: @cron(5) must be a text such as '*/5 * * * *'"),  # type: ignore[arg-type]
        (
            cron("* * * * *", timezone="Berlin"),
            "report: @cron(timezone='Berlin') is not known: write a name of the IANA",
        ),
        (cron("* * * * *", timezone="../x"), "report: @cron(timezone='../x') is not known"),
        (cron("* * * * *", timezone=5), "report: @cron(timezone=5) is not known"),  # type: ignore[arg-type]
        (cron("* * * * *", jitter_s=math.inf), "report: @cron(jitter_s=inf) must be a number of seconds from 0 up"),
        (cron("* * * * *", missed="x"), "report: @cron(missed='x') must be one of"),  # type: ignore[arg-type]
        (
            lambda method: every(seconds=5)(cron("* * * * *")(method)),
            "report has 2 schedules (@cron('* * * * *'), @every(seconds=5)): write a method for each",
        ),
        (
            lambda method: property(every(seconds=5)(method)),
            "report has the schedule @every(seconds=5), but is no plain method: write def report(self) -> None",
        ),
        (
            lambda method: staticmethod(every(seconds=5)(method)),
            "report has the schedule @every(seconds=5), but is no plain method",
        ),
    ],
)
def test_what_cannot_be_is_refused_when_the_class_is_defined(decorator: Callable[[Any], Any], expected: str) -> None:
    [problem] = problems(lambda: defined(decorator))
    assert problem.startswith(expected), problem


def test_a_schedule_that_never_comes_is_refused() -> None:
    never = "0 0 */29 * MON#2"  # a second Monday that is the 1st or the 30th
    assert at(never).next_after(0.0) == math.inf
    assert at(never).newest(0.0, 1.7e9, 5) == ()
    assert problems(lambda: defined(cron(never))) == (
        (
            "report: @cron('0 0 */29 * MON#2') never comes: write minute, hour, day, month and weekday as crontab(5) has them, "
            "such as '*/5 * * * *'"
        ),
    )


def test_a_tick_takes_nothing_and_yields_nothing() -> None:
    def too_much() -> None:
        class Wrong(Component):
            @every(seconds=1)  # type: ignore[arg-type]
            def report(self, number: int) -> None: ...

    def asynchronous() -> None:
        class Wrong(Component):
            @every(seconds=1)  # type: ignore[arg-type]
            async def report(self) -> None: ...

    assert problems(too_much) == (
        "report has the schedule @every(seconds=1), but takes (self, number: 'int') -> 'None': write def report(self) -> None",
    )
    assert problems(asynchronous)[0].startswith(
        "report has the schedule @every(seconds=1), but is async, but components"
    )


def test_where_no_tick_could_be_made_it_is_refused() -> None:
    def with_run() -> None:
        class Wrong(Component):
            def run(self) -> None: ...

            @every(seconds=1)
            def report(self) -> None: ...

    def on_a_handler() -> None:
        class Wrong(Component):
            numbers = Inbox(Number)

            @every(seconds=1)  # type: ignore[arg-type]
            @numbers.handler
            def handle(self, number: Number) -> None: ...

    def on_a_hook() -> None:
        class Wrong(Component):
            @cron("* * * * *")
            def on_start(self) -> None: ...

    assert problems(with_run) == (
        (
            "report has the schedule @every(seconds=1), but the class has run(), which keeps the thread: put report into a "
            "component of its own, or do it in run()"
        ),
    )
    assert problems(on_a_handler) == (
        "handle has the schedule @every(seconds=1), but it is a handler: write another method that is called then",
    )
    assert problems(on_a_hook) == (
        "on_start has the schedule @cron('* * * * *'), but the runtime calls it: write another method that is called then",
    )
    with pytest.raises(UsageError, match=r"@every stands above a method of a component, not above 5"):
        every(seconds=1)(5)  # type: ignore[arg-type]


def test_a_subclass_inherits_changes_and_removes_schedules() -> None:
    class Base(Component):
        @every(seconds=1)
        def first(self) -> None: ...

        @every(seconds=2)
        def second(self) -> None: ...

        @every(seconds=3)
        def third(self) -> None: ...

    class Sub(Base):
        def first(self) -> None: ...

        @every(seconds=20)
        def second(self) -> None: ...

        third = None  # type: ignore[assignment]

    assert {name: str(schedule) for name, schedule in Base.__minions_declaration__.schedules.items()} == {
        "first": "@every(seconds=1)",
        "second": "@every(seconds=2)",
        "third": "@every(seconds=3)",
    }
    assert {name: str(schedule) for name, schedule in Sub.__minions_declaration__.schedules.items()} == {
        "first": "@every(seconds=1)",
        "second": "@every(seconds=20)",
    }


# ---------------------------------------------------------------------- the graph
class Ticking(Component):
    @cron("* * * * *")
    def tick(self) -> None: ...


class Feeding(Component):
    numbers = Inbox(Number)

    @numbers.handler
    def handle(self, number: Number) -> None: ...

    @every(seconds=1)
    def tick(self) -> None: ...


def problems_of(node: Node) -> list[str]:
    topology = Topology()
    topology.add(node)
    return [problem for problem in topology.problems() if "feeds" not in problem]


def test_replicas_and_partitions_have_no_schedules() -> None:
    assert problems_of(Node("ticking", Ticking())) == []
    assert problems_of(Node("feeding", Feeding(), replicas=2)) == [
        (
            "feeding: replicas=2, but it has schedules (tick), and each replica would make every tick: put them into a "
            "component of its own"
        )
    ]
    assert problems_of(Node("feeding", Feeding(), partition_by="value")) == [
        (
            "feeding: partition_by='value', but it has schedules (tick), and a tick belongs to no partition, so that no state is "
            "there: put them into a component of its own"
        )
    ]


def test_without_cronsim_the_check_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cronsim", None)
    wrong = defined(
        cron("not looked at")
    )  # the class can be defined: its expression is looked at when the library is there
    assert problems_of(Node("wrong", wrong())) == [
        "wrong: @cron needs the library cronsim: pip install 'minions-runtime[cron]'"
    ]
    assert problems_of(Node("every", defined(every(seconds=1))())) == []


def test_messages_begin_with_loops_and_with_schedules_that_nobody_feeds() -> None:
    class Using(Component):
        ticking = Uses(Ticking)

    class Looping(Component):
        def run(self) -> None: ...

    topology = Topology()
    for name, component in (("ticking", Ticking()), ("feeding", Feeding()), ("looping", Looping())):
        topology.add(Node(name, component))
    assert [node.name for node in topology.sources()] == ["ticking", "looping"]
    topology.add(Node("using", Using()))
    assert [node.name for node in topology.sources()] == ["looping"]
