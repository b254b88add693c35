"""Whatever lets a call go out wakes the sender: it depends on no regular look at the outbox."""

import pytest
from support.emulated import Emulator, EmulatorOptions
from support.eventually import eventually
from support.faults import Delay, Fault, Hang, Reset, Status
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


@pytest.mark.parametrize("fault", [Delay(seconds=0.2), Hang(seconds=0.2)], ids=lambda fault: fault.kind)
async def test_the_end_of_a_call_whose_application_changed_meanwhile(
    desk: Delivery, hellowork: Emulator, fault: Fault
) -> None:
    hellowork.inject(fault)
    await desk.queue(hellowork.url, "a1")

    async with desk.sending():
        await hellowork.wait_for_calls(1, timeout=60)
        # Nobody says that there is something new: it cannot go out before the end of the call anyhow.
        await desk.queue(hellowork.url, "a1", status="hired")
        await eventually(desk.is_settled, "both are acknowledged")

    assert len(hellowork.calls) == 2


@pytest.mark.parametrize("status", [503, 404, 429, 401])
async def test_the_end_of_a_wait(desk: Delivery, hellowork: Emulator, status: int) -> None:
    hellowork.inject(Status(status=status))
    await desk.queue(hellowork.url, "a1")

    async with desk.sending(policy=QUICK):
        await eventually(desk.is_settled, "it is acknowledged")


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_the_end_of_an_outage(desk: Delivery, hellowork: Emulator, concurrency: int) -> None:
    hellowork.inject(Reset(times=15))
    await desk.queue(hellowork.url, *IDS)

    async with desk.sending(policy=QUICK, concurrency=concurrency):
        await eventually(desk.is_settled, "everything is acknowledged")


async def test_its_turn_by_the_rate(desk: Delivery, hellowork: Emulator) -> None:
    await desk.queue(hellowork.url, *IDS[:5])

    async with desk.sending(rate=20.0):
        await eventually(desk.is_settled, "everything is acknowledged")


async def test_an_end_at_another_endpoint(desk: Delivery) -> None:
    options = EmulatorOptions(latency=0.02)
    async with Emulator(options) as one, Emulator(options) as other:
        for number in range(5):
            await desk.queue(one.url, f"one-{number}")
            await desk.queue(other.url, f"other-{number}")
        async with desk.sending(concurrency=1):
            await eventually(desk.is_settled, "everything is acknowledged")


async def test_a_new_entry(desk: Delivery, hellowork: Emulator) -> None:
    async with desk.sending():
        for number, each in enumerate(IDS, start=1):
            await desk.queue(hellowork.url, each)
            await hellowork.wait_for_calls(number, timeout=60)


async def test_the_store_works_again(desk: Delivery, hellowork: Emulator) -> None:
    await desk.queue(hellowork.url, *IDS)
    desk.outbox.fails = {"complete"}

    async with desk.sending(concurrency=4):
        await eventually(lambda: desk.outbox.completions >= 1, "a try to write an end")
        desk.outbox.fails = set()
        await eventually(desk.is_settled, "everything is acknowledged")


async def test_the_end(desk: Delivery) -> None:
    async with desk.sending() as sender:
        await eventually(lambda: desk.outbox.looks, "the sender has looked")
        await sender.stop()
