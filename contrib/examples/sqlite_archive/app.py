"""Readings from a file go into SQLite. The connection refuses all threads but one, so one component has it and others call it."""

import sqlite3
from pathlib import Path

from minions import Backoff, Component, Inbox, Outbox, Retry, State, System, Uses


class Archive(Component):
    def on_start(self) -> None:
        self._connection = sqlite3.connect("archive.db", timeout=1.0)
        self._connection.execute("CREATE TABLE IF NOT EXISTS readings (id PRIMARY KEY, sensor, celsius)")

    def insert(self, *row: str | float) -> None:
        with self._connection:  # a transaction
            self._connection.execute("INSERT OR IGNORE INTO readings VALUES (?, ?, ?)", row)

    def ask(self, query: str) -> list[object]:
        with self.blocking(self._connection):  # however long it takes, a stop interrupts it
            return self._connection.execute(query).fetchall()

    def on_stop(self) -> None:
        self._connection.close()


class Readings(Component):
    path: str = "readings.csv"
    position = State(int)
    readings = Outbox(str)

    def run(self) -> None:
        for line in Path(self.path).read_text().splitlines()[self.position :]:
            with self.unit():  # the reading and the position: both, or neither
                self.readings.send(line)
                self.position += 1


class Keeper(Component):
    query: str = "SELECT sensor, avg(celsius) FROM readings GROUP BY sensor"
    readings = Inbox(str, retry=Retry(attempts=1_000, backoff=Backoff(initial_s=0.1, longest_s=1.0)))
    archive = Uses(Archive, timeout_s=3_600.0)
    kept = State(int)

    @readings.handler
    def keep(self, reading: str) -> None:
        sensor, celsius = reading.split(",")
        self.commit()  # the reading is on disk now, and its id is final
        self.archive.insert(self.message_id, sensor, float(celsius))  # runs on the thread of the archive
        self.kept += 1
        if self.kept % 100 == 0:
            print(self.kept, "kept, asking for the means", flush=True)
            print(self.archive.ask(self.query), flush=True)


if __name__ == "__main__":
    system = System("archive")
    archive, readings, keeper = system.add(Archive()), system.add(Readings()), system.add(Keeper())
    system.connect(readings.readings, keeper.readings)
    system.run()
    print(f"{keeper.kept} readings kept")
