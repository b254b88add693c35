"""An operator has paused sending, as a whole or to one endpoint."""

import pytest
from support.emulated import Emulator
from support.eventually import eventually
from support.faults import Delay
from support.sending import Delivery

from cdc_sync.core.events import SendingPaused, SendingResumed
from cdc_sync.core.replies import ALL_ENDPOINTS
from cdc_sync.core.status_url import endpoint_of

IDS = tuple(f"a{number:02}" for number in range(20))


@pytest.mark.parametrize("whole", [True, False])
async def test_no_call_begins(desk: Delivery, hellowork: Emulator, *, whole: bool) -> None:
    hellowork.inject(Delay(seconds=0.2, times=None))
    await desk.queue(hellowork.url, *IDS)
    name = ALL_ENDPOINTS if whole else endpoint_of(hellowork.url)
    async with desk.sending(concurrency=2) as sender:
        await hellowork.wait_for_calls(2, timeout=60)
        sender.pause({name})
        calls = len(hellowork.calls)
        await desk.queue(hellowork.url, "new")
        await eventually(lambda: not sender.under_way, "the calls under way end")
        looks = desk.outbox.looks
        await eventually(lambda: desk.outbox.looks > looks + 1, "the sender has looked twice")
        assert len(hellowork.calls) == calls
        assert {entry.attempts for entry in await desk.store.report.entries("pending", None, 100)} == {0}

        hellowork.forget()
        hellowork.faults.clear()
        sender.pause(())
        await eventually(desk.is_settled, "everything is acknowledged")

    assert desk.of_type(SendingPaused) == [SendingPaused(name or None)]
    assert desk.of_type(SendingResumed) == [SendingResumed(name or None)]


async def test_another_endpoint_is_called(desk: Delivery, hellowork: Emulator) -> None:
    async with Emulator() as other:
        await desk.queue(hellowork.url, "here")
        await desk.queue(other.url, "there")
        sender = desk.sender()
        sender.pause({endpoint_of(hellowork.url)})

        await sender.run_once()

        assert (len(hellowork.calls), len(other.calls)) == (0, 1)
