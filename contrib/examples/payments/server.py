"""A payment server as they are: slow, failing now and then, dropping connections after the work is done. It keeps its books.

python server.py             serves until it is stopped
python server.py --report    says what was charged
"""

import random
import sqlite3
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Payments(ThreadingHTTPServer):
    """Charges once for each idempotency key, and answers the same when it is asked again."""

    daemon_threads = True

    def __init__(self, books: str, port: int, chance: random.Random) -> None:
        super().__init__(("127.0.0.1", port), Request)
        self.chance = chance
        self.one_at_a_time = threading.Lock()
        self.books = sqlite3.connect(books, check_same_thread=False, isolation_level=None)
        self.books.execute("CREATE TABLE IF NOT EXISTS charges (id INTEGER PRIMARY KEY, key TEXT, order_number TEXT)")

    def charge(self, key: str | None, order_number: str) -> int:
        """The number of the charge: of a new one, unless that key was charged before."""
        with self.one_at_a_time:
            for (charge,) in self.books.execute("SELECT id FROM charges WHERE key = ?", (key,)):
                return int(charge)
            new = "INSERT INTO charges (key, order_number) VALUES (?, ?)"
            return self.books.execute(new, (key, order_number)).lastrowid or 0


class Request(BaseHTTPRequestHandler):
    server: Payments

    def do_POST(self) -> None:
        order_number = self.rfile.read(int(self.headers["Content-Length"])).decode()
        threading.Event().wait(self.server.chance.uniform(0.0, 0.05))
        fate = self.server.chance.choice(["well", "well", "well", "busy", "dropped"])
        charge = self.server.charge(self.headers["Idempotency-Key"], order_number) if fate != "busy" else 0
        if fate != "dropped":  # the connection is closed without a word, although the work is done
            self.send_response(503 if fate == "busy" else 200)
            self.end_headers()
            self.wfile.write(str(charge).encode())

    def log_message(self, *line: object) -> None: ...


if __name__ == "__main__":
    if "--report" in sys.argv:
        found = sqlite3.connect("payments.db").execute("SELECT count(*) FROM charges GROUP BY order_number").fetchall()
        print(f"{len(found)} orders charged, {sum(times > 1 for (times,) in found)} of them more than once")
    else:
        with Payments("payments.db", 8099, random.Random()) as server:
            print(f"http://127.0.0.1:{server.server_port}", flush=True)
            server.serve_forever()
