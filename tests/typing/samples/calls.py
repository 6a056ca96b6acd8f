"""Calls between components: a `Uses` reads as the other component, also for `submit`, `use` and calls from outside."""

from concurrent.futures import Future
from typing import assert_type

from minions import Component, System, Uses


class Database(Component):
    path: str = "rows.db"

    def insert(self, row: str, *, twice: bool = False) -> int:
        return len(row)


class FasterDatabase(Database):
    level: int = 1


class Archive(Component):
    def keep(self, row: str) -> None: ...


class Writer(Component):
    database = Uses(Database)
    patient = Uses(Database, timeout_s=60.0)
    wrong = Uses(Database, timeout_s="long")  # E: mypy pyright

    def write(self, row: str) -> None:
        assert_type(self.database, Database)
        assert_type(self.database.insert(row), int)
        self.database.insert(row, twice=True)
        self.database.insert(7)  # E: mypy pyright
        self.database.insert(row, thrice=True)  # E: mypy pyright
        self.database.delete(row)  # E: mypy pyright
        text: str = self.database.insert(row)  # E: mypy pyright
        with self.call_timeout(2.0):
            self.patient.insert(text)

    def submit_some(self, row: str) -> Future[int]:
        self.submit(self.database.insert)  # E: mypy pyright
        self.submit(self.database.insert, 7)  # E: mypy pyright
        self.submit(self.database.insert, row, twice="yes")  # E: mypy pyright
        assert_type(self.submit(self.database.insert, row, twice=True), Future[int])
        return self.submit(self.database.insert, row)


system = System("calls")
database = system.add(Database())
archive = system.add(Archive())
writer = system.add(Writer())
system.use(writer.database, database)
system.use(writer.database, "database")  # E: mypy pyright
system.use(writer.database, archive)  # E: mypy pyright
system.use(writer.database, system.add(FasterDatabase()))

assert_type(system.call(database), Database)
assert_type(system.call(database, timeout_s=None).insert("row"), int)
system.call(database).insert(7)  # E: mypy pyright
system.call("database")  # E: mypy pyright
