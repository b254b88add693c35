"""A run from its start to its verdict."""

import asyncio
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
from support.binaries import server_binaries
from support.daemon_process import free_port
from support.emulated import Emulator
from support.postgres import on_loopback

from cdc_sync.config import load
from cdc_sync.demo.postgres import Server
from cdc_sync.demo.postgres import server as postgres_server
from cdc_sync.store import Store
from cdc_sync.store.postgres import PostgresDriver
from cdc_sync.store.sqlite import SqliteDriver
from torture import ats, verdict
from torture.ats import ROLE
from torture.configuration import WATCH, document
from torture.daemon import Daemon, daemon
from torture.evidence import Evidence, gathered
from torture.fates import Fates
from torture.launcher import Life
from torture.operator import Operator
from torture.options import Options
from torture.proxy import Proxy, proxy
from torture.settling import adopt, become_idle, settle
from torture.weather import Weather
from torture.writer import Writer

_AWAY = "cdc-sync: The store in "


@dataclass(slots=True)
class Outcome:
    """What came of a run.

    Attributes:
        complaints: what is wrong.
        figures: what happened, and how often.
        tail: the end of the daemon's log.
    """

    complaints: Sequence[str]
    figures: Mapping[str, object] = field(default_factory=dict)
    tail: str = ""


def torture(options: Options, keep: Path | None = None) -> Outcome:
    """Run it all; `keep` is a folder for the daemon's files.

    Raises:
        PostgresError: there is no server on this machine, or it could not be started.
    """
    with (
        postgres_server(server_binaries(), on_loopback()) as server,
        tempfile.TemporaryDirectory(prefix="cdc-sync-torture-") as temporary,
    ):
        ats.prepare(server.dsn)
        folder = keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        return asyncio.run(_Run(options, server, folder).run())


class _Run:
    def __init__(self, options: Options, server: Server, folder: Path) -> None:
        self._options = options
        self._server = server
        self._folder = folder

    async def run(self) -> Outcome:
        async with AsyncExitStack() as stack:
            http = await stack.enter_async_context(aiohttp.ClientSession())
            between = await stack.enter_async_context(proxy(self._server.port))
            emulator = await stack.enter_async_context(Emulator())
            admin_port = free_port()
            tortured = await stack.enter_async_context(daemon(self._folder, admin_port))
            tortured.configure(
                document(
                    self._options.mode,
                    self._options.store,
                    dsn=f"postgresql://{ROLE}@127.0.0.1:{between.port}/postgres",
                    hellowork=emulator.url,
                    store=self._store,
                    admin_port=admin_port,
                )
            )
            config = load(tortured.config, {})
            ats.install(self._server.dsn, config)
            if config.state.backend == "postgres":
                ats.install_store(self._server.dsn)
            return await self._torture(tortured, between, emulator, http)

    @property
    def _store(self) -> Path:
        return self._folder / "state.db"

    async def _torture(
        self, tortured: Daemon, between: Proxy, emulator: Emulator, http: aiohttp.ClientSession
    ) -> Outcome:
        options, dsn = self._options, self._server.dsn
        chance = options.chance("beginning")
        # A change of a row that is not adopted yet is none: half of the runs begin with the adoption alone.
        if chance.random() < 0.5:
            await tortured.start(Life(small=True, point="recorded, not consumed", passage=chance.randrange(2, 6)))
            await tortured.wait_for_end(asyncio.Event(), 10)
            await tortured.kill()
            await tortured.start()
            await adopt(tortured)
            await tortured.terminate()

        writers = [Writer(number, dsn, options.chance(f"writer {number}")) for number in range(options.writers)]
        fates = Fates(tortured, self._server, between, ROLE)
        weather = Weather(emulator, options.chance("weather"))
        operator = Operator(tortured.config)
        over, home = asyncio.Event(), asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for writer in writers:
                tasks.create_task(writer.work(home))
            misfortunes = [
                tasks.create_task(fates.of_the_daemon(options.chance("daemon"), over)),
                tasks.create_task(fates.of_the_database(options.chance("database"), over)),
                tasks.create_task(fates.of_the_network(options.chance("network"), over)),
                tasks.create_task(weather.rage(over)),
                tasks.create_task(operator.look_after_it(options.chance("operator"), over)),
            ]
            await asyncio.sleep(options.seconds)
            over.set()
            await asyncio.wait(misfortunes)
            home.set()
        ats.wrap_up(dsn)
        await tortured.start_if_dead()
        complaints: list[str] = []
        settled: float | None = None
        try:
            settled = await settle(tortured, dsn)
            await operator.retry_dead_letters()
            await become_idle(tortured)
        except TimeoutError as error:
            complaints.append(str(error))
        repairs = await self._repairs(tortured)
        await tortured.terminate()
        evidence = await self._evidence(emulator, tortured, repairs)
        complaints += [*tortured.surprises, *operator.surprises, *verdict.faults(evidence)]
        if options.store == "postgres":
            # Commands and starts fail, with a reason, without their server.
            complaints = [complaint for complaint in complaints if _AWAY not in complaint]
        figures = {
            "mode": options.mode,
            "seed": options.seed,
            "seconds to settle": None if settled is None else round(settled, 1),
            "transactions": dict(sum((writer.done for writer in writers), Counter[str]()).most_common()),
            "daemon's ends": dict(tortured.ends),
            "database and network": dict(fates.blows),
            "HelloWork's bad days": dict(weather.episodes),
            "commands": dict(operator.commands),
            **_of_calls(evidence),
            "repaired by sweeps": dict(repairs),
        }
        return Outcome(complaints, figures, tortured.tail())

    async def _repairs(self, tortured: Daemon) -> Mapping[str, int]:
        report: dict[str, Any] = await tortured.report()
        return report["watches"][0]["sweep_repairs"] if report else {}

    async def _evidence(self, emulator: Emulator, tortured: Daemon, repairs: Mapping[str, int]) -> Evidence:
        store: Store
        if self._options.store == "postgres":
            store = Store(await PostgresDriver.open(self._server.dsn, "read"))
        else:
            store = Store(SqliteDriver(self._store, "read"))
        found = await gathered(self._options.mode, self._server.dsn, emulator, store, [WATCH])
        kills = [*tortured.kills, *tortured.losses()]
        return replace(found, kills=kills, repairs=repairs, log=tortured.log())


def _of_calls(evidence: Evidence) -> Mapping[str, object]:
    repeats = verdict.repeats(evidence)
    return {
        "calls": len(evidence.calls),
        "calls by fault": dict(Counter(call.fault or "none" for call in evidence.calls).most_common()),
        "repeats after an unsure answer": repeats.unsure,
        "repeats after another call": repeats.contradicted,
        "repeats after a kill": repeats.killed,
        "repeats without a reason": len(repeats.unexplained),
    }
