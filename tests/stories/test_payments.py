"""The payments example against its real server: killed at any moment, each order is charged exactly once; and what it takes."""

from __future__ import annotations

import importlib.util
import random
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

EXAMPLE = Path(__file__).parents[2] / "contrib/examples/payments"
ORDERS = 60
PATIENCE_S = 60.0
"""Only a test that fails waits so long."""


@pytest.fixture(scope="module")
def server_module() -> ModuleType:
    """The example's server, in this process, so that a test knows at every moment what it has done."""
    spec = importlib.util.spec_from_file_location("payments_server", EXAMPLE / "server.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Hurried(random.Random):
    """Chance, and delays a tenth as long."""

    def uniform(self, a: float, b: float) -> float:
        return super().uniform(a, b) / 10


class Bench:
    """The server on loopback, the shop in a folder of its own, and whoever is called at each moment of a charge."""

    def __init__(self, module: ModuleType, folder: Path, seed: int) -> None:
        bench = self

        class Watched(module.Payments):  # type: ignore[misc, name-defined]
            def charge(self, key: str | None, order_number: str) -> int:
                bench.at("asked")
                charge: int = super().charge(key, order_number)
                bench.at("charged")
                return charge

            def shutdown_request(self, request: Any) -> None:
                super().shutdown_request(request)
                bench.at("answered")

            def handle_error(self, request: Any, client_address: Any) -> None:
                """The shop was killed before it had its answer."""

        self.at: Callable[[str], None] = lambda moment: None
        self.server = Watched(str(folder / "payments.db"), 0, Hurried(seed))
        self.script = folder / "shop.py"
        self.script.write_text((EXAMPLE / "shop.py").read_text(encoding="utf-8"), encoding="utf-8")
        self.told: list[str] = []
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()
        self.server.books.close()

    def change(self, line: str, other: str) -> None:
        """Changes the script."""
        text = self.script.read_text(encoding="utf-8")
        assert text.count(line) == 1
        self.script.write_text(text.replace(line, other), encoding="utf-8")

    def run(self, kill_at: Callable[[str], bool] = lambda moment: False, *options: str) -> int:
        """Runs the shop to its end, or until a moment at which it is killed; the exit code."""
        url = f"http://127.0.0.1:{self.server.server_port}"
        with subprocess.Popen(
            [sys.executable, *options, str(self.script), url],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as child:

            def at(moment: str) -> None:
                if kill_at(moment):
                    child.kill()
                    child.wait(PATIENCE_S)

            self.at = at
            assert child.stdout is not None
            for line in child.stdout:
                self.told.append(line.strip())
                at("told")
            return child.wait(PATIENCE_S)

    def charges(self) -> Counter[str]:
        """How often each order was charged, as the server has it."""
        with self.server.one_at_a_time:
            return Counter(number for (number,) in self.server.books.execute("SELECT order_number FROM charges"))

    def charge_of(self, order_number: str) -> str:
        with self.server.one_at_a_time:
            query = "SELECT id FROM charges WHERE order_number = ?"
            return str(self.server.books.execute(query, (order_number,)).fetchone()[0])


@pytest.fixture
def bench(server_module: ModuleType, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    bench = Bench(server_module, tmp_path, seed=len(request.node.name))
    yield bench
    bench.close()


ONCE_EACH = Counter({str(number): 1 for number in range(1, ORDERS + 1)})


@pytest.mark.parametrize("seed", range(3))
def test_each_order_is_charged_exactly_once_however_often_the_shop_is_killed(bench: Bench, seed: int) -> None:
    chance, killed = random.Random(seed), 0
    for _ in range(8):
        moments = chance.randint(1, 15)
        last = chance.choice(["asked", "charged", "answered", "told"])
        seen = Counter[str]()

        def is_the_moment(moment: str, seen: Counter[str] = seen, last: str = last, moments: int = moments) -> bool:
            seen[moment] += 1
            return moment == last and seen[moment] == moments

        killed += bench.run(is_the_moment) == -9
    assert killed >= 4
    assert bench.run() == 0

    assert bench.charges() == ONCE_EACH
    assert bench.told[-1] == f"{ORDERS} of {ORDERS} orders are paid"
    paid = [re.fullmatch(r"order (\d+) is paid with charge (\d+)", line) for line in bench.told[:-1]]
    said = [match.groups() for match in paid if match is not None]
    assert len(said) == len({number for number, _ in said}), "after_commit: said at most once"
    assert all(bench.charge_of(number) == charge for number, charge in said)


def test_without_a_kill_every_customer_is_told(bench: Bench) -> None:
    assert bench.run() == 0
    assert bench.charges() == ONCE_EACH
    assert len(bench.told) == ORDERS + 1


def test_without_the_key_some_order_is_charged_twice(bench: Bench) -> None:
    bench.change('{"Idempotency-Key": self.message_id}', "{}")
    assert bench.run() == 0
    charges = bench.charges()
    assert charges.keys() == ONCE_EACH.keys()
    assert max(charges.values()) > 1


BLOCKED = """
import runpy, sys, threading
from minions.flow.store import Store
Store.commit = lambda *arguments: threading.Event().wait()
sys.argv[:] = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("commits", [True, False])
def test_without_the_commit_an_order_that_was_not_on_disk_is_charged_again_under_another_key(
    bench: Bench, tmp_path: Path, commits: bool
) -> None:
    if not commits:
        bench.change("        self.commit()  #", "        #")
    script, blocked = bench.script, tmp_path / "blocked.py"
    blocked.write_text(BLOCKED, encoding="utf-8")
    if commits:  # nothing comes to the server, so there is no moment to wait for but that the order would be sent now
        bench.change("        request = ", '        print("sends", flush=True)\n        request = ')
        bench.change("        self.commit()  #", '        print("commits", flush=True)\n        self.commit()  #')
        moment = "told"
    else:
        moment = "charged"
    assert bench.run(lambda at: at == moment, str(blocked)) == -9
    assert bench.told == (["commits"] if commits else [])
    assert bench.script == script
    assert bench.run() == 0
    assert bench.charges() == (ONCE_EACH if commits else ONCE_EACH + Counter({"1": 1}))


@pytest.mark.parametrize(
    "path", sorted(EXAMPLE.parent.glob("*/*.py")), ids=lambda path: f"{path.parent.name}/{path.name}"
)
def test_an_example_fits_on_a_screen(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 60
