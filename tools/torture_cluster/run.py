"""A run from its start to its verdict, within the machine."""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from support.emulated import Emulator, EmulatorOptions
from torture import ats
from torture.daemon import Daemon
from torture.evidence import Evidence, gathered
from torture.settling import adopt, settle
from torture.weather import Weather

from cdc_sync.config import load
from cdc_sync.store import Store
from cdc_sync.store.postgres import PostgresDriver
from torture_cluster import machine, verdict
from torture_cluster.configuration import TOKEN, admin, document, watches
from torture_cluster.faults import Clocks, Nemesis, leader_among, plan
from torture_cluster.options import ClusterOptions
from torture_cluster.servers import Replicated, replicated
from torture_cluster.workload import NumberingWriter, number_changes

_ANSWERS_WITHIN = 3.0
_BACK_WITHIN = 30.0
"""Seconds within which a daemon answers in the end; its start takes some on a loaded machine."""

_LATENCY = 0.1
"""Seconds that HelloWork takes: calls are under way when something happens."""

_EXPLAINED = "cdc-sync: "
"""The beginning of a daemon's last word when it knows the reason."""


_FROZEN = f"exit code {-signal.SIGALRM}"
"""How a daemon ends that goes on after its lease: it was stopped meanwhile."""


@dataclass(slots=True)
class Outcome:
    """What came of a run.

    Attributes:
        complaints: what is wrong, by kind.
        figures: what happened, and how often.
    """

    complaints: Mapping[str, Sequence[str]]
    figures: Mapping[str, object] = field(default_factory=dict)


class Fleet:
    """The daemons as one, by any that answers."""

    def __init__(self, daemons: Sequence[Daemon]) -> None:
        self.daemons = daemons

    async def report(self) -> dict[str, Any]:
        """Of the one that leads; empty if it does not answer."""
        number = await leader_among(self.daemons)
        return {} if number is None else await self.daemons[number].report()

    async def missing(self) -> list[str]:
        return [f"daemon {n} does not answer" for n, d in enumerate(self.daemons, 1) if not await _comes_back(d)]

    def sweeps(self) -> Counter[str]:
        return sum((daemon.sweeps() for daemon in self.daemons), Counter[str]())


def _ends_after_being_frozen(daemon: Daemon) -> int:
    return sum(_FROZEN in end for end in daemon.surprises)


async def _comes_back(daemon: Daemon) -> bool:
    deadline = time.monotonic() + _BACK_WITHIN
    while time.monotonic() < deadline:
        if await daemon.report():
            return True
        await asyncio.sleep(0.1)
    return False


def torture(options: ClusterOptions, folder: Path, say: Callable[[str], None]) -> Outcome:
    hosts = machine.build(folder)
    with ExitStack() as stack:
        sources = machine.ATS if options.replicas else machine.ATS[:1]
        source = stack.enter_context(replicated(sources, commits_wait=False))
        store = stack.enter_context(replicated(machine.STORE, commits_wait=True))
        return asyncio.run(_Run(options, folder, say, hosts, source, store).run())


class _Run:
    def __init__(  # noqa: PLR0917 - the parts, each of a type of its own
        self,
        options: ClusterOptions,
        folder: Path,
        say: Callable[[str], None],
        hosts: Sequence[machine.Host],
        source: Replicated,
        store: Replicated,
    ) -> None:
        self._options = options
        self._folder = folder
        self._say = say
        self._hosts = hosts
        self._source = source
        self._store = store
        self._chance = options.common.chance
        self._clocks = Clocks(folder, self._chance("clocks")) if "clock" in options.faults else None

    async def run(self) -> Outcome:
        async with AsyncExitStack() as stack:
            http = await stack.enter_async_context(
                aiohttp.ClientSession(
                    headers={"Authorization": f"Bearer {TOKEN}"}, timeout=aiohttp.ClientTimeout(total=_ANSWERS_WITHIN)
                )
            )
            where = EmulatorOptions(
                host=machine.HELLOWORK,
                port=machine.HELLOWORK_PORT,
                latency=_LATENCY,
            )
            emulator = await stack.enter_async_context(Emulator(where))
            fleet = Fleet([self._daemon(number, http) for number in range(len(self._hosts))])
            for daemon in fleet.daemons:
                stack.push_async_callback(daemon.kill)
            await asyncio.to_thread(self._prepare, fleet.daemons[0].config)
            return await self._torture(fleet, emulator, http)

    def _daemon(self, number: int, http: aiohttp.ClientSession) -> Daemon:
        folder = self._folder / f"daemon-{number + 1}"
        folder.mkdir(parents=True, exist_ok=True)
        library = machine.faketime()
        variables = self._clocks.variables(number, library) if self._clocks and library else {}
        made = Daemon(folder, http, f"http://{admin(number)}", self._hosts[number].within, variables)
        made.configure(document(self._options, number))
        return made

    def _prepare(self, config: Path) -> None:
        source, store = self._source.primary.dsn, self._store.primary.dsn
        ats.prepare(source, self._options.tenants)
        number_changes(source)
        ats.install(source, load(config, {}))
        ats.create_role(store)
        ats.install_store(store)

    async def _torture(self, fleet: Fleet, emulator: Emulator, http: aiohttp.ClientSession) -> Outcome:
        options, dsn = self._options, self._source.primary.dsn
        first, *others = fleet.daemons
        await first.start()
        await adopt(fleet)
        for daemon in others:
            await daemon.start()
        writers = [
            NumberingWriter(number, dsn, self._chance(f"writer {number}")) for number in range(options.common.writers)
        ]
        nemesis = Nemesis(fleet.daemons, self._source, self._store, self._clocks, self._say)
        weather = Weather(emulator, self._chance("weather"), refuses=False)
        over, home, settled_or_not = asyncio.Event(), asyncio.Event(), asyncio.Event()
        stuck: list[str] = []
        settled: float | None = None
        async with asyncio.TaskGroup() as tasks:
            for writer in writers:
                tasks.create_task(writer.work(home))
            tasks.create_task(nemesis.supervise(settled_or_not))
            misfortunes = [tasks.create_task(nemesis.strike(plan(options), over))]
            if "weather" in options.faults:
                misfortunes.append(tasks.create_task(weather.rage(over)))
            await asyncio.sleep(options.common.seconds)
            over.set()
            await asyncio.wait(misfortunes)
            home.set()
            self._say("it is over; waiting for the daemons")
            await asyncio.to_thread(ats.wrap_up, dsn)
            try:
                settled = await settle(fleet, dsn)
            except TimeoutError as error:
                stuck.append(str(error))
            missing = await fleet.missing()
            settled_or_not.set()
        for daemon in fleet.daemons:
            await daemon.terminate()
        evidence = await self._evidence(emulator)
        ends = [end for daemon in fleet.daemons for end in daemon.surprises]
        frozen = [_ends_after_being_frozen(daemon) for daemon in fleet.daemons]
        complaints = {
            "not settled": stuck,
            "ends of daemons": [*missing, *(end for end in ends if _EXPLAINED not in end and _FROZEN not in end)],
            "ended without being stopped": verdict.ended_without_reason(frozen, nemesis.spans),
            **verdict.faults(evidence, nemesis.spans, sum(daemon.led() for daemon in fleet.daemons)),
        }
        repeats = verdict.repeats(evidence, nemesis.spans)
        figures = {
            "mode": options.mode,
            "seed": options.common.seed,
            "watches": options.tenants or options.watches,
            "how often each daemon took the lead": [daemon.led() for daemon in fleet.daemons],
            "overlapping calls": len(verdict.overlaps(evidence.calls)),
            "seconds to settle": None if settled is None else round(settled, 1),
            "transactions": dict(sum((writer.done for writer in writers), Counter[str]()).most_common()),
            "changes": sum(map(len, evidence.ledger.values())),
            "faults": dict(Counter(span.fault for span in nemesis.spans)),
            "HelloWork's bad days": dict(weather.episodes),
            "daemons' ends": [dict(daemon.ends) for daemon in fleet.daemons],
            "ends by themselves": Counter(ends),
            "seconds that a change waited": round(max((late for late, _ in verdict.lateness(evidence)), default=0), 1),
            "calls": len(evidence.calls),
            "calls by fault": dict(Counter(call.fault or "none" for call in evidence.calls).most_common()),
            "repeats by reason": dict(repeats.reasons.most_common()),
            "repeats without a reason": len(repeats.unexplained),
            "late for a lossy failover": len(verdict.excusably_late(evidence, nemesis.spans)),
        }
        return Outcome({kind: found for kind, found in complaints.items() if found}, figures)

    async def _evidence(self, emulator: Emulator) -> Evidence:
        store = Store(await PostgresDriver.open(self._store.primary.dsn, "read"))
        return await gathered(self._options.mode, self._source.primary.dsn, emulator, store, watches(self._options))
