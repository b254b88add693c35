"""What a process does that loses its lead, or a watch of it."""

import asyncio
from typing import Any, cast

import pytest
from support.builders import WATCH
from support.configurations import a_config
from support.leading import a_lead, a_process

from cdc_sync.core.events import PendingReread, WatchStandsBy
from cdc_sync.core.failures import StoreError
from cdc_sync.daemon.once import _while_leading
from cdc_sync.store.lead import Lead


class Held:
    """A lead that is lost when the test says so."""

    def __init__(self) -> None:
        self.is_lost = asyncio.Event()
        self.holding = asyncio.create_task(self._hold())

    async def _hold(self) -> None:
        await self.is_lost.wait()
        raise StoreError("store-lead-lost", "it is lost")


async def test_a_single_run_ends_with_its_lead() -> None:
    held, ended = Held(), list[Any]()

    async def work() -> None:
        held.is_lost.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("work")

    async with asyncio.timeout(20):
        with pytest.raises(StoreError, match="it is lost"):
            await _while_leading(cast("Lead", held), work())

    assert ended == ["work"]


async def test_a_single_run_returns_what_it_did() -> None:
    held = Held()

    async def work() -> int:
        return 7

    assert await _while_leading(cast("Lead", held), work()) == 7
    held.holding.cancel()


async def test_a_watch_that_another_stores_daemon_captures_sends_nothing() -> None:
    """That daemon may have sent a newer state."""
    process = a_process(a_config(), lambda _: None)
    async with a_lead(process) as leading:
        leading._gate.use(a_config())
        leading.heed(PendingReread(WATCH, 0))
        assert leading._gate.may_send(WATCH)

        leading.heed(WatchStandsBy(WATCH, "another daemon captures it"))

        assert not leading._gate.may_send(WATCH)
