"""The example of jobs from Redis: it waits in blocking pops, is killed around them, and each job is done once."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from tests.stories.example import Example, Moments

A_LIFE = 20
"""So many new jobs for each life."""


def push(url: str, first: int, last: int) -> None:
    with Redis.from_url(url) as redis:
        for number in range(first, last + 1):
            redis.lpush("jobs", json.dumps({"id": f"job-{number}", "number": number}))


@pytest.fixture
def moments(redis_url: str) -> Iterator[Moments]:
    """Each command that the server gets."""
    moments, has_begun = Moments(), threading.Event()

    def listen() -> None:
        with redis.monitor() as monitor:
            has_begun.set()
            for command in monitor.listen():
                word = str(command["command"]).split()[0]
                if word == "ECHO":
                    return
                moments.happened(word)

    with Redis.from_url(redis_url, socket_timeout=None) as redis:
        thread = threading.Thread(target=listen)
        thread.start()
        has_begun.wait()
        yield moments
        redis.echo("the end")
        thread.join()


@pytest.fixture
def example(tmp_path: Path, redis_url: str) -> Example:
    example = Example("redis_jobs", tmp_path)
    example.configure(jobs={"url": redis_url})
    return example


def test_it_stops_while_it_waits_for_a_job_and_goes_on(example: Example, redis_url: str, moments: Moments) -> None:
    push(redis_url, 1, 3)
    with example.running() as child:
        child.see("job job-3$")
        moments.wait_for("BRPOPLPUSH", 4)
        assert child.interrupt() == 0
        assert child.lines[-1] == "3 jobs, the squares add up to 14"

    push(redis_url, 4, 4)
    assert example.run_until("job job-4$") == "4 jobs, the squares add up to 30"


def test_each_job_is_done_once_however_often_it_is_killed(example: Example, redis_url: str, moments: Moments) -> None:
    last = 0
    for command, times in (("BRPOPLPUSH", 5), ("RPOP", 3), ("LINDEX", 9), ("RPOP", 1), ("BRPOPLPUSH", 2)):
        push(redis_url, last + 1, last + A_LIFE)
        last += A_LIFE
        with example.running() as child:
            moments.kill_at(child, command, times)
    push(redis_url, last + 1, last + 1)
    with example.running() as child:
        child.see(f"job job-{last + 1}$")
        assert child.interrupt() == 0
        total = sum(number**2 for number in range(1, last + 2))
        assert child.lines[-1] == f"{last + 1} jobs, the squares add up to {total}"


@pytest.mark.parametrize("keeps_a_copy", [True, False])
def test_what_is_popped_without_a_copy_is_lost_by_a_kill(example: Example, redis_url: str, keeps_a_copy: bool) -> None:
    if not keeps_a_copy:
        example.change(
            'self._redis.lindex("jobs:taken", -1) or self._redis.brpoplpush("jobs", "jobs:taken", 0)',
            '(self._redis.brpop("jobs") or [None, None])[1]',
        )
    push(redis_url, 1, 1)
    with example.running("--no-commits") as child:
        child.see("job job-1$")  # messages are handed on before they are on disk
    push(redis_url, 2, 2)
    assert example.run_until("job job-2$") == (
        "2 jobs, the squares add up to 5" if keeps_a_copy else "1 jobs, the squares add up to 4"
    )


@pytest.mark.parametrize("knows_what_it_has", [True, False])
def test_a_job_that_is_met_again_is_done_once_unless_it_is_forgotten_that_it_was_sent(
    example: Example, redis_url: str, moments: Moments, knows_what_it_has: bool
) -> None:
    if not knows_what_it_has:
        example.change('if job["id"] != self.last:', "if job:")
    push(redis_url, 1, 1)
    with example.changed('self._redis.rpop("jobs:taken")', "self._redis.ping()"), example.running() as child:
        moments.kill_at(child, "PING", 1)  # it is on disk, and still in the list
    push(redis_url, 2, 2)
    assert (example.run_until("job job-2$") == "2 jobs, the squares add up to 5") == knows_what_it_has
