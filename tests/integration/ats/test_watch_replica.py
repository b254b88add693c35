"""A watch whose connection is lost, and whose DSN leads to a replica that lags: nothing goes back, none is deleted."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from support.applications import insert, update
from support.builders import WATCH
from support.eventually import eventually
from support.rig import Clock, parts_of
from support.sessions import one, run, sessions
from support.standby import Standby, standby_of
from support.watched import a_config

from cdc_sync.core.events import CaptureStarted, Event, SweepDone
from cdc_sync.daemon.watching import WatchWorker
from cdc_sync.demo.postgres import Server
from cdc_sync.store import Store
from cdc_sync.store.sqlite import SqliteDriver

_IS_THERE = "SELECT count(*) > 0 FROM public.applications"


@pytest.fixture
def standby(restartable_server: Server) -> Iterator[Standby]:
    with standby_of(restartable_server) as standby:
        yield standby


def either(primary: str, standby: str) -> str:
    """A DSN that leads to the first of two servers that takes connections."""
    servers = [conninfo_to_dict(dsn) for dsn in (primary, standby)]
    both = {name: ",".join(str(server[name]) for server in servers) for name in ("host", "port")}
    return make_conninfo(primary, **both)


async def test_it_waits_until_the_replica_has_caught_up(
    restartable_server: Server, standby: Standby, tmp_path: Path
) -> None:
    said: list[Event] = []
    dsn = either(restartable_server.dsn, standby.dsn)
    capture = {"mode": "poll", "watermark": "updated_at", "poll_interval": "50ms", "sweep": "1s"}
    config = a_config(dsn, capture=capture, deletion_grace="0s")
    store = Store(SqliteDriver(tmp_path / "state.db"))
    parts = parts_of(config, store, said.append, Clock())

    def times(kind: type[Event]) -> int:
        return sum(isinstance(observation, kind) for observation in said)

    async def waiting() -> dict[str, tuple[str, bool]]:
        entries = [*await store.report.entries("pending", WATCH, 10), *await store.report.entries("held", WATCH, 10)]
        return {entry.application_id: (entry.content.status, entry.content.deleted) for entry in entries}

    now = {"a1": ("rejected", False), "a2": ("applied", False)}
    with sessions(restartable_server.dsn) as on_primary, sessions(standby.dsn) as on_standby:
        ats, replica = on_primary(), on_standby()
        insert(ats, 1, "a1", "new")
        working = asyncio.create_task(WatchWorker(parts).run())
        try:
            await eventually(lambda: times(SweepDone), "the sweep at the start")
            await eventually(lambda: one(replica, _IS_THERE), "the replica has the row")
            run(replica, "SELECT pg_wal_replay_pause()")
            update(ats, 1, status="rejected")
            insert(ats, 2, "a2")

            async def has_both() -> bool:
                return await waiting() == now

            await eventually(has_both, "both are queued")
            ats.close()
            restartable_server.stop()
            behind = "behind what was read before"
            await eventually(lambda: any(behind in str(each) for each in said), "the lag is noticed", within=60)
            assert await waiting() == now
            assert times(CaptureStarted) == 1

            run(replica, "SELECT pg_wal_replay_resume()")
            swept = times(SweepDone)
            await eventually(lambda: times(SweepDone) >= swept + 2, "two sweeps of the replica", within=60)
            assert await waiting() == now
            assert await store.operation.repairs() == {}
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            await store.driver.close()
