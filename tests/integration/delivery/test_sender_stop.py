"""The sender's end: what is under way is finished and written down, and nothing new is begun."""

import asyncio

import pytest
from support.emulated import Emulator, EmulatorOptions
from support.eventually import eventually
from support.faults import Delay
from support.sending import Delivery
from support.store_steps import events_of

IDS = tuple(f"a{number:02}" for number in range(20))


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
