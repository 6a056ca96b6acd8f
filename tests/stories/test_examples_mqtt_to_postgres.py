"""From end to end: MQTT messages to PostgreSQL through three components, killed at any moment, each in the table once."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from tests.stories import mqtt, servers
from tests.stories.example import Example, Moments

A_LIFE = 30
"""So many new messages for each life."""

CLIENT = "minions-story"
INSERTED = "inserted"
TABLE = "CREATE TABLE readings (id uuid PRIMARY KEY, celsius float8)"
TELL = """
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE LOG 'inserted'; NOTIFY inserted; RETURN NULL; END $$;
CREATE TRIGGER tell AFTER INSERT ON readings FOR EACH ROW EXECUTE FUNCTION tell();
"""


def messages(first: int, last: int) -> list[tuple[str, str]]:
    return [("readings", f"{UUID(int=number)} {number / 10}") for number in range(first, last + 1)]


class Table:
    """The table in which it all ends."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self.connection = connection

    def wait_for(self, number: int) -> None:
        """Returns when a reading is there; the server tells."""
        self.connection.execute("LISTEN inserted")
        while not self.times(number):
            for _ in self.connection.notifies(timeout=mqtt.PATIENCE_S, stop_after=1):
                break
            else:
                raise AssertionError(f"reading {number} does not come")

    def end_other_sessions(self) -> None:
        """As when nobody is there any more: a session that waits for a lock does not see that its client was killed."""
        self.connection.execute(
            "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    def times(self, number: int) -> int:
        found = self.connection.execute("SELECT count(*) FROM readings WHERE id = %s", [UUID(int=number)]).fetchone()
        assert found is not None
        return int(found[0])

    def rows(self) -> list[tuple[int, float]]:
        return [
            (row_id.int, celsius)
            for row_id, celsius in self.connection.execute("SELECT id, celsius FROM readings ORDER BY id")
        ]


@pytest.fixture
def table(database: str) -> Iterator[Table]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(TABLE)
        connection.execute(TELL)
        yield Table(connection)


@pytest.fixture
def example(tmp_path: Path, broker: servers.Broker, database: str, table: Table) -> Example:
    mqtt.subscribe(broker.port, CLIENT, "readings")
    example = Example("mqtt_to_postgres", tmp_path)
    example.configure(broker={"port": broker.port}, sink={"database": database})
    return example


@pytest.fixture
def moments(broker: servers.Broker, postgres: servers.Postgres) -> Iterator[Moments]:
    """Each packet between the broker and the example, and each row that is inserted."""
    moments = mqtt.moments(broker, CLIENT)
    postgres.server.at_line = lambda line: moments.happened(INSERTED if "LOG:  inserted" in line else "")
    yield moments
    postgres.server.at_line = lambda line: None


def once_each(count: int) -> list[tuple[int, float]]:
    return [(number, number / 10) for number in range(1, count + 1)]


def killed_again_and_again(
    example: Example, broker: servers.Broker, table: Table, moments: Moments, kills: int, seed: int
) -> None:
    """In each life messages come that are new, and at a moment by chance it is killed; the last life may come to the end."""
    chance = random.Random(seed)
    for life in range(kills):
        mqtt.publish(broker.port, messages(life * A_LIFE + 1, (life + 1) * A_LIFE))
        with example.running() as child:
            step = chance.choice([mqtt.SENT, mqtt.ACKNOWLEDGED, INSERTED])
            moments.kill_at(child, step, chance.randint(1, A_LIFE))
    mqtt.publish(broker.port, messages(kills * A_LIFE + 1, kills * A_LIFE + 1))
    with example.running() as child:
        table.wait_for(kills * A_LIFE + 1)
        assert child.interrupt() == 0, child.written
    assert table.rows() == once_each(kills * A_LIFE + 1)


@pytest.mark.parametrize("seed", range(2))
def test_each_message_is_in_the_table_once_however_often_it_is_killed(
    example: Example, broker: servers.Broker, table: Table, moments: Moments, seed: int
) -> None:
    killed_again_and_again(example, broker, table, moments, 6, seed)


@pytest.mark.soak
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("seed", range(5))
def test_each_message_is_in_the_table_once_through_many_kills(
    example: Example, broker: servers.Broker, table: Table, moments: Moments, seed: int
) -> None:
    killed_again_and_again(example, broker, table, moments, 100, seed)


def test_a_sink_that_is_not_idempotent_has_a_message_twice(
    example: Example, broker: servers.Broker, table: Table, moments: Moments
) -> None:
    table.connection.execute("ALTER TABLE readings DROP CONSTRAINT readings_pkey")
    mqtt.publish(broker.port, messages(1, 1))
    with example.running("--no-commits") as child:  # the row is there, and what is kept does not know it
        moments.kill_at(child, INSERTED, 1)
    mqtt.publish(broker.port, messages(2, 2))
    with example.running() as child:
        table.wait_for(2)
        assert child.interrupt() == 0
    assert table.rows() == [(1, 0.1), (1, 0.1), (2, 0.2)]


@pytest.mark.parametrize("commits", [True, False])
def test_what_is_acknowledged_before_it_is_on_disk_is_lost_by_a_kill(
    example: Example, broker: servers.Broker, table: Table, moments: Moments, commits: bool
) -> None:
    if not commits:
        example.change("        self.commit()  #", "        #")
    with table.connection.transaction():
        table.connection.execute("LOCK TABLE readings")  # nothing comes further than to the sink
        mqtt.publish(broker.port, messages(1, 1))
        with example.running("--no-commits") as child:
            moments.kill_at(child, mqtt.SENT if commits else mqtt.ACKNOWLEDGED, 1)
        table.end_other_sessions()
    mqtt.publish(broker.port, messages(2, 2))
    with example.running() as child:
        table.wait_for(2)
        assert child.interrupt() == 0
    assert table.rows() == (once_each(2) if commits else [(2, 0.2)])


def test_it_stops_while_postgres_and_the_broker_keep_it_waiting(
    example: Example, broker: servers.Broker, table: Table, moments: Moments
) -> None:
    mqtt.publish(broker.port, messages(1, 1))
    with table.connection.transaction():
        table.connection.execute("LOCK TABLE readings")
        with example.running() as child:
            moments.wait_for(mqtt.ACKNOWLEDGED, 1)
            assert child.interrupt() == 0
            assert "was broken off in run: QueryCanceled" in child.written
    with example.running() as child:
        table.wait_for(1)
        assert child.interrupt() == 0
    assert table.rows() == once_each(1)
