"""What can be chosen about a run."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """How a run is asked for.

    Attributes:
        sizes: rows of the tables to measure with; most is measured with the middle one.
        rounds: how often bare loop and daemon take turns.
        single: changes of one latency round.
        pause: seconds between them.
        bulk: rows that one UPDATE changes, and transactions of the writers.
        slow: seconds that the slow endpoint takes.
        interrupted: rows changed before the daemon is killed.
        polls: how often an empty poll is timed.
        tenants: customers of the row `tenants`.
        rest: seconds for which a daemon at rest is looked at there.
    """

    sizes: tuple[int, int, int] = (10_000, 100_000, 1_000_000)
    rounds: int = 3
    single: int = 100
    pause: float = 0.05
    bulk: int = 10_000
    slow: float = 0.02
    interrupted: int = 4_000
    polls: int = 200
    tenants: int = 1_000
    rest: float = 60.0


QUICK = Options(sizes=(500, 600, 700), rounds=1, single=5, bulk=400, interrupted=300, polls=5, tenants=8, rest=2)
"""Seconds, not minutes: to see that the benchmark works. Its figures mean nothing."""
