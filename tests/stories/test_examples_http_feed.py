"""The example of a feed against a real HTTP server: slow, failing, dropping, trickling and hanging. Each item counts once."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.stories.example import Example, Moments

ITEMS = 60
PAGE = 4


class Shop(ThreadingHTTPServer):
    """Answers with the next items, each time in the way that is next.

    Attributes:
        ways: what becomes of the requests to come; "well" when none is left.
        moments: each request ("asked") and each answer that is whole ("answered").
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.items = ITEMS
        self.ways: list[str] = []
        self.moments = Moments()
        self.is_over = threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """Whoever asked was killed before it had its answer."""


class Request(BaseHTTPRequestHandler):
    server: Shop

    def do_GET(self) -> None:
        after = int(parse_qs(urlsplit(self.path).query)["after"][0])
        page = [(number, number * 5) for number in range(after + 1, min(after + PAGE, self.server.items) + 1)]
        way = self.server.ways.pop(0) if self.server.ways else "well"
        self.server.moments.happened(f"asked, {way}")
        body = json.dumps(page).encode()
        if way == "slow":
            self.server.is_over.wait(0.2)
        if way == "hangs":
            self.server.is_over.wait()
        if way == "drops":
            return
        self.send_response(503 if way == "fails" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:-1])
        while way == "trickles" and not self.server.is_over.wait(0.05):
            self.wfile.write(b" ")
        self.wfile.write(body[-1:])
        self.wfile.flush()
        self.server.moments.happened("answered")

    def log_message(self, *line: object) -> None: ...


@pytest.fixture
def shop() -> Iterator[Shop]:
    with Shop() as shop:
        thread = threading.Thread(target=shop.serve_forever, args=(0.01,))
        thread.start()
        yield shop
        shop.is_over.set()
        shop.shutdown()
        thread.join()


@pytest.fixture
def example(tmp_path: Path, shop: Shop) -> Example:
    example = Example("http_feed", tmp_path)
    example.configure(feed={"url": f"http://127.0.0.1:{shop.server_port}/items", "pause_s": 0.05})
    return example


def total(items: int) -> str:
    return f"{items} items, {sum(5 * number for number in range(1, items + 1))} cents"


@pytest.mark.parametrize("way", ["hangs", "trickles"])
def test_it_stops_while_an_answer_does_not_come_to_its_end_and_goes_on(example: Example, shop: Shop, way: str) -> None:
    shop.ways = ["well", "well", way]
    with example.running() as child:
        shop.moments.wait_for(f"asked, {way}", 1)
        child.see("item 8$")
        assert child.interrupt() == 0
        assert child.lines[-1] == total(8)

    assert example.run_until(f"item {ITEMS}$") == total(ITEMS)


def test_each_item_counts_once_however_often_the_server_fails_and_the_feed_is_killed(
    example: Example, shop: Shop
) -> None:
    shop.ways = ["slow", "fails", "drops", "well"] * 200
    for moment, times in (("answered", 3), ("asked, drops", 1), ("asked, well", 2), ("asked, slow", 2)):
        with example.running() as child:
            shop.moments.kill_at(child, moment, times)
    assert example.run_until(f"item {ITEMS}$") == total(ITEMS)


def test_where_the_position_is_kept_later_than_the_items_a_kill_has_some_twice(example: Example, shop: Shop) -> None:
    late = "                for number, _ in page:\n                    self.position = number\n"
    example.change("                        self.position = number\n", f"                self.commit()\n{late}")
    shop.ways = ["well", "hangs"]
    with example.running() as child:
        shop.moments.kill_at(child, "asked, hangs", 1)  # what was changed outside of a unit is kept with the next one
    assert example.run_until(f"item {ITEMS}$") != total(ITEMS)
