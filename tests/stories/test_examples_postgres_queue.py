"""Orders from PostgreSQL: the example waits for NOTIFY or a lock, is killed around its statements, and each order counts once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.stories import servers
from tests.stories.example import Example, Moments

ORDERS = 250
CENTS = sum(range(1, ORDERS + 1))


@pytest.fixture
def shop(database: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (number bigserial PRIMARY KEY, cents int)")
        yield connection


def order(shop: psycopg.Connection, first: int, last: int) -> None:
    with shop.transaction():
        shop.execute("INSERT INTO orders (cents) SELECT generate_series(%s::int, %s::int)", (first, last))
        shop.execute("NOTIFY orders")


@pytest.fixture
def moments(postgres: servers.Postgres) -> Iterator[Moments]:
    """Each statement that the server gets from the example."""
    moments = Moments()

    def at(line: str) -> None:
        for statement in ("SELECT number", "DELETE FROM"):
            if statement in line:
                moments.happened(statement)

    postgres.server.at_line = at
    yield moments
    postgres.server.at_line = lambda line: None


@pytest.fixture
def example(tmp_path: Path, database: str, shop: psycopg.Connection) -> Example:
    example = Example("postgres_queue", tmp_path)
    example.configure(orders={"database": database})
    return example


def test_it_stops_while_it_waits_for_a_notification_and_goes_on(
    example: Example, shop: psycopg.Connection, moments: Moments
) -> None:
    order(shop, 1, 1)
    with example.running() as child:
        child.see("order 1$")
        moments.wait_for("DELETE FROM", 2)  # of nothing: now it waits for NOTIFY
        order(shop, 2, 2)
        child.see("order 2$")
        moments.wait_for("DELETE FROM", 4)
        assert child.interrupt() == 0
        assert child.lines[-1] == "2 orders, 3 cents"

    order(shop, 3, 3)
    assert example.run_until("order 3$") == "3 orders, 6 cents"


def test_it_stops_while_somebody_else_has_the_table_locked(
    example: Example, shop: psycopg.Connection, moments: Moments
) -> None:
    order(shop, 1, 1)
    with shop.transaction(), example.running() as child:
        shop.execute("LOCK TABLE orders")
        moments.wait_for("SELECT number", 1)
        assert child.interrupt() == 0
        assert "was broken off in run: QueryCanceled" in child.written
        assert child.lines[-1] == "0 orders, 0 cents"

    assert example.run_until("order 1$") == "1 orders, 1 cents"


def test_each_order_counts_once_however_often_it_is_killed(
    example: Example, shop: psycopg.Connection, moments: Moments
) -> None:
    kills = (("SELECT number", 2), ("DELETE FROM", 1), ("SELECT number", 3), ("DELETE FROM", 2))
    for statement, times in kills:
        order(shop, 1, ORDERS)
        with example.running() as child:
            moments.kill_at(child, statement, times)
    last = len(kills) * ORDERS + 1
    order(shop, 0, 0)
    assert example.run_until(f"order {last}$") == f"{last} orders, {len(kills) * CENTS} cents"
    assert shop.execute("SELECT count(*) FROM orders").fetchone() == (0,)


@pytest.mark.parametrize("commits", [True, False])
def test_what_is_deleted_before_it_is_on_disk_is_lost_by_a_kill(
    example: Example, shop: psycopg.Connection, moments: Moments, commits: bool
) -> None:
    if not commits:
        example.change("                self.commit()  #", "                #")
    order(shop, 1, 1)
    with example.running("--no-commits") as child:
        if commits:
            child.see("order 1$")  # messages are handed on before they are on disk
        else:
            moments.kill_at(child, "SELECT number", 2)  # it looks for more, so the first one is deleted
    order(shop, 2, 2)
    assert example.run_until("order 2$") == ("2 orders, 3 cents" if commits else "1 orders, 2 cents")


@pytest.mark.parametrize("knows_what_it_has", [True, False])
def test_an_order_that_is_met_again_counts_once_unless_it_is_forgotten_that_it_was_sent(
    example: Example, shop: psycopg.Connection, moments: Moments, knows_what_it_has: bool
) -> None:
    if not knows_what_it_has:
        example.change("if number not in self.taken:", "if number:")
    order(shop, 1, 1)
    kept = "DELETE FROM orders WHERE number", "DELETE FROM orders WHERE false AND number"
    with example.changed(*kept), example.running() as child:
        moments.kill_at(child, "DELETE FROM", 1)  # it is on disk, and still in the table
    order(shop, 2, 2)
    assert (example.run_until("order 2$") == "2 orders, 3 cents") == knows_what_it_has
