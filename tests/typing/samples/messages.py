"""Only the type of a port passes through it, and only handlers of that type take it."""

from __future__ import annotations

import attrs

from minions import Component, Inbox, Outbox


@attrs.frozen
class Reading:
    celsius: float


@attrs.frozen
class Alarm:
    text: str


class Thermometer(Component):
    readings = Outbox(Reading)
    numbers = Outbox(int)

    def run(self) -> None:
        while self.running:
            self.readings.send(Reading(celsius=21.5), timeout_s=1.0)
            self.readings.send(Alarm("hot"))  # E: mypy pyright
            self.readings.send(21.5)  # E: mypy pyright
            self.readings.send()  # E: mypy pyright
            self.readings.send(Reading(celsius=1.0), 1.0)  # E: mypy pyright
            self.numbers.send("1")  # E: mypy pyright
            self.readings.receive()  # E: mypy pyright
            self.sleep("1")  # E: mypy pyright
            with self.unit():
                self.numbers.send(1)
        self.commit(timeout_s=2.0)
        self.after_commit(self.commit)
        self.after_commit(lambda: self.numbers.send(1))
        self.after_commit(self.numbers.send)  # E: mypy pyright
        self.after_commit(self.sleep(1.0))  # E: mypy pyright
        self.log.info("done %s", self.message_id)


class Average(Component):
    readings = Inbox(Reading)
    again = Inbox(Reading)
    anything = Inbox(Reading)
    alarms = Inbox(Alarm)
    wrong = Inbox(Reading)
    lonely = Inbox(Reading)
    asynchronous = Inbox(Reading)

    @readings.handler
    def add(self, reading: Reading) -> None:
        print(reading.celsius)
        print(reading.fahrenheit)  # E: mypy pyright

    @again.handler
    def add_again(self, reading: Reading) -> None:
        self.add(reading)
        self.add(Alarm("hot"))  # E: mypy pyright

    @anything.handler
    def add_anything(self, message: object) -> None: ...

    @alarms.handler
    def warn(self, alarm: Alarm, loudly: bool = False) -> None: ...

    @wrong.handler  # E: mypy pyright
    def add_wrong(self, alarm: Alarm) -> None: ...

    @lonely.handler  # E: mypy pyright
    def add_nothing(self) -> None: ...

    @asynchronous.handler  # E: mypy pyright
    async def add_later(self, reading: Reading) -> None: ...


class Louder(Average):
    def add(self, reading: Reading) -> None:
        super().add(reading)


class Misused(Average):
    def add(self, reading: Alarm) -> None: ...  # E: mypy pyright

    def run(self) -> int:  # E: mypy pyright
        return 1

    def on_start(self, path: str) -> None: ...  # E: mypy pyright
