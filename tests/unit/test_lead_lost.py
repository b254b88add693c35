"""What a process does that loses its lead, or a watch of it."""

import pytest
from support.builders import WATCH
from support.configurations import a_config
from support.leading import a_lead, a_process

from cdc_sync.core.events import PendingReread, WatchConnected, WatchEnded, WatchLost, WatchStandsBy


async def test_a_watch_that_another_stores_daemon_captures_sends_nothing() -> None:
    """That daemon may have sent a newer state."""
    process = a_process(a_config(), lambda _: None)
    async with a_lead(process) as leading:
        process.emit(PendingReread(WATCH, 0))
        assert WATCH in leading._may_send

        process.emit(WatchStandsBy(WATCH, "another daemon captures it"))

        assert WATCH not in leading._may_send


@pytest.mark.parametrize(("code", "sends"), [("unreachable", True), (None, True), ("store-another-database", False)])
async def test_a_watch_sends_while_its_database_is_down_but_not_if_it_is_another(
    code: str | None,
    sends: bool,  # noqa: FBT001 - a parameter
) -> None:
    """The entries are still those of that database. Its watches wait when they have connected again."""
    process = a_process(a_config(), lambda _: None)
    async with a_lead(process) as leading:
        process.emit(PendingReread(WATCH, 0))

        process.emit(WatchLost(WATCH, "it is gone", misconfigured=False, code=code))

        assert (WATCH in leading._may_send) is sends


async def test_a_watch_that_begins_again_or_has_ended_waits_for_its_rows() -> None:
    process = a_process(a_config(), lambda _: None)
    async with a_lead(process) as leading:
        for event in (WatchConnected(WATCH, "notify", 180_000), WatchEnded(WATCH)):
            process.emit(PendingReread(WATCH, 0))
            process.emit(event)
            assert WATCH not in leading._may_send
