"""Who takes part in the comparison of throughput, and what is asked of the result."""

import attrs

from bench.contender import Contender

VOLATILE = "not durable"
DURABLE = "durable"

# A group's rates are printed as multiples of these.
BASES = {VOLATILE: ("queue.Queue", "pykka"), DURABLE: ("huey", "persist-queue", "sqlite3")}

# Shares are such that a run takes about 0.5 to 1 s, a slow peer a little longer.
CONTENDERS = [
    Contender(
        "queue.Queue",
        "two threads, queue.Queue(maxsize)",
        VOLATILE,
        "peers.bare:bounded_queue",
        "",
        1.0,
        several_pairs=True,
    ),
    Contender(
        "SimpleQueue",
        "two threads, SimpleQueue (ceiling)",
        VOLATILE,
        "peers.bare:simple_queue",
        "",
        6.0,
        several_pairs=True,
    ),
    Contender("pykka", "pykka tell (unbounded)", VOLATILE, "peers.pykka_tell:tell", "pykka", 0.4, several_pairs=True),
    Contender(
        "minions",
        "Minions, durable=False",
        VOLATILE,
        "peers.minions_runtime:volatile",
        "minions-runtime",
        1.0,
        several_pairs=True,
    ),
    Contender(
        "persist-queue", "persist-queue put/get/ack", DURABLE, "peers.persist_queue:ack_queue", "persist-queue", 0.0024
    ),
    Contender("huey", "huey, fsync as it comes", DURABLE, "peers.huey_sqlite:default", "huey", 0.003),
    Contender("huey-nofsync", "huey, fsync=False", DURABLE, "peers.huey_sqlite:without_fsync", "huey", 0.02),
    Contender("diskcache", "diskcache.Deque", DURABLE, "peers.diskcache_deque:append_popleft", "diskcache", 0.016),
    Contender("dbos", "DBOS, a workflow each", DURABLE, "peers.dbos_sqlite:in_place", "dbos", 0.0008),
    Contender("dbos-queue", "DBOS, enqueued workflows", DURABLE, "peers.dbos_sqlite:queued", "dbos", 0.0002),
    Contender("sqlite3", "sqlite3 by hand, NORMAL", DURABLE, "peers.raw_sqlite:normal", "", 0.05),
    Contender("sqlite3-full", "sqlite3 by hand, FULL", DURABLE, "peers.raw_sqlite:full", "", 0.004),
    Contender(
        "minions-durable",
        "Minions, NORMAL",
        DURABLE,
        "peers.minions_runtime:normal",
        "minions-runtime",
        0.06,
        several_pairs=True,
    ),
    Contender(
        "minions-full",
        "Minions, FULL",
        DURABLE,
        "peers.minions_runtime:full",
        "minions-runtime",
        0.06,
        several_pairs=True,
    ),
    Contender(
        "minions-pairs", "Minions, 8 pairs", DURABLE, "peers.minions_runtime:eight_pairs", "minions-runtime", 0.06
    ),
    Contender(
        "minions-chain", "Minions, chain of 16", DURABLE, "peers.minions_runtime:chain", "minions-runtime", 0.008, 16
    ),
]


@attrs.frozen
class Target:
    """A ratio between two contenders of one round, and what DESIGN.md section 6 asks of it."""

    text: str
    over: str
    under: str
    at_least: float | None = None
    at_most: float | None = None
    in_units: bool = False  # count units of work of the first, not its messages

    def met(self, ratio: float) -> bool:
        return (self.at_least is None or ratio >= self.at_least) and (self.at_most is None or ratio <= self.at_most)

    @property
    def asked(self) -> str:
        return f"at least {self.at_least:g}" if self.at_least is not None else f"at most {self.at_most:g}"


# "60,000 units/s on the machine where huey on SQLite does 2,000" is 30 times huey on any machine. It compares units with
# tasks, and a task is two units (enqueued, executed): message against message, 30 is 15 for a pair and about 2 for the chain.
TARGETS = [
    Target("minions against two bare threads with queue.Queue", "minions", "queue.Queue", at_least=2),
    Target("minions against pykka tell", "minions", "pykka", at_least=5),
    Target("units/s of minions-durable against tasks/s of huey", "minions-durable", "huey", at_least=30, in_units=True),
    Target("units/s of minions-pairs against tasks/s of huey", "minions-pairs", "huey", at_least=30, in_units=True),
    Target("units/s of minions-chain against tasks/s of huey", "minions-chain", "huey", at_least=30, in_units=True),
    Target("minions not durable against minions-durable", "minions", "minions-durable", at_most=2.5),
]
