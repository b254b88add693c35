"""A store that fails: nothing is sent that could not be recorded, and nothing is lost."""

import asyncio
from collections.abc import Callable

import pytest
from support.emulated import Emulator, EmulatorOptions
from support.eventually import eventually
from support.faults import Delay
from support.sending import Delivery
from support.store_steps import events_of

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


async def test_nothing_new_begins(desk: Delivery, hellowork: Emulator) -> None:
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


async def test_the_end_of_the_sender_waits_for_them(desk: Delivery, hellowork: Emulator) -> None:
    await desk.queue(hellowork.url, "a1")
    desk.outbox.fails = {"complete"}
    async with desk.sending() as sender:
        await eventually(lambda: desk.outbox.completions >= 1, "a try to write an end")
        stopping = asyncio.create_task(sender.stop())
        await eventually(lambda: desk.outbox.completions >= 2, "another one")
        desk.outbox.fails = set()
        assert not await stopping

    assert await desk.is_settled()


@pytest.mark.parametrize("step", ["read", "look"])
async def test_it_goes_on_as_soon_as_the_store_works(desk: Delivery, hellowork: Emulator, step: str) -> None:
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


@pytest.mark.parametrize("step", ["read", "complete", "look"])
async def test_it_ends_and_says_why(desk: Delivery, hellowork: Emulator, step: str) -> None:
    await desk.queue(hellowork.url, *IDS)
    desk.outbox.fails = {step}

    with pytest.raises(StoreError, match=r"^the disk is full$"):
        await desk.send_once()

    desk.outbox.fails = set()
    await desk.store.delivery.begin_sending()
    await desk.send_once()
    assert await desk.is_settled()
    assert {call.application_id for call in hellowork.calls} == set(IDS)


# The sender's end: what is under way is finished and written down, and nothing new is begun.


async def test_what_is_under_way_is_finished_and_written_down(desk: Delivery) -> None:
    async with Emulator(EmulatorOptions(latency=1)) as slow:
        await desk.queue(slow.url, *IDS)
        async with desk.sending(concurrency=4) as sender:
            await slow.wait_for_calls(4, timeout=60)
            assert sender.under_way == 4

        assert sender.under_way == 0
        assert len(slow.calls) == 4
        sent = {call.application_id for call in slow.calls}
        waiting = await desk.store.report.entries("pending", None, 100)
        assert {entry.application_id for entry in waiting} == set(IDS) - sent
        assert not any(entry.attempted for entry in waiting)


async def test_stopped_before_it_began_it_sends_nothing(desk: Delivery, hellowork: Emulator) -> None:
    await desk.queue(hellowork.url, "a1")
    sender = desk.sender()

    async with asyncio.timeout(20):
        assert not await sender.stop()
        await sender.run()

    assert hellowork.calls == []
    assert await events_of(desk.store) == ["queued"]


@pytest.mark.parametrize("fault", [Delay(seconds=60)])
async def test_given_up_it_leaves_what_was_under_way_to_the_next(
    desk: Delivery, hellowork: Emulator, fault: Delay
) -> None:
    hellowork.inject(fault.model_copy(update={"application_id": IDS[0]}))
    await desk.queue(hellowork.url, *IDS)
    sender = desk.sender()
    running = asyncio.create_task(sender.run())
    await eventually(lambda: _has_left(desk, 1), "all but one are acknowledged")

    assert await sender.stop(grace=0.05), "a call is cut off"
    await running

    await desk.store.delivery.begin_sending()
    (left,) = await desk.store.report.entries("pending", None, 100)
    assert (left.application_id, left.attempted) == (IDS[0], True)
    await desk.send_once()
    assert await desk.is_settled()


async def _has_left(desk: Delivery, number: int) -> bool:
    return len(await desk.store.report.entries("pending", None, 100)) == number
