"""A watch to which the operating system refuses something: its own failure, and not the process's end."""

import asyncio
import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.eventually import eventually
from support.rig import Clock, parts_of
from support.sessions import Ats
from support.watched import a_config, install_triggers

from cdc_sync.ats import notify, triggers
from cdc_sync.ats.database import Database
from cdc_sync.core.events import CaptureStarted, Event, WatchLost
from cdc_sync.daemon.watching import WatchWorker
from cdc_sync.store import Store
from cdc_sync.store.sqlite import SqliteDriver


async def test_what_the_system_refuses_is_said_and_tried_again(
    database: str, ats: Ats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = a_config(database, capture={"mode": "notify", "drain_interval": "50ms"})
    install_triggers(ats, config)
    said: list[Event] = []
    refused = False
    looked_for = triggers.installation

    async def installation(*arguments: Any, **named: Any) -> Any:
        if refused:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return await looked_for(*arguments, **named)

    monkeypatch.setattr(notify, "installation", installation)

    def of(kind: type[Event]) -> list[Event]:
        return [each for each in said if isinstance(each, kind)]

    store = Store(SqliteDriver(tmp_path / "state.db"))
    shared = Database(config.database.dsn.get_secret_value(), store)
    parts = replace(parts_of(config, store, said.append, Clock()), database=shared)
    working = asyncio.create_task(WatchWorker(parts).run())
    try:
        await eventually(lambda: of(CaptureStarted), "it works")
        refused = True
        ats.execute("ALTER TABLE public.applications DISABLE TRIGGER ALL")
        ats.execute("ALTER TABLE public.applications ENABLE TRIGGER ALL")
        await eventually(lambda: of(WatchLost), "it says what is wrong")
        refused = False
        await eventually(lambda: len(of(CaptureStarted)) == 2, "it works again")

        assert not working.done()
        (lost,) = of(WatchLost)
        assert isinstance(lost, WatchLost)
        assert "The operating system refuses what the watch needs: [Errno 24] Too many open files." in lost.message
        assert not lost.misconfigured
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        await store.driver.close()
