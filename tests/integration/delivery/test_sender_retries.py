"""Trying again: the same call, at a time that outlives the process, until it is known what became of it."""

from dataclasses import replace
from pathlib import Path

from support.builders import HOUR, MINUTE
from support.emulated import Emulator
from support.eventually import eventually
from support.faults import LostAnswer, Reset, Status
from support.sending import SLOW, Delivery, delivery
from support.store_steps import told_status, waiting_entry

VERY_SLOW = replace(SLOW, first=1000 * HOUR, max=1000 * HOUR, give_up_after=10_000 * HOUR)
"""Drawn from a thousand hours, a wait is too long for any test but once in ten million times."""


async def test_the_wait_outlives_the_process(tmp_path: Path, hellowork: Emulator) -> None:
    hellowork.inject(Status(status=503))
    async with delivery(tmp_path / "state.db") as desk:
        await desk.queue(hellowork.url, "a1")
        await desk.send_once(policy=VERY_SLOW, horizon=2 * VERY_SLOW.max)
        before = await waiting_entry(desk.store)

    async with delivery(tmp_path / "state.db") as desk:
        async with desk.sending(policy=VERY_SLOW, horizon=2 * VERY_SLOW.max):
            await eventually(lambda: desk.outbox.looks >= 2, "the sender has looked twice")
        assert await waiting_entry(desk.store) == before
        assert len(hellowork.calls) == 1

        desk.clock.ahead = VERY_SLOW.max
        await desk.send_once(policy=VERY_SLOW, horizon=2 * VERY_SLOW.max)
        assert await told_status(desk.store) == "seen"


async def test_a_wait_that_only_a_wrong_clock_can_have_set_is_no_wait(desk: Delivery, hellowork: Emulator) -> None:
    desk.clock.ahead = 1_000_000 * HOUR
    hellowork.inject(Status(status=503))
    await desk.queue(hellowork.url, "a1")
    await desk.send_once(policy=SLOW)
    desk.clock.ahead = 0

    await desk.send_once(policy=SLOW)

    assert await told_status(desk.store) == "seen"


async def test_every_try_is_the_same_request(tmp_path: Path, hellowork: Emulator) -> None:
    hellowork.inject(Status(status=503), Reset(), LostAnswer(), Status(status=404), Status(status=429))
    for _ in range(6):
        async with delivery(tmp_path / "state.db") as desk:
            if not hellowork.calls:
                await desk.queue(hellowork.url, "a1")
            desk.clock.ahead = len(hellowork.calls) * MINUTE
            await desk.send_once()

    assert len(hellowork.calls) == 6
    assert len({(call.idempotency_key, call.raw, call.path) for call in hellowork.calls}) == 1
    assert hellowork.calls[0].idempotency_key


class TestFromAnotherProcess:
    """Operator commands write to the store beside the daemon, and cannot wake it."""

    async def test_the_first_entry_of_an_endpoint(self, tmp_path: Path, hellowork: Emulator) -> None:
        async with delivery(tmp_path / "state.db") as desk, desk.sending():
            await eventually(lambda: desk.outbox.looks, "the sender has looked")
            async with delivery(tmp_path / "state.db") as other:
                await other.queue(hellowork.url, "a1")

            await hellowork.wait_for_calls(1, timeout=60)
