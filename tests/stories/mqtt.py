"""What the tests of the MQTT examples do at the other side of the broker."""

from __future__ import annotations

from collections.abc import Iterable

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from tests.stories.example import Moments
from tests.stories.servers import Broker

PATIENCE_S = 60.0
"""Only a test that fails waits so long."""

SENT = "Sending PUBLISH to"
ACKNOWLEDGED = "Received PUBACK from"


def moments(broker: Broker, client_id: str) -> Moments:
    """Counts the messages that the broker sends to a client, and their acknowledgements."""
    moments = Moments()

    def at(line: str) -> None:
        for step in (SENT, ACKNOWLEDGED):
            if f"{step} {client_id}" in line:
                moments.happened(step)

    broker.server.at_line = at
    return moments


def publish(port: int, messages: Iterable[tuple[str, str]]) -> None:
    """Publishes messages (topic, payload), each at least once, and returns when the broker has all of them."""
    client = Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        for sent in [client.publish(topic, payload, qos=1) for topic, payload in messages]:
            sent.wait_for_publish(PATIENCE_S)
            assert sent.is_published()
    finally:
        client.disconnect()
        client.loop_stop()


def subscribe(port: int, client_id: str, topic: str) -> None:
    """Makes the session of a client, so that the broker keeps for it what is published from now on."""
    client = Client(CallbackAPIVersion.VERSION2, client_id, clean_session=False)
    client.on_subscribe = lambda client, *_: client.disconnect()
    client.connect("127.0.0.1", port)
    client.subscribe(topic, qos=1)
    client.loop_forever()
