"""The servers that the examples talk to: started once for all tests of a session that ask for them."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from tests.stories import servers


@pytest.fixture(scope="session")
def postgres() -> Iterator[servers.Postgres]:
    with servers.postgres() as found:
        yield found


@pytest.fixture
def database(postgres: servers.Postgres, request: pytest.FixtureRequest) -> Iterator[str]:
    """A new database; how it is reached."""
    name = f"test_{abs(hash(request.node.nodeid))}"
    with psycopg.connect(f"{postgres.where} dbname=postgres", autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        yield f"{postgres.where} dbname={name}"
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def broker() -> Iterator[servers.Broker]:
    with servers.broker() as found:
        yield found


@pytest.fixture
def redis_url() -> Iterator[str]:
    with servers.redis() as url:
        yield url
