"""Tools for tests of components and systems. No other room imports them."""

from minions.testing.clock import FakeClock

__all__ = ["FakeClock"]
