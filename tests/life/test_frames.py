"""The frames of threads that run are read while no garbage is collected: otherwise CPython 3.11 now and then dies of it."""

from __future__ import annotations

import ast
import gc
import os
import sys
import threading
from pathlib import Path

import pytest

import minions
from minions.life.traces import stack_of
from minions.threads import reading_frames, report_unhandled

HOME = Path(minions.__file__).parent


def test_nothing_is_collected_while_a_stack_is_read_and_as_before_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    collects: list[bool] = []
    current_frames = sys._current_frames

    def look() -> object:
        collects.append(gc.isenabled())
        return current_frames()

    monkeypatch.setattr(sys, "_current_frames", look)
    assert stack_of(threading.get_ident())
    assert collects == [False]
    assert gc.isenabled()
    gc.disable()
    try:
        with reading_frames():
            assert not gc.isenabled()
        assert not gc.isenabled(), "whoever has switched it off wants it off"
    finally:
        gc.enable()


def test_no_garbage_is_collected_until_the_last_of_several_readers_is_done() -> None:
    first, second = reading_frames(), reading_frames()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not gc.isenabled(), "the other one still reads"
    second.__exit__(None, None, None)
    assert gc.isenabled()


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # threads of other tests may be left
def test_a_forked_child_collects_garbage_although_a_thread_read_frames_in_the_parent() -> None:
    with reading_frames():
        child = os.fork()
        if not child:
            collects = gc.isenabled()
            with reading_frames():
                stopped = not gc.isenabled()
            os._exit(0 if collects and stopped and gc.isenabled() else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_an_error_that_nobody_handles_is_reported_whatever_becomes_of_the_report(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[type[BaseException]] = []

    def hook(arguments: threading.ExceptHookArgs) -> None:
        told.append(arguments.exc_type)
        raise OSError("standard error is closed")

    monkeypatch.setattr(threading, "excepthook", hook)
    report_unhandled(ValueError("bad"))
    assert told == [ValueError]


def test_no_frame_of_another_thread_is_asked_for_without_that() -> None:
    asked = 0
    for path in HOME.rglob("*.py"):
        tree = ast.parse(path.read_text())
        guarded = {
            node
            for block in ast.walk(tree)
            if isinstance(block, ast.With) and "reading_frames()" in map(ast.unparse, block.items)
            for node in ast.walk(block)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr == "_current_frames":
                asked += 1
                assert node in guarded, f"{path}, line {node.lineno}"
    assert asked >= 5
