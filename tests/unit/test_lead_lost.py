"""What a process does that loses its lead, or a watch of it."""

import asyncio
from typing import Any, cast

import pytest
from support.builders import WATCH
from support.configurations import a_config
from support.leading import a_lead, a_process

from cdc_sync.core.events import PendingReread, WatchConnected, WatchEnded, WatchLost, WatchStandsBy
from cdc_sync.core.failures import StoreError
from cdc_sync.daemon.process import while_leading
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
            await while_leading(cast("Lead", held), work())

    assert ended == ["work"]


async def test_a_single_run_returns_what_it_did() -> None:
    held = Held()

    async def work() -> int:
        return 7

    assert await while_leading(cast("Lead", held), work()) == 7
    held.holding.cancel()


async def test_a_watch_that_another_stores_daemon_captures_sends_nothing() -> None:
    """That daemon may have sent a newer state."""
    process = a_process(a_config(), lambda _: None)
    async with a_lead(process) as leading:
        leading.heed(PendingReread(WATCH, 0))
        assert WATCH in leading._may_send

        leading.heed(WatchStandsBy(WATCH, "another daemon captures it"))

        assert WATCH not in leading._may_send


@pytest.mark.parametrize(("code", "sends"), [("unreachable", True), (None, True), ("store-another-database", False)])
async def test_a_watch_sends_while_its_database_is_down_but_not_if_it_is_another(
    code: str | None,
    sends: bool,  # noqa: FBT001 - a parameter
) -> None:
    """The entries are still those of that database. Its watches wait when they have connected again."""
    async with a_lead(a_process(a_config(), lambda _: None)) as leading:
        leading.heed(PendingReread(WATCH, 0))

        leading.heed(WatchLost(WATCH, "it is gone", misconfigured=False, code=code))

        assert (WATCH in leading._may_send) is sends


async def test_a_watch_that_begins_again_or_has_ended_waits_for_its_rows() -> None:
    async with a_lead(a_process(a_config(), lambda _: None)) as leading:
        for event in (WatchConnected(WATCH, "notify", 180_000), WatchEnded(WATCH)):
            leading.heed(PendingReread(WATCH, 0))
            leading.heed(event)
            assert WATCH not in leading._may_send
