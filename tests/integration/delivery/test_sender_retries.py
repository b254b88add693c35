"""Trying again: the same call, at a time that outlives the process, until it is known what became of it."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from support import acting
from support.builders import HOUR, MINUTE, WATCH
from support.emulated import Emulator
from support.eventually import eventually
from support.faults import Hang, LostAnswer, Reset, Status
from support.sending import SLOW, Delivery, delivery
from support.store_steps import entry_of, story_of, told_status, waiting_entry

from cdc_sync.store import Store
from cdc_sync.store.sqlite import SqliteDriver

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


async def test_it_is_tried_until_it_is_acknowledged(desk: Delivery, hellowork: Emulator) -> None:
    hellowork.inject(*[Status(status=503)] * 3, *[Reset()] * 3, *[Status(status=404)] * 3)
    await desk.queue(hellowork.url, "a1")

    async with desk.sending():
        await eventually(desk.is_settled, "the call is acknowledged")

    assert await told_status(desk.store) == "seen"
    assert len(hellowork.calls) == 10
    assert not any(call.concurrent for call in hellowork.calls)


async def test_what_was_in_flight_when_the_process_died_is_sent_again(tmp_path: Path, hellowork: Emulator) -> None:
    hellowork.inject(Hang())
    async with delivery(tmp_path / "state.db") as desk:
        await desk.queue(hellowork.url, "a1")
        running = asyncio.create_task(desk.sender().run())
        await hellowork.wait_for_calls(1, timeout=60)

        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    async with delivery(tmp_path / "state.db") as desk:
        entry = await waiting_entry(desk.store)
        assert (entry.attempted, entry.state) == (True, "pending")

        await desk.send_once()

        first, second = hellowork.calls
        assert (first.idempotency_key, first.raw) == (second.idempotency_key, second.raw)
        assert [event.event for event in await story_of(desk.store)] == [
            "queued",
            "acknowledged",
        ]


async def test_what_hellowork_may_have_heard_is_taken_back(desk: Delivery, hellowork: Emulator) -> None:
    hellowork.inject(LostAnswer())
    await desk.queue(hellowork.url, "a1")
    await desk.send_once(policy=SLOW)
    heard = dict(hellowork.state["a1"])
    await desk.queue(hellowork.url, "a1", status="applied")

    await desk.send_once(policy=SLOW)

    assert (heard["status"], hellowork.state["a1"]["status"]) == ("seen", "applied")
    assert await entry_of(desk.store) is None


class TestFromAnotherProcess:
    """Operator commands write to the store beside the daemon, and cannot wake it."""

    async def test_a_dead_letter_that_is_tried_again(self, desk: Delivery, hellowork: Emulator) -> None:
        hellowork.inject(Status(status=400))
        await desk.queue(hellowork.url, "a1")
        async with desk.sending():
            await hellowork.wait_for_calls(1, timeout=60)
            await eventually(lambda: _is_dead(desk), "the dead letter")

            other = Store(SqliteDriver(desk.path))
            await acting.retry_dead(other, WATCH, desk.clock(), ids=["a1"])
            await other.driver.close()

            await hellowork.wait_for_calls(2, timeout=60)

        assert await told_status(desk.store) == "seen"

    async def test_what_is_to_be_sent_once_more(self, desk: Delivery, hellowork: Emulator) -> None:
        await desk.queue(hellowork.url, "a1")
        async with desk.sending():
            await eventually(desk.is_settled, "the first call is acknowledged")

            other = Store(SqliteDriver(desk.path))
            await acting.resend(other, WATCH, ["a1"], desk.clock())
            await other.driver.close()

            await hellowork.wait_for_calls(2, timeout=60)

        assert [call.body for call in hellowork.calls] == [hellowork.calls[0].body] * 2

    async def test_the_first_entry_of_an_endpoint(self, tmp_path: Path, hellowork: Emulator) -> None:
        async with delivery(tmp_path / "state.db") as desk, desk.sending():
            await eventually(lambda: desk.outbox.looks, "the sender has looked")
            async with delivery(tmp_path / "state.db") as other:
                await other.queue(hellowork.url, "a1")

            await hellowork.wait_for_calls(1, timeout=60)


async def test_a_wake_up_is_answered_at_once(desk: Delivery, hellowork: Emulator) -> None:
    desk.look_every = 1_000.0  # whoever waits for the next look does not call here
    async with desk.sending():
        for number in range(10):
            await desk.queue(hellowork.url, f"a{number}")
            await hellowork.wait_for_calls(number + 1, timeout=60)


async def _is_dead(desk: Delivery) -> bool:
    return bool(await desk.store.report.entries("dead", None, 1))
