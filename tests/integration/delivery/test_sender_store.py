"""A store that fails: nothing is sent that could not be recorded, and nothing is lost."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest
from support.emulated import Emulator
from support.eventually import eventually
from support.faults import Status
from support.sending import QUICK, SLOW, Delivery

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

    async def test_the_store_is_not_pestered(self, desk: Delivery, hellowork: Emulator) -> None:
        await desk.queue(hellowork.url, *IDS)
        desk.outbox.fails = {"complete"}
        async with desk.sending(concurrency=2):
            await eventually(lambda: desk.outbox.completions >= 1, "a try to write an end")
            asked, finishes = desk.outbox.asked, desk.outbox.completions

            def two_more() -> bool:
                return desk.outbox.completions >= finishes + 2

            await eventually(two_more, "two more, with a wake-up at every chance")
            assert desk.outbox.asked - asked <= 6
            desk.outbox.fails = set()

    async def test_the_ends_are_written_as_they_were(self, desk: Delivery, hellowork: Emulator) -> None:
        hellowork.inject(Status(status=400, application_id="a00"), Status(status=503, application_id="a01"))
        await desk.queue(hellowork.url, *IDS[:3])
        desk.outbox.fails = {"complete"}
        async with desk.sending(policy=replace(QUICK, first=3_600_000, max=3_600_000)):
            await eventually(lambda: desk.outbox.completions >= 2, "two tries to write an end")
            desk.outbox.fails = set()

        assert [entry.application_id for entry in await desk.store.report.entries("dead", None, 9)] == ["a00"]
        assert [entry.application_id for entry in await desk.store.report.entries("pending", None, 9)] == ["a01"]
        assert (await desk.health(hellowork.url)).mode == "healthy"

    async def test_what_was_learnt_of_the_endpoint_is_written_too(self, desk: Delivery, hellowork: Emulator) -> None:
        hellowork.inject(Status(status=401))
        await desk.queue(hellowork.url, "a1")
        desk.outbox.fails = {"complete"}
        async with desk.sending(policy=SLOW):
            await eventually(lambda: desk.outbox.completions >= 1, "a try to write an end")
            desk.outbox.fails = set()

        assert (await desk.health(hellowork.url)).mode == "paused"

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

    async def test_given_up_nothing_is_lost(self, desk: Delivery, hellowork: Emulator) -> None:
        await desk.queue(hellowork.url, "a1")
        desk.outbox.fails = {"complete"}
        running = asyncio.create_task(desk.sender().run())
        await eventually(lambda: desk.outbox.completions >= 1, "a try to write an end")
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        desk.outbox.fails = set()
        await desk.store.delivery.begin_sending()

        await desk.send_once()

        assert await desk.is_settled()
        first, second = hellowork.calls
        assert first.idempotency_key == second.idempotency_key


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

    async def test_what_is_under_way_is_written_down(self, desk: Delivery, hellowork: Emulator) -> None:
        hellowork.inject({"kind": "delay", "seconds": 0.5})
        await desk.queue(hellowork.url, "a1")
        async with desk.sending():
            await hellowork.wait_for_calls(1, timeout=60)
            desk.outbox.fails = {"read", "look"}
            await eventually(lambda: of_the_store(desk), "the store's failure")
            await eventually(desk.is_settled, "the end is written")
            desk.outbox.fails = set()
            await eventually(lambda: RECOVERED in of_the_store(desk), "the store's recovery")


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
