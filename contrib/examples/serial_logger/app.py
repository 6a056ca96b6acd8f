"""Reads the records of a data logger on a serial line, by their numbers: it asks for the next one until that is on disk."""

import attrs
from serial import Serial

from minions import Component, Inbox, Outbox, State, System


@attrs.frozen
class Record:
    number: int
    grams: int


class Logger(Component):
    port: str = "/dev/ttyUSB0"
    position = State(int)
    records = Outbox(Record)

    def run(self) -> None:
        with Serial(self.port, 115_200) as line, self.blocking(line, wake=line.cancel_read):
            while self.running:
                line.write(f"GET {self.position + 1}\n".encode())
                answer = line.readline()  # blocks for as long as the logger has nothing; a stop ends it in the midst
                number, _, grams = answer.decode().partition(" ")
                if not answer.endswith(b"\n") or int(number) != self.position + 1:
                    continue  # cut off, or the answer to a question of a life that was killed
                with self.unit():  # the record and the position: both, or neither
                    self.records.send(Record(int(number), int(grams)))
                    self.position += 1


class Scale(Component):
    records = Inbox(Record)
    count = State(int)
    grams = State(int)

    @records.handler
    def add(self, record: Record) -> None:
        self.count += 1
        self.grams += record.grams
        print("record", record.number, flush=True)


if __name__ == "__main__":
    system = System("logger")
    logger, scale = system.add(Logger()), system.add(Scale())
    system.connect(logger.records, scale.records)
    system.run()
    print(f"{scale.count} records, {scale.grams} grams")
