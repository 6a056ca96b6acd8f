"""A Table is a mapping of its two types."""

from __future__ import annotations

from typing import assert_type

from minions import Component, System, Table


class Prices(Component):
    prices = Table(str, float)
    days = Table(tuple[str, int], int)

    def run(self) -> None:
        assert_type(self.prices["tea"], float)
        assert_type(self.prices.get("tea"), float | None)
        self.prices["tea"] = 2.5
        self.prices["tea"] += 1.0
        self.days["tea", 1] = 7
        for name, price in self.prices.items():
            assert_type(name, str)
            assert_type(price, float)
        for _, price in self.prices.between("rye", "tea"):
            assert_type(price, float)
        del self.prices["tea"]
        self.prices[1] = 2.5  # E: mypy pyright
        self.prices["tea"] = "dear"  # E: mypy pyright
        self.days["tea"] = 7  # E: mypy pyright
        del self.prices[1]  # E: mypy pyright
        self.prices.between(1, 2)  # E: mypy pyright


system = System("market")
prices = system.add(Prices())
assert_type(prices.prices["tea"], float)
system.add(Prices(prices=1))  # E: mypy pyright
