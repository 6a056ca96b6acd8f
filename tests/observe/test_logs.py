"""Events as log lines: level, name, text; and what is shown where a program has not set up logging."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import pytest

from minions import JsonFormatter, events
from minions.observe.field_logger import FieldLogger
from minions.observe.logs import log_event, shown_by_default

OPENED = events.StateOpened(folder="F", resumed=False, waiting_messages=0, commits_lost=0, strangers=())
STOPPED = events.SystemStopped(reason="finished", problems=(), survivors=(), left_messages=0, lost_messages=0)
FAILED = events.ComponentFailed(
    component="c",
    epoch=1,
    where="handle",
    error="ValueError: bad",
    traceback="Traceback:\n  bad\n",
    message_id="",
    attempt=0,
    restart_in_s=None,
)
EXCEEDED = events.LimitExceeded("memory", "", 0.9, 0.8, "ratio", 10.0, "report", "memory is full, over the limit")
EVIDENCE = events.Evidence(
    component="c",
    epoch=1,
    doing="handling add",
    message_id="",
    for_s=31.0,
    cpu_s=0.0,
    on_cpu=False,
    system_call="recvfrom",
    resource="",
    holder="",
    stack="  File x\n",
)


def evolve(event: events.Event, **changes: Any) -> events.Event:
    return attrs.evolve(event, **changes)


TABLE: list[tuple[events.Event, list[tuple[str, str, str]]]] = [
    (OPENED, []),
    (
        evolve(OPENED, resumed=True, waiting_messages=1234),
        [("s", "INFO", "resumes from F: 1,234 messages waiting")],
    ),
    (evolve(OPENED, resumed=True, waiting_messages=1), [("s", "INFO", "resumes from F: 1 message waiting")]),
    (
        evolve(OPENED, strangers=("a.x", "b.y")),
        [
            ("s", "WARNING", "F holds messages for a.x, which is not part of the system; they are kept"),
            ("s", "WARNING", "F holds messages for b.y, which is not part of the system; they are kept"),
        ],
    ),
    (events.SystemStarted(1), [("s", "INFO", "started: 1 component")]),
    (events.SystemStarted(2000), [("s", "INFO", "started: 2,000 components")]),
    (STOPPED, [("s", "INFO", "stopped (finished)")]),
    (evolve(STOPPED, left_messages=2), [("s", "INFO", "stopped (finished); 2 messages kept for the next start")]),
    (
        evolve(STOPPED, lost_messages=1),
        [
            ("s", "INFO", "stopped (finished)"),
            ("s", "WARNING", "1 message in inboxes that are not durable were dropped"),
        ],
    ),
    (events.ComponentStarted("c", 3), [("s.c", "DEBUG", "started, life 3")]),
    (events.ComponentFinished("c", 1), [("s.c", "DEBUG", "finished")]),
    (events.ComponentStopped("c", 1), [("s.c", "DEBUG", "stopped")]),
    (
        events.EventsDropped("units", 1, 1_200),
        [("s", "WARNING", "1 unit of work could not be told to plugins, which are too slow; 1,200 so far")],
    ),
    (events.SystemStopping("finished", 10.0), [("s", "INFO", "stops (finished), within 10 s")]),
    (events.ComponentPaused("c", 1, "operator"), [("s.c", "INFO", "paused by the operator")]),
    (events.ComponentResumed("c", 1), [("s.c", "INFO", "goes on")]),
    (
        events.ComponentInterrupted("c", 1, "handle", "OSError: shut down"),
        [("s.c", "INFO", "was broken off in handle: OSError: shut down")],
    ),
    (FAILED, [("s.c", "ERROR", "failed in handle: ValueError: bad\nTraceback:\n  bad")]),
    (
        evolve(FAILED, message_id="c.in-7", attempt=2, restart_in_s=0.25),
        [
            (
                "s.c",
                "ERROR",
                "failed in handle at message c.in-7, attempt 2; a new life begins in 0.2 s: ValueError: bad\nTraceback:\n  bad",
            )
        ],
    ),
    (
        evolve(FAILED, where="after_commit", message_id="c.in-7"),
        [("s.c", "ERROR", "failed in after_commit at message c.in-7: ValueError: bad\nTraceback:\n  bad")],
    ),
    (
        events.AfterCommitFailed("c", 1, "ValueError: bad", "Traceback:\n  bad\n", "c.in-7"),
        [
            (
                "s.c",
                "ERROR",
                (
                    "what after_commit() was handed at message c.in-7 failed in a life that had failed before: "
                    "ValueError: bad\nTraceback:\n  bad"
                ),
            )
        ],
    ),
    (
        events.AfterCommitFailed("c", 1, "ValueError: bad", "Traceback:\n  bad\n", ""),
        [
            (
                "s.c",
                "ERROR",
                "what after_commit() was handed failed in a life that had failed before: ValueError: bad\nTraceback:\n  bad",
            )
        ],
    ),
    (
        events.AfterCommitDropped("c", 1, 1),
        [("s.c", "WARNING", "1 function of after_commit() was not called: the component had to end first")],
    ),
    (
        events.AfterCommitDropped("c", 1, 1200),
        [("s.c", "WARNING", "1,200 functions of after_commit() were not called: the component had to end first")],
    ),
    (
        events.MessageSetAside("c", "c.in-7", 3, "ValueError: bad", True),
        [("s.c", "ERROR", "message c.in-7 failed 3 times and was set aside as a dead letter: ValueError: bad")],
    ),
    (
        events.MessageSetAside("c", "c.in-7", 1, "ValueError: bad", False),
        [("s.c", "ERROR", "message c.in-7 failed 1 time and was dropped: ValueError: bad")],
    ),
    (
        events.MessageOutlivedProcess("c", "c.in-7", 1),
        [("s.c", "INFO", "message c.in-7 was in work when the process died; it is tried again")],
    ),
    (
        events.MessageOutlivedProcess("c", "c.in-7", 2),
        [("s.c", "WARNING", "message c.in-7 was in work when the process died, 2 times in a row; it is tried again")],
    ),
    (events.GaveUp("c", 6, 60.0), [("s.c", "CRITICAL", "failed 6 times within 60 s, the system stops")]),
    (
        events.ComponentAbandoned("c", 1, "  File x\n"),
        [("s.c", "CRITICAL", "did not stop in time, its thread was abandoned here:\n  File x")],
    ),
    (events.PluginNotLoaded("p", "it is a class", ""), [("s", "ERROR", "plugin p is not used: it is a class")]),
    (
        events.PluginNotLoaded("p", "it cannot be imported: OSError", "Traceback:\n  bad\n"),
        [("s", "ERROR", "plugin p is not used: it cannot be imported: OSError\nTraceback:\n  bad")],
    ),
    (
        events.PluginFailed("p", "gave_up", "ValueError: bad", "Traceback:\n  bad\n"),
        [
            (
                "s",
                "ERROR",
                (
                    "plugin p failed in its hook gave_up (further errors there are counted only): ValueError: bad\n"
                    "Traceback:\n  bad"
                ),
            )
        ],
    ),
    (
        events.PluginSetAside("p", "gave_up", 10.04, "  File x\n"),
        [
            (
                "s",
                "ERROR",
                "plugin p was set aside: its hook gave_up has not returned for 10.0 s; it hangs here:\n  File x",
            )
        ],
    ),
    (
        events.EventsDropped("logs", 1, 1),
        [("s", "WARNING", "1 event could not be told to the logs, which are too slow")],
    ),
    (
        events.EventsDropped("plugins", 1200, 1201, "p"),
        [("s", "WARNING", "1,200 events could not be told to the plugins, which are too slow (plugin p)")],
    ),
    (EXCEEDED, [("s", "WARNING", "memory is full, over the limit")]),
    (
        evolve(EXCEEDED, then="pause_sources"),
        [("s", "WARNING", "memory is full, over the limit; sources are paused")],
    ),
    (
        evolve(EXCEEDED, then="restart"),
        [("s", "WARNING", "memory is full, over the limit; the component is restarted")],
    ),
    (evolve(EXCEEDED, then="stop"), [("s", "WARNING", "memory is full, over the limit; the system stops")]),
    (
        events.LimitKept("memory", "", 0.5, "ratio", 12.4),
        [("s", "INFO", "memory is back below its limit, after 12 s")],
    ),
    (
        events.LimitKept("lag", "c.in", 0.5, "s", 12.0),
        [("s", "INFO", "lag of c.in is back below its limit, after 12 s")],
    ),
    (
        events.TickLate(3.14, "gil_held", "c", 2.95, "report"),
        [
            (
                "s",
                "WARNING",
                "nothing ran for 3.1 s: the interpreter's lock (GIL) was kept by c, which has used 3.0 s of CPU time",
            )
        ],
    ),
    (
        events.TickLate(3.0, "gil_held", "", 0.0, "report"),
        [("s", "WARNING", "nothing ran for 3.0 s: the interpreter's lock (GIL) was kept")],
    ),
    (
        events.TickLate(3.0, "stopped", "", 0.0, "pause_sources"),
        [
            (
                "s",
                "WARNING",
                (
                    "nothing ran for 3.0 s: the process was stopped, throttled by a quota, or the whole machine was suspended; "
                    "sources are paused"
                ),
            )
        ],
    ),
    (
        events.TickLate(3.0, "starved", "", 0.0, "report"),
        [("s", "WARNING", "nothing ran for 3.0 s: no core was free for it: other processes have taken them")],
    ),
    (
        events.TickLate(3.0, "unknown", "", 0.0, "report"),
        [("s", "WARNING", "nothing ran for 3.0 s: the reason is not known")],
    ),
    (
        events.ComponentStalled("c", 1, EVIDENCE, "report"),
        [("s.c", "WARNING", f"{EVIDENCE.sentence}\n  File x")],
    ),
    (
        events.ComponentStalled("c", 1, EVIDENCE, "restart"),
        [("s.c", "WARNING", f"{EVIDENCE.sentence}; the component is restarted\n  File x")],
    ),
    (events.ComponentRecovered("c", 1, 31.4, ended=False), [("s.c", "INFO", "goes on after 31 s without progress")]),
    (events.ComponentRecovered("c", 1, 31.4, ended=True), [("s.c", "INFO", "ended after 31 s without progress")]),
    (
        events.CommitTrouble(1, "disk full", False),
        [("s", "WARNING", "commit failed (nothing is lost, trying again): disk full")],
    ),
    (events.CommitTrouble(2, "disk full", False), []),
    (
        events.CommitTrouble(10, "disk full", False),
        [("s", "WARNING", "commit failed (nothing is lost, trying again): disk full")],
    ),
    (
        events.CommitTrouble(11, "disk full", True),
        [("s", "CRITICAL", "commit failed (giving up, the system stops): disk full")],
    ),
    (events.CommitsResumed(1), [("s", "INFO", "commits work again, after 1 failure")]),
]


@pytest.mark.parametrize(("event", "lines"), TABLE, ids=[type(event).__name__ for event, _ in TABLE])
def test_each_event_is_logged(
    event: events.Event, lines: list[tuple[str, str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "s"):
        log_event(logging.getLogger("s"), event)
    assert [(record.name, record.levelname, record.getMessage()) for record in caplog.records] == lines


def test_every_kind_of_event_is_in_the_table() -> None:
    kinds = {getattr(events, name) for name in events.__all__} - {events.Event, events.Evidence, events.UnitEnded}
    assert {type(event) for event, _ in TABLE} == kinds


def test_commits_that_are_perhaps_lost_are_told(caplog: pytest.LogCaptureFixture) -> None:
    log_event(logging.getLogger("s"), evolve(OPENED, perhaps_lost=True))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("the machine went down while F was in use: the last commits may be lost")


def test_commits_lost_with_the_power_are_told(caplog: pytest.LogCaptureFixture) -> None:
    log_event(logging.getLogger("s"), evolve(OPENED, commits_lost=3))
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert "the last 3 commits of F" in record.getMessage()


# Fields --------------------------------------------------------------------------------------------------------------


def test_what_is_logged_of_an_event_has_its_fields(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "s")
    log_event(logging.getLogger("s"), evolve(FAILED, message_id="c.in-7", epoch=3))
    log_event(logging.getLogger("s"), events.SystemStarted(1))
    failed, started = caplog.records
    of_failed: Any = failed
    assert (of_failed.event, of_failed.component, of_failed.epoch, of_failed.message_id) == (
        "ComponentFailed",
        "c",
        3,
        "c.in-7",
    )
    assert vars(started)["event"] == "SystemStarted"
    assert not {"component", "epoch", "message_id"} & vars(started).keys()


def test_an_empty_field_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    log_event(logging.getLogger("s"), FAILED)
    assert "message_id" not in vars(caplog.records[0])


class Asked:
    """Fields, and how often they were asked for."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> dict[str, Any]:
        self.times += 1
        return {"component": "c", "message_id": f"m{self.times}"}


def test_fields_are_asked_for_only_where_a_line_is_made(caplog: pytest.LogCaptureFixture) -> None:
    base, asked = logging.getLogger("minions.t.c"), Asked()
    log = FieldLogger(base, asked)
    caplog.set_level(logging.INFO, "minions.t")
    log.debug("hidden")
    assert asked.times == 0
    log.info("seen %d", 1, extra={"component": "mine"})
    log.getChild("below").warning("seen too")

    first, second = caplog.records
    assert (first.name, first.getMessage(), first.funcName) == (
        "minions.t.c",
        "seen 1",
        "test_fields_are_asked_for_only_where_a_line_is_made",
    )
    assert (vars(first)["component"], vars(first)["message_id"]) == ("mine", "m1")
    assert (second.name, vars(second)["message_id"]) == ("minions.t.c.below", "m2")
    assert log.isEnabledFor.__self__ is base  # type: ignore[attr-defined]  # so that a hidden line costs nothing more


def test_it_is_the_logger_of_its_name_in_everything_else() -> None:
    base = logging.getLogger("minions.t.d")
    log, lines = FieldLogger(base, dict), io.StringIO()
    handler = logging.StreamHandler(lines)
    log.addHandler(handler)
    try:
        log.setLevel(logging.ERROR)
        assert (base.level, base.handlers, log.getEffectiveLevel(), log.hasHandlers()) == (40, [handler], 40, True)
        log.warning("hidden")
        base.setLevel(logging.WARNING)
        log.warning("seen")
        base.disabled = True
        log.error("hidden")
        assert lines.getvalue() == "seen\n"
    finally:
        base.disabled = False
        log.removeHandler(handler)
        log.setLevel(logging.NOTSET)
    assert logging.getLogger("minions.t.d") is base


# Lines of JSON --------------------------------------------------------------------------------------------------------


def as_json(log: Any, *words: Any, **options: Any) -> dict[str, Any]:
    lines = io.StringIO()
    handler = logging.StreamHandler(lines)
    handler.setFormatter(JsonFormatter())
    base = logging.getLogger("minions.j")
    base.addHandler(handler)
    try:
        log(*words, **options)
    finally:
        base.removeHandler(handler)
    [line] = lines.getvalue().splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def test_a_record_is_one_line_of_json_with_its_fields() -> None:
    log = FieldLogger(logging.getLogger("minions.j"), lambda: {"component": "c", "epoch": 2, "message_id": "m"})
    line = as_json(log.warning, "mean %.1f\n\u2028é", 2.5, extra={"sensor": "s1"})
    time = datetime.fromisoformat(line.pop("time"))
    assert abs((datetime.now(UTC) - time).total_seconds()) < 60
    assert line == {
        "level": "WARNING",
        "logger": "minions.j",
        "message": "mean 2.5\n\u2028é",
        "component": "c",
        "epoch": 2,
        "message_id": "m",
        "sensor": "s1",
    }


def test_the_traceback_is_in_it() -> None:
    def fail() -> None:
        try:
            raise ValueError("bad")
        except ValueError:
            logging.getLogger("minions.j").exception("failed", stack_info=True)

    error = as_json(fail)["error"]
    assert error.startswith("Traceback")
    assert "ValueError: bad\nStack (most recent call last)" in error


class Mute:
    def __str__(self) -> str:
        raise ValueError


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (float("nan"), "nan"),
        (Path("a"), "a"),
        ({1: 2.5}, {"1": 2.5}),
        ({(1, 2): 3}, "{(1, 2): 3}"),
        (Mute(), "<Mute that cannot be described>"),
        ([1, None, True], [1, None, True]),
    ],
)
def test_what_json_does_not_know_is_its_text(value: Any, shown: Any) -> None:
    line = as_json(logging.getLogger("minions.j").error, "x", extra={"value": value})
    assert (line["value"], line["message"]) == (shown, "x")


# What is shown by default ---------------------------------------------------------------------------------------------


@contextmanager
def bare_logging() -> Iterator[io.StringIO]:
    """Logging as in a program that has not set it up; what it prints. No fixture, for pytest sets it up after those."""
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, []
    try:
        with redirect_stderr(io.StringIO()) as printed:
            yield printed
    finally:
        root.handlers = handlers


def printed_lines(printed: io.StringIO) -> list[str]:
    return [line.partition(" ")[2] for line in printed.getvalue().splitlines()]


def test_shown_are_warnings_and_the_lines_for_start_and_stop() -> None:
    log = logging.getLogger("minions.s")
    with bare_logging() as printed, shown_by_default():
        log_event(log, evolve(OPENED, resumed=True))
        log_event(log, events.SystemStarted(2))
        log_event(log, events.ComponentStarted("c", 1))
        log.getChild("c").info("hidden")
        log.getChild("c").warning("seen")
        log_event(log, STOPPED)

    assert printed_lines(printed) == [
        "INFO    minions.s: resumes from F: 0 messages waiting",
        "INFO    minions.s: started: 2 components",
        "WARNING minions.s.c: seen",
        "INFO    minions.s: stopped (finished)",
    ]


@pytest.mark.parametrize("name", ["", "minions"])
def test_nothing_is_added_where_the_program_has_set_up_logging(name: str) -> None:
    log, mine = logging.getLogger(name or None), logging.NullHandler()
    with bare_logging() as printed:
        log.addHandler(mine)
        try:
            with shown_by_default():
                logging.getLogger("minions.s").warning("for the program's own handlers")
                assert logging.getLogger("minions").handlers == ([mine] if name else [])
        finally:
            log.removeHandler(mine)
    assert printed.getvalue() == ""


def test_everything_is_as_before_afterwards() -> None:
    log = logging.getLogger("minions")
    log.setLevel(logging.ERROR)
    try:
        with bare_logging() as printed:
            with shown_by_default():
                assert log.level == logging.INFO
            log_event(log, events.SystemStarted(3))
        assert (log.level, log.handlers, printed.getvalue()) == (logging.ERROR, [], "")
    finally:
        log.setLevel(logging.NOTSET)
