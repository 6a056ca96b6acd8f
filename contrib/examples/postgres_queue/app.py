"""Takes orders from a table of PostgreSQL, and waits for NOTIFY where there are none. A row goes once its order is on disk."""

import attrs
import psycopg

from minions import Component, Inbox, Outbox, State, System


@attrs.frozen
class Order:
    number: int
    cents: int


class Orders(Component):
    database: str = "host=127.0.0.1 dbname=shop"  # CREATE TABLE orders (number bigserial PRIMARY KEY, cents int)
    taken = State(list[int])  # what was sent, and may be in the table still
    orders = Outbox(Order)

    def on_start(self) -> None:
        self._connection = psycopg.connect(self.database, autocommit=True, connect_timeout=10)
        self._connection.execute("LISTEN orders")

    def run(self) -> None:
        with self.blocking(self._connection):  # a lock that is not released, a server that hangs, an empty table
            while self.running:
                rows = self._connection.execute("SELECT number, cents FROM orders ORDER BY number LIMIT 100").fetchall()
                with self.unit():
                    for number, cents in rows:
                        if number not in self.taken:
                            self.orders.send(Order(number, cents))
                    self.taken = [number for number, _ in rows]
                self.commit()  # all of them are on disk now, and only now
                self._connection.execute("DELETE FROM orders WHERE number = ANY(%s)", [self.taken])
                if not rows:
                    next(self._connection.notifies(stop_after=1))

    def on_stop(self) -> None:
        self._connection.close()


class Account(Component):
    orders = Inbox(Order)
    count = State(int)
    cents = State(int)

    @orders.handler
    def book(self, order: Order) -> None:
        self.count += 1
        self.cents += order.cents
        print("order", order.number, flush=True)


if __name__ == "__main__":
    system = System("shop")
    orders, account = system.add(Orders()), system.add(Account())
    system.connect(orders.orders, account.orders)
    system.run()
    print(f"{account.count} orders, {account.cents} cents")
