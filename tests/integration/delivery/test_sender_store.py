"""A store that fails: nothing is sent that could not be recorded, and nothing is lost."""

import asyncio
from collections.abc import Callable

import pytest
from support.emulated import Emulator
from support.eventually import eventually
from support.sending import Delivery

from cdc_sync.core.events import Event, StoreFailed, StoreRecovered
from cdc_sync.core.failures import StoreError

IDS = tuple(f"a{number:02}" for number in range(20))


@pytest.fixture(autouse=True)
def _short_breaks(desk: Delivery) -> None:
    # Looking inside: what matters is that there is a break between two tries, not that it takes a second.
    desk.store_retry = 0.3


def of_the_store(desk: Delivery) -> list[Event]:
    return [each for each in desk.observed if isinstance(each, StoreFailed | StoreRecovered)]


FAILED, RECOVERED = StoreFailed("the disk is full", code="store-unusable"), StoreRecovered()


class TestEndsCannotBeWritten:
    async def test_nothing_new_begins(self, desk: Delivery, hellowork: Emulator) -> None:
        await desk.queue(hellowork.url, *IDS)
        desk.outbox.fails = {"complete"}
        async with desk.sending(concurrency=2):
            await eventually(lambda: desk.outbox.completions >= 2, "two tries to write an end")
            calls = len(hellowork.calls)
            # No more than were free when the first end failed.
            assert calls <= 4
            await eventually(lambda: desk.outbox.completions >= 3, "one more")
            assert len(hellowork.calls) == calls
            assert of_the_store(desk) == [FAILED]
            desk.outbox.fails = set()
            await eventually(desk.is_settled, "everything is acknowledged")

        assert sorted(call.application_id or "" for call in hellowork.calls) == list(IDS)
        assert of_the_store(desk) == [FAILED, RECOVERED]

    async def test_the_end_of_the_sender_waits_for_them(self, desk: Delivery, hellowork: Emulator) -> None:
        await desk.queue(hellowork.url, "a1")
        desk.outbox.fails = {"complete"}
        async with desk.sending() as sender:
            await eventually(lambda: desk.outbox.completions >= 1, "a try to write an end")
            stopping = asyncio.create_task(sender.stop())
            await eventually(lambda: desk.outbox.completions >= 2, "another one")
            desk.outbox.fails = set()
            assert not await stopping

        assert await desk.is_settled()


class TestNothingCanBeRead:
    @pytest.mark.parametrize("step", ["read", "look"])
    async def test_it_goes_on_as_soon_as_the_store_works(self, desk: Delivery, hellowork: Emulator, step: str) -> None:
        await desk.queue(hellowork.url, *IDS)
        desk.outbox.fails = {step}
        count: Callable[[], int] = lambda: desk.outbox.reads if step == "read" else desk.outbox.looks  # noqa: E731
        async with desk.sending():
            await eventually(lambda: count() >= 2, "two tries")
            assert hellowork.calls == []
            assert of_the_store(desk) == [FAILED]
            desk.outbox.fails = set()
            await eventually(desk.is_settled, "everything is acknowledged")

        assert len(hellowork.calls) == len(IDS)
        assert of_the_store(desk) == [FAILED, RECOVERED]


class TestOnce:
    @pytest.mark.parametrize("step", ["read", "complete", "look"])
    async def test_it_ends_and_says_why(self, desk: Delivery, hellowork: Emulator, step: str) -> None:
        await desk.queue(hellowork.url, *IDS)
        desk.outbox.fails = {step}

        with pytest.raises(StoreError, match=r"^the disk is full$"):
            await desk.send_once()

        desk.outbox.fails = set()
        await desk.store.delivery.begin_sending()
        await desk.send_once()
        assert await desk.is_settled()
        assert {call.application_id for call in hellowork.calls} == set(IDS)
