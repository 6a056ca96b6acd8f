"""What the main thread makes of signals, without a system."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from minions.life import foreground as module
from minions.life.foreground import Foreground
from tests.system.conftest import PATIENCE_S


class Time:
    """Stands in for the module `time`."""

    def __init__(self, *moments_s: float) -> None:
        self._moments_s = iter(moments_s)

    def monotonic(self) -> float:
        return next(self._moments_s)


@pytest.fixture
def foreground() -> Iterator[Foreground]:
    made = Foreground()
    with made.handlers():
        yield made


def waited(foreground: Foreground) -> list[str | int]:
    """What follows from the signals that have come, up to the end."""
    calls: list[str | int] = []
    foreground.ended()
    foreground.wait(calls.append, calls.append)
    return calls


@pytest.mark.parametrize(
    ("numbers", "moments_s", "calls"),
    [
        ([], [], []),
        ([signal.SIGINT], [5.0], ["interrupted"]),
        ([signal.SIGTERM], [5.0], ["terminated"]),
        ([signal.SIGINT, signal.SIGINT], [5.0, 5.1], ["interrupted"]),
        ([signal.SIGINT, signal.SIGINT], [5.0, 6.0], ["interrupted", signal.SIGINT]),
        ([signal.SIGTERM, signal.SIGINT], [5.0, 6.0], ["terminated", signal.SIGINT]),
        ([signal.SIGINT, signal.SIGINT, signal.SIGTERM], [5.0, 5.1, 5.6], ["interrupted", signal.SIGTERM]),
    ],
    ids=["none", "Ctrl-C", "SIGTERM", "the same key press", "twice", "both", "three times"],
)
def test_what_signals_mean(
    foreground: Foreground,
    monkeypatch: pytest.MonkeyPatch,
    numbers: list[signal.Signals],
    moments_s: list[float],
    calls: list[str | int],
) -> None:
    monkeypatch.setattr(module, "time", Time(*moments_s))
    for number in numbers:
        signal.raise_signal(number)
    assert waited(foreground) == calls


def test_a_signal_is_heard_whichever_thread_it_is_given_to(foreground: Foreground) -> None:
    stopped = threading.Event()

    def stop(reason: str) -> None:
        stopped.set()

    def send_from_another_thread() -> None:
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)  # so that the main thread's wait is not interrupted
        assert stopped.wait(PATIENCE_S)
        foreground.ended()

    thread = threading.Thread(target=send_from_another_thread)
    thread.start()
    foreground.wait(stop, lambda number: None)
    thread.join(PATIENCE_S)
    assert stopped.is_set()


def test_signals_that_the_program_handles_itself_are_none_of_ours(foreground: Foreground) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: heard.append(number))
    try:
        signal.raise_signal(signal.SIGUSR2)
        assert waited(foreground) == []
        assert heard == [signal.SIGUSR2]
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_everything_is_as_before_afterwards() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    foreground = Foreground()
    with foreground.handlers():
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] != before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    foreground.ended()  # late, and in vain


def test_on_another_thread_no_handler_is_installed() -> None:
    before = signal.getsignal(signal.SIGINT)
    during: list[object] = []

    def wait() -> None:
        foreground = Foreground()
        with foreground.handlers():
            during.append(signal.getsignal(signal.SIGINT))
            foreground.ended()
            foreground.wait(lambda reason: None, lambda number: None)

    thread = threading.Thread(target=wait)
    thread.start()
    thread.join(PATIENCE_S)
    assert during == [before]


def test_the_end_is_heard_although_there_is_no_room_for_its_word(foreground: Foreground) -> None:
    with suppress(BlockingIOError):
        while True:
            foreground._told.send(bytes([signal.SIGUSR2]))
    assert waited(foreground) == []


def test_a_signal_that_is_ignored_stays_so() -> None:
    """As Ctrl-C is for what a shell has started in the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        foreground = Foreground()
        with foreground.handlers():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_standard_error_that_is_an_object_of_the_program_gets_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    class Tee:
        def write(self, text: str) -> int:
            return len(text)

    monkeypatch.setattr("sys.stderr", Tee())
    assert module.last_word("it failed") == "it failed"
