"""Rounds of short runs, one on each table, and their figures."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from statistics import median

import psycopg
from psycopg import sql

from trigger_cost.options import Options
from trigger_cost.pgbench import Pgbench
from trigger_cost.rig import Rig
from trigger_cost.workloads import BULK, BULK_NAME, MOST_PER_ROW, VARIANTS, WORKLOADS, Variant, Workload


@dataclass(frozen=True, slots=True)
class Sample:
    """One run on one table.

    Attributes:
        rate: transactions per second; of the bulk update, rows per second.
        cpu: the backends' microseconds per transaction or row.
    """

    rate: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Figure:
    """The cost of a table's triggers in a workload; medians, except the extremes.

    Attributes:
        workload: its name.
        clients: their number.
        variant: the table.
        per: `transaction` or `row`.
        bare_rate: transactions or rows per second without triggers.
        ratio: the rate without triggers divided by that with them, of one round.
        least: the smallest ratio.
        greatest: the greatest.
        added: microseconds more for each, over all clients.
        added_cpu: microseconds of the server's CPU time more for each.
        target: the most that `ratio`, or `added` of a bulk update, may be.
    """

    workload: str
    clients: int
    variant: Variant
    per: str
    bare_rate: float
    ratio: float
    least: float
    greatest: float
    added: float
    added_cpu: float
    target: float | None

    @property
    def missed(self) -> bool:
        return self.target is not None and (self.added if self.per == "row" else self.ratio) > self.target


def measure(rig: Rig, pgbench: Pgbench, options: Options, tell: Callable[[str], None]) -> list[Figure]:
    """Measure everything.

    Raises:
        PgbenchError: a transaction failed.
    """
    load = _Load(rig, pgbench, options)
    figures: list[Figure] = []
    for workload in WORKLOADS:
        for clients in options.clients:
            tell(f"{workload.name}, {clients} clients")
            rounds = list(_rounds(options, partial(load.transactions, workload, clients)))
            most = {variant: workload.most.get((variant, clients)) for variant in VARIANTS}
            figures += figures_of(workload.name, clients, "transaction", rounds, most)
    tell(BULK_NAME)
    rounds = list(_rounds(options, load.bulk))
    figures += figures_of(BULK_NAME, 1, "row", rounds, dict.fromkeys(VARIANTS, MOST_PER_ROW))
    rig.check_recorded(load.recorded)
    return figures


class _Load:
    """The ATS's work, with a count of what it must record."""

    def __init__(self, rig: Rig, pgbench: Pgbench, options: Options) -> None:
        self._rig = rig
        self._pgbench = pgbench
        self._options = options
        self.recorded = 0

    def transactions(self, workload: Workload, clients: int, variant: Variant) -> Sample:
        script = self._rig.folder / "script.sql"
        script.write_text(workload.script.format(table=f"public.{variant}", rows=self._options.rows))
        self._rig.settle()
        warm = self._pgbench.run(script, self._rig.ats_dsn, clients, self._options.warm_up)
        with self._rig.alone() if self._options.alone else nullcontext():
            before = self._rig.ats_cpu()
            ran = self._pgbench.run(script, self._rig.ats_dsn, clients, self._options.length)
            used = self._rig.ats_cpu() - before
        if self._options.alone:
            self._rig.forget()
        if workload.recorded and variant != "bare":
            self.recorded += warm.transactions + ran.transactions
        return Sample(ran.rate, used * 1e6 / ran.transactions)

    def bulk(self, variant: Variant) -> Sample:
        statement = sql.SQL(BULK).format(table=sql.Identifier("public", variant), rows=self._options.rows)
        self._rig.settle()
        before = self._rig.ats_cpu()
        with psycopg.connect(self._rig.ats_dsn, autocommit=True) as ats:
            began = time.perf_counter()
            ats.execute(statement)
            took = time.perf_counter() - began
        used = self._rig.ats_cpu() - before
        self._rig.forget()
        if variant != "bare":
            self.recorded += self._options.rows
        return Sample(self._options.rows / took, used * 1e6 / self._options.rows)


def _rounds(options: Options, run: Callable[[Variant], Sample]) -> Iterator[dict[Variant, Sample]]:
    run("bare")  # warms up caches and the processor's clock
    for number in range(options.rounds):
        turn = number % len(VARIANTS)
        yield {variant: run(variant) for variant in VARIANTS[turn:] + VARIANTS[:turn]}


def figures_of(
    workload: str,
    clients: int,
    per: str,
    rounds: Sequence[Mapping[Variant, Sample]],
    most: Mapping[Variant, float | None],
) -> Iterator[Figure]:
    """The figures of each variant with triggers; `most` has the targets."""
    for variant in VARIANTS[1:]:
        pairs = [(samples["bare"], samples[variant]) for samples in rounds]
        ratios = [bare.rate / watched.rate for bare, watched in pairs]
        yield Figure(
            workload=workload,
            clients=clients,
            variant=variant,
            per=per,
            bare_rate=median(bare.rate for bare, _ in pairs),
            ratio=median(ratios),
            least=min(ratios),
            greatest=max(ratios),
            added=median(1e6 / watched.rate - 1e6 / bare.rate for bare, watched in pairs),
            added_cpu=median(watched.cpu - bare.cpu for bare, watched in pairs),
            target=most[variant],
        )
