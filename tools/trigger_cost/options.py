"""What can be chosen about a run."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """How a run is asked for.

    Attributes:
        rounds: how often each workload is run on each table.
        warm_up: pgbench's option for the length of the unmeasured work before a run.
        length: pgbench's option for the length of a run.
        rows: rows of each table at first; the bulk update changes them all.
        clients: the numbers of clients to measure with.
        fsync: whether the server waits for its disk.
        alone: whether the daemon is stopped during a run, as if it had a host of its own.
    """

    rounds: int
    warm_up: tuple[str, str]
    length: tuple[str, str]
    rows: int = 100_000
    clients: tuple[int, ...] = (1, 8)
    fsync: bool = True
    alone: bool = False


QUICK = Options(rounds=1, warm_up=("--transactions", "5"), length=("--transactions", "25"), rows=1_000, clients=(8,))
"""Seconds, not minutes: to see that the benchmark works. Its figures mean nothing."""
