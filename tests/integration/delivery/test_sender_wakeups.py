"""Whatever lets a call go out wakes the sender: it depends on no regular look at the outbox."""

import pytest
from support.emulated import Emulator
from support.eventually import eventually
from support.faults import Status
from support.sending import QUICK, Delivery

IDS = tuple(f"a{number:02}" for number in range(20))


@pytest.fixture(autouse=True)
def _no_regular_looks(desk: Delivery) -> None:
    # Looking inside: the regular looks would hide a wake-up that is missing.
    desk.look_every = 600.0


@pytest.mark.parametrize("concurrency", [1, 4, 100])
async def test_the_end_of_a_call(desk: Delivery, hellowork: Emulator, concurrency: int) -> None:
    await desk.queue(hellowork.url, *IDS)

    async with desk.sending(concurrency=concurrency):
        await eventually(desk.is_settled, "everything is acknowledged")


async def test_the_end_of_a_call_that_a_slow_store_has_not_written_yet(desk: Delivery, hellowork: Emulator) -> None:
    await desk.queue(hellowork.url, *IDS[:3])
    desk.outbox.complete_may_begin.clear()
    async with desk.sending(concurrency=1):
        await hellowork.wait_for_calls(3, timeout=60)
        assert desk.outbox.completions == 1
        desk.outbox.complete_may_begin.set()


@pytest.mark.parametrize("status", [503, 404, 429, 401])
async def test_the_end_of_a_wait(desk: Delivery, hellowork: Emulator, status: int) -> None:
    hellowork.inject(Status(status=status))
    await desk.queue(hellowork.url, "a1")

    async with desk.sending(policy=QUICK):
        await eventually(desk.is_settled, "it is acknowledged")
