"""Reads a feed page by page from an HTTP server that is slow, fails, hangs or trickles. Every item counts once."""

import attrs
import requests

from minions import Component, Inbox, Outbox, State, System


@attrs.frozen
class Item:
    number: int
    cents: int


class Feed(Component):
    url: str = "http://127.0.0.1:8080/items"
    pause_s: float = 1.0
    position = State(int)
    items = Outbox(Item)

    def run(self) -> None:
        with requests.Session() as session:
            while self.running:
                try:
                    page = self._page(session)
                except requests.RequestException as error:
                    self.log.warning("the page after %d: %s", self.position, error)
                    page = []
                with self.unit():  # the items and the position: both, or neither
                    for number, cents in page:
                        self.items.send(Item(number, cents))
                        self.position = number
                if not page:
                    self.sleep(self.pause_s)

    def _page(self, session: requests.Session) -> list[tuple[int, int]]:
        with self.blocking(session):  # an answer that trickles in runs into no timeout; a stop breaks it off
            answer = session.get(self.url, params={"after": self.position}, timeout=(5.0, 60.0))
        answer.raise_for_status()
        return [(number, cents) for number, cents in answer.json()]


class Account(Component):
    items = Inbox(Item)
    count = State(int)
    cents = State(int)

    @items.handler
    def book(self, item: Item) -> None:
        self.count += 1
        self.cents += item.cents
        print("item", item.number, flush=True)


if __name__ == "__main__":
    system = System("feed")
    feed, account = system.add(Feed()), system.add(Account())
    system.connect(feed.items, account.items)
    system.run()
    print(f"{account.count} items, {account.cents} cents")
