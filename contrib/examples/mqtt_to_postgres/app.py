"""MQTT messages into PostgreSQL, through three components. Kill it with -9 at any moment: each message is in the table once."""

import attrs
import psycopg
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from minions import Backoff, Component, Inbox, Outbox, Retry, System


@attrs.frozen
class Reading:
    id: str  # the meter has given it, so it is the same however often the message comes
    celsius: float


class Broker(Component):
    port: int = 1883
    messages = Outbox(bytes)

    def run(self) -> None:
        client = Client(CallbackAPIVersion.VERSION2, "minions-story", clean_session=False, manual_ack=True)
        client.on_connect = lambda client, *_: client.subscribe("readings", qos=1)
        client.on_message = self._receive
        client.connect_async("127.0.0.1", self.port)
        with self.blocking(client, wake=client.disconnect):
            client.loop_forever(retry_first_connection=True)  # calls _receive, on this very thread

    def _receive(self, client: Client, _: object, message: MQTTMessage) -> None:
        self.messages.send(bytes(message.payload))
        self.commit()  # it is on disk now,
        client.ack(message.mid, message.qos)  # and the broker may forget it


class Parser(Component):
    messages = Inbox(bytes)
    readings = Outbox(Reading)

    @messages.handler
    def parse(self, payload: bytes) -> None:
        reading_id, celsius = payload.decode().split()
        self.readings.send(Reading(reading_id, float(celsius)))


class Sink(Component):
    database: str = "host=127.0.0.1 dbname=story"  # CREATE TABLE readings (id uuid PRIMARY KEY, celsius float8)
    readings = Inbox(Reading, retry=Retry(attempts=1_000, backoff=Backoff(initial_s=0.1, longest_s=5.0)))

    def run(self) -> None:
        with psycopg.connect(self.database, autocommit=True) as connection, self.blocking(connection):
            for row in map(attrs.astuple, self.readings):  # each turn is one unit of work
                connection.execute("INSERT INTO readings VALUES (%s, %s) ON CONFLICT DO NOTHING", row)


if __name__ == "__main__":
    system = System("story")
    broker, parser, sink = system.add(Broker()), system.add(Parser()), system.add(Sink())
    system.connect(broker.messages, parser.messages)
    system.connect(parser.readings, sink.readings)
    system.run()
