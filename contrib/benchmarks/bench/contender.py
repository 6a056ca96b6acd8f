"""What a contender is: a function `(messages, options) -> seconds`, named here and imported only where it runs."""

import importlib
from collections.abc import Callable
from pathlib import Path

import attrs


@attrs.frozen
class Options:
    """What a contender needs to know beside the number of messages."""

    folder: Path  # fresh and empty
    capacity: int  # of every bounded queue
    pairs: int = 1  # of a producer and a consumer, at work at the same time
    size_bytes: int = 100  # of one message, about, as JSON


Contestant = Callable[[int, Options], float | dict[str, float]]


@attrs.frozen
class Contender:
    name: str
    title: str
    group: str
    target: str  # "module:function"
    requires: str  # the distribution to install; "" for the standard library
    share: float  # messages in proportion to the queue.Queue pair, so that every run takes about as long
    units_per_message: int = 2  # one to send it, one for each component that handles it
    several_pairs: bool = False  # makes use of `Options.pairs`; the others are one thread that puts and takes in turns

    def messages(self, base: int) -> int:
        """A multiple of 16, so that pairs get equal parts, and at least 64."""
        return max(64, round(base * self.share / 16) * 16)


def load(target: str) -> Contestant:
    module, _, function = target.partition(":")
    contestant: Contestant = getattr(importlib.import_module(module), function)
    return contestant
