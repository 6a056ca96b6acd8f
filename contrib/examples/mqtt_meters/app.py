"""Readings of meters by MQTT. The broker may forget a reading only once it is on disk; one that it sends again counts once."""

import attrs
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from minions import Component, Inbox, Outbox, State, System


@attrs.frozen
class Reading:
    meter: str
    number: int
    watt_hours: int


class Meters(Component):
    host: str = "127.0.0.1"
    port: int = 1883
    last = State(dict[str, int])  # the number of the last reading of each meter
    readings = Outbox(Reading)

    def run(self) -> None:
        client = Client(CallbackAPIVersion.VERSION2, "minions-meters", clean_session=False, manual_ack=True)
        client.on_connect = lambda client, *_: client.subscribe("meters/+", qos=1)
        client.on_message = self._receive
        client.connect_async(self.host, self.port)
        with self.blocking(client, wake=client.disconnect):
            client.loop_forever(retry_first_connection=True)  # calls _receive, on this very thread

    def _receive(self, client: Client, _: object, message: MQTTMessage) -> None:
        number, watt_hours = map(int, message.payload.split())
        if number > self.last.get(message.topic, 0):
            with self.unit():  # sent, and known if it comes again: both, or neither
                self.readings.send(Reading(message.topic, number, watt_hours))
                self.last[message.topic] = number
        self.commit()  # it is on disk now,
        client.ack(message.mid, message.qos)  # and the broker may forget it


class Totals(Component):
    readings = Inbox(Reading)
    totals = State(dict[str, int])

    @readings.handler
    def add(self, reading: Reading) -> None:
        self.totals[reading.meter] = self.totals.get(reading.meter, 0) + reading.watt_hours
        print("reading", reading.number, "of", reading.meter, flush=True)


if __name__ == "__main__":
    system = System("meters")
    meters, totals = system.add(Meters()), system.add(Totals())
    system.connect(meters.readings, totals.readings)
    system.run()
    print(dict(sorted(totals.totals.items())))
