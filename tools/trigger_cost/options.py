"""A run's options."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """How a run goes.

    Attributes:
        rounds: runs of each workload on each table.
        warm_up: pgbench's option for the length of the unmeasured work before a run.
        length: pgbench's option for the length of a run.
        rows: of each table at first; the bulk update changes them all.
        clients: numbers of clients.
        fsync: whether the server waits for its disk.
        alone: whether the daemon stops during a run, as if on another host.
    """

    rounds: int
    warm_up: tuple[str, str]
    length: tuple[str, str]
    rows: int = 100_000
    clients: tuple[int, ...] = (1, 8)
    fsync: bool = True
    alone: bool = False


QUICK = Options(rounds=1, warm_up=("--transactions", "5"), length=("--transactions", "25"), rows=1_000, clients=(8,))
"""Only to see that the benchmark works: its figures mean nothing."""
