"""A call that is woken because its component is to stop may return as if nothing had happened: what came of it is not kept."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from minions import Component, Inbox, Outbox, State, System
from tests.life.conftest import Log, Number, Start


class SilentServer:
    """Answers each line, but for the first caller, who gets three answers and no more."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.asked, self.answered = Log(), Log()
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def _accept(self) -> None:
        most = 3
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection, most))
            thread.start()
            self._threads.append(thread)
            most = 1_000

    def _serve(self, connection: socket.socket, most: int) -> None:
        with connection, connection.makefile("rb") as lines:
            for number, line in enumerate(lines):
                self.asked.add(int(line))
                if number < most:
                    self.answered.add(int(line))
                    connection.sendall(b"ok\n")

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in (self._accepting, *self._threads):
            thread.join()


@pytest.fixture
def server() -> Iterator[SilentServer]:
    server = SilentServer()
    yield server
    server.close()


class Numbers(Component):
    count: int
    out = Outbox(Number)
    sent = State(int)

    def run(self) -> None:
        while self.sent < self.count:
            with self.unit():
                self.sent += 1
                self.out.send(Number(self.sent))


class Asking(Component):
    """Takes the end of the connection for an answer, as careless code does."""

    port: int
    by_hand: bool = False

    def on_start(self) -> None:
        self.connection = socket.create_connection(("127.0.0.1", self.port))

    def ask(self, number: Number) -> None:
        self.connection.sendall(b"%d\n" % number.value)
        if self.by_hand:
            self.connection.recv(100)
        else:
            with self.blocking(self.connection):
                self.connection.recv(100)

    def on_interrupt(self) -> None:
        if self.by_hand:
            self.connection.shutdown(socket.SHUT_RDWR)

    def on_stop(self) -> None:
        self.connection.close()


class Kept(Asking):
    numbers = Inbox(Number)
    handled = State(list[int])

    @numbers.handler
    def handle(self, number: Number) -> None:
        self.ask(number)
        self.handled.append(number.value)


class Passing(Asking):
    numbers = Inbox(Number, durable=False)
    out = Outbox(Number)

    @numbers.handler
    def handle(self, number: Number) -> None:
        self.ask(number)
        self.out.send(number)


class Sink(Component):
    numbers = Inbox(Number, durable=False)
    values = State(list[int])

    @numbers.handler
    def take(self, number: Number) -> None:
        self.values.append(number.value)


class Plain(Asking):
    numbers = Inbox(Number, durable=False)

    @numbers.handler
    def handle(self, number: Number) -> None:
        self.ask(number)


def interrupted_at_the_fourth(system: System, start: Start, server: SilentServer, asking: Asking) -> None:
    numbers = system.add(Numbers(count=10))
    system.add(asking, name="asking")
    system.connect(numbers.out, asking.numbers)  # type: ignore[attr-defined]
    run = start(system, stop_timeout_s=0.5).up()
    server.asked.wait_for(lambda asked: 4 in asked)
    system.restart(asking).result(20)
    server.answered.wait_for_count(10)
    run.wait_until_quiet()
    run.stop()
    assert server.answered.entries == list(range(1, 11)), "each has its answer, and one only"


@pytest.mark.parametrize("by_hand", [False, True])
def test_state_is_as_before(system: System, start: Start, server: SilentServer, by_hand: bool) -> None:
    kept = Kept(port=server.port, by_hand=by_hand)
    interrupted_at_the_fourth(system, start, server, kept)
    assert kept.handled == list(range(1, 11))


@pytest.mark.parametrize("by_hand", [False, True])
def test_what_was_sent_never_was(system: System, start: Start, server: SilentServer, by_hand: bool) -> None:
    passing, sink = Passing(port=server.port, by_hand=by_hand), system.add(Sink())
    system.connect(passing.out, sink.numbers)
    interrupted_at_the_fourth(system, start, server, passing)
    assert sink.values == list(range(1, 11))


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_message_of_which_nothing_is_kept_is_handled_again(
    system: System, start: Start, server: SilentServer, by_hand: bool
) -> None:
    interrupted_at_the_fourth(system, start, server, Plain(port=server.port, by_hand=by_hand))
