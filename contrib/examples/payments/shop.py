"""A shop that charges each order exactly once. Run it beside server.py, kill it with -9 at any moment, and run it again."""

import sys
from urllib.request import Request, urlopen

import attrs

from minions import Backoff, Component, Inbox, Outbox, Retry, State, System


@attrs.frozen
class Order:
    number: int


class Orders(Component):
    count: int
    taken = State(int)
    orders = Outbox(Order)

    def run(self) -> None:
        while self.running and self.taken < self.count:
            with self.unit():  # taken and sent: both, or neither
                self.taken += 1
                self.orders.send(Order(self.taken))


class Cashier(Component):
    url: str
    orders = Inbox(Order, retry=Retry(attempts=1_000, backoff=Backoff(initial_s=0.01, longest_s=1.0)))
    charges = State(dict[int, str])

    @orders.handler
    def charge(self, order: Order) -> None:
        self.commit()  # the order is on disk now, and its id is final
        request = Request(self.url, str(order.number).encode(), {"Idempotency-Key": self.message_id})
        with urlopen(request, timeout=10.0) as answer:  # when this fails, the order is tried again, with the same key
            charge = self.charges[order.number] = answer.read().decode()
        self.after_commit(lambda: print(f"order {order.number} is paid with charge {charge}", flush=True))


if __name__ == "__main__":
    system = System("shop")
    orders = system.add(Orders(count=60))
    cashier = system.add(Cashier(url=sys.argv[1]))
    system.connect(orders.orders, cashier.orders)
    system.run()
    print(f"{len(cashier.charges)} of {orders.taken} orders are paid")
