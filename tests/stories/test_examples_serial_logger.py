"""The example of a serial line, on a pair of pseudo-terminals: a data logger that answers, is silent, and is asked again."""

from __future__ import annotations

import os
import threading
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stories.example import Example, Moments

RECORDS = 40


class Logger:
    """The other end of the line: it has records, and answers who asks for them by their numbers.

    Attributes:
        port: what the program opens.
        moments: each question that it is asked.
    """

    def __init__(self) -> None:
        self._near, self._far = os.openpty()
        tty.setraw(self._far)
        self.port = os.ttyname(self._far)
        self.records: list[int] = []
        self.moments = Moments()
        self._has_room = threading.Lock()
        self._waiting = 0
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        for line in self._lines():
            if line == b"END":
                return
            number = int(line.split()[1])
            self.moments.happened(f"asked for {number}")
            self._answer(number)

    def _lines(self) -> Iterator[bytes]:
        buffer = b""
        while True:
            buffer += os.read(self._near, 1024)
            *lines, buffer = buffer.split(b"\n")
            yield from lines

    def _answer(self, number: int) -> None:
        with self._has_room:
            if number <= len(self.records):
                os.write(self._near, f"{number} {self.records[number - 1]}\n".encode())
                self._waiting = 0
            else:
                self._waiting = number

    def weigh(self, *grams: int) -> None:
        """Keeps further records; who waits for one has it now."""
        with self._has_room:
            self.records += grams
            waiting = self._waiting
        if waiting:
            self._answer(waiting)

    def close(self) -> None:
        os.write(self._far, b"END\n")
        self._thread.join()
        os.close(self._near)
        os.close(self._far)


@pytest.fixture
def logger() -> Iterator[Logger]:
    logger = Logger()
    yield logger
    logger.close()


@pytest.fixture
def example(tmp_path: Path, logger: Logger) -> Example:
    example = Example("serial_logger", tmp_path)
    example.configure(logger={"port": logger.port})
    return example


def test_a_silent_logger_keeps_nobody_from_stopping_and_each_record_counts_once(
    example: Example, logger: Logger
) -> None:
    logger.weigh(*range(1, 11))
    with example.running() as child:
        logger.moments.wait_for("asked for 11", 1)
        assert child.interrupt() == 0
        assert child.lines[-1] == "10 records, 55 grams"

    logger.weigh(100, 200)
    assert example.run_until("record 12$") == "12 records, 355 grams"


def test_each_record_counts_once_however_often_it_is_killed(example: Example, logger: Logger) -> None:
    logger.weigh(*range(1, RECORDS + 1))
    for moment in (1, 7, 19, 33):
        with example.running() as child:
            logger.moments.kill_at(child, f"asked for {moment}", 1)
    assert example.run_until(f"record {RECORDS}$") == f"{RECORDS} records, {sum(logger.records)} grams"
