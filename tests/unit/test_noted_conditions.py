"""The store's list of conditions, which `status` of another process shows."""

import asyncio
from collections.abc import Mapping
from typing import cast

import pytest
from support.builders import WATCH
from support.configurations import a_config
from support.eventually import eventually

from cdc_sync.core.events import CaptureStarted, WatchStandsBy
from cdc_sync.core.failures import StoreError
from cdc_sync.daemon import wiring
from cdc_sync.daemon.running import _Daemon
from cdc_sync.event_loop import end
from cdc_sync.store import Store
from cdc_sync.store.clock import Clock
from cdc_sync.store.protocol import Condition


class Noting:
    """The part of a store that keeps the conditions; it fails once."""

    def __init__(self) -> None:
        self.clock = Clock(0)
        self.noted = {f"watch {WATCH}": "not connected yet"}
        self.fails = True
        self.number = 1
        self.moves = 0

    async def daemon(self) -> int:
        return self.number

    async def conditions(self) -> list[Condition]:
        return [Condition(name, message, 0) for name, message in self.noted.items()]

    async def set_conditions(self, messages: Mapping[str, str | None], _: int) -> None:
        if self.fails:
            self.fails = False
            raise StoreError("store-busy", "busy")
        merged: dict[str, str | None] = {**self.noted, **messages}
        self.noted = {name: message for name, message in merged.items() if message}


async def test_a_condition_that_could_not_be_saved_is_saved_though_no_event_follows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wiring, "LOOK", 0.01)
    daemon, store = _Daemon(a_config(), (), print, None, _dry_run=False, _beat_every=10.0), Noting()
    daemon._store = cast("Store", store)
    noting = asyncio.create_task(daemon._note_conditions())
    try:
        daemon._emit(CaptureStarted(WATCH))

        await eventually(lambda: not store.noted, "it is saved", within=5)

        daemon._emit(WatchStandsBy(WATCH, "another captures it"))
        await eventually(lambda: store.noted, "another one is saved", within=5)
        saved = store.noted
        store.noted, store.number = {}, 2
        await eventually(lambda: store.noted == saved, "it is saved for the new lease", within=5)
        store.noted, store.moves = {"endpoint": "open"}, 1
        await eventually(lambda: store.noted == saved, "it is saved on the new server", within=5)
    finally:
        await end([noting])
