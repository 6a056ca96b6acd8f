"""Meters by MQTT: the example waits for a message, is killed around each step of one, and each reading counts once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stories import mqtt, servers
from tests.stories.example import Example, Moments

A_LIFE = 30
"""So many new readings for each life."""

CLIENT = "minions-meters"


def readings(meter: str, first: int, last: int) -> list[tuple[str, str]]:
    return [(f"meters/{meter}", f"{number} {number * 10}") for number in range(first, last + 1)]


@pytest.fixture
def example(tmp_path: Path, broker: servers.Broker) -> Example:
    mqtt.subscribe(broker.port, CLIENT, "meters/+")
    example = Example("mqtt_meters", tmp_path)
    example.configure(meters={"port": broker.port})
    return example


@pytest.fixture
def moments(broker: servers.Broker) -> Moments:
    """Each packet between the broker and the example."""
    return mqtt.moments(broker, CLIENT)


def test_it_stops_while_it_waits_for_a_message_and_gets_what_came_meanwhile(
    example: Example, broker: servers.Broker
) -> None:
    mqtt.publish(broker.port, readings("attic", 1, 3))
    with example.running() as child:
        child.see("reading 3 of meters/attic$")
        assert child.interrupt() == 0  # it is blocked in loop_forever()
        assert child.lines[-1] == "{'meters/attic': 60}"

    mqtt.publish(broker.port, readings("attic", 4, 4) + readings("cellar", 1, 1))
    with example.running() as child:
        child.see_all("reading 4 of meters/attic$", "reading 1 of meters/cellar$")
        assert child.interrupt() == 0
        assert child.lines[-1] == "{'meters/attic': 100, 'meters/cellar': 10}"


def test_each_reading_counts_once_however_often_it_is_killed(
    example: Example, broker: servers.Broker, moments: Moments
) -> None:
    last = 0
    for step, times in ((mqtt.SENT, 30), (mqtt.ACKNOWLEDGED, 3), (mqtt.SENT, 22), (mqtt.ACKNOWLEDGED, 1)):
        mqtt.publish(broker.port, readings("attic", last + 1, last + A_LIFE))
        last += A_LIFE
        with example.running() as child:
            moments.kill_at(child, step, times)
    mqtt.publish(broker.port, readings("attic", last + 1, last + 1))
    total = sum(10 * number for number in range(1, last + 2))
    assert example.run_until(f"reading {last + 1} of meters/attic$") == f"{{'meters/attic': {total}}}"


@pytest.mark.parametrize("knows_what_it_has", [True, False])
def test_a_reading_that_comes_again_counts_once_unless_it_is_forgotten_that_it_was_there(
    example: Example, broker: servers.Broker, knows_what_it_has: bool
) -> None:
    if not knows_what_it_has:
        example.change("number > self.last.get(message.topic, 0)", "number > 0")
    mqtt.publish(broker.port, readings("attic", 1, 3))
    example.change("client.ack(message.mid, message.qos)", "client.user_data_get()")
    with example.running() as child:
        child.see("reading 3 of")  # so the first two are on disk
        child.kill()
    example.change("client.user_data_get()", "client.ack(message.mid, message.qos)")
    mqtt.publish(broker.port, readings("attic", 4, 4))
    assert (example.run_until("reading 4 of") == "{'meters/attic': 100}") == knows_what_it_has
