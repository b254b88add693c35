"""The loops of notify mode together: the drain sleeps until it is rung for, and only when that is safe."""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from support.applications import insert, update
from support.eventually import eventually
from support.rig import OpenRig, Rig, nothing
from support.sessions import Ats, OpenSession, end_sessions, one, run

from cdc_sync.core.events import CaughtUp
from cdc_sync.event_loop import end
from cdc_sync.pipeline.notify import NotifyCapture
from cdc_sync.source.changelog import LEASE
from cdc_sync.source.errors import SourceError
from cdc_sync.source.lookout import ROUND

NEVER = {"drain_interval": "1h"}
"""No test lives to see it."""

ARMED_UNTIL = "SELECT last_value FROM cdc_sync.bell_applications"


@asynccontextmanager
async def running(*loops: Coroutine[Any, Any, None]) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Run loops beside the test; one that fails fails the test."""
    tasks = [asyncio.create_task(loop) for loop in loops]
    try:
        yield tasks
        assert not [task.exception() for task in tasks if task.done()]
    finally:
        await end(tasks)


@asynccontextmanager
async def notify_mode(rig: Rig) -> AsyncIterator[NotifyCapture]:
    """All the loops of notify mode, with nothing that would find a change without the bell."""
    await rig.adopt()
    async with running(*(await rig.drain.jobs(nothing)).values()):
        yield rig.drain


async def is_queued(rig: Rig, application_id: str) -> bool:
    return any(entry.application_id == application_id for entry in await rig.entries())


def is_armed(ats: Ats) -> bool:
    return bool(one(ats, "SELECT last_value > extract(epoch FROM clock_timestamp()) FROM cdc_sync.bell_applications"))


async def test_a_change_rings_and_is_queued_at_once(ats: Ats, open_rig: OpenRig) -> None:
    insert(ats, 1, "a1")
    async with open_rig(capture=NEVER) as rig, notify_mode(rig) as doorbell:
        for number in range(2, 6):
            await eventually(lambda: doorbell.bell.is_heard, "it sleeps")
            insert(ats, number, f"a{number}")
            await eventually(partial(is_queued, rig, f"a{number}"), "the entry")


async def test_a_ring_does_not_wait_for_a_look(ats: Ats, open_rig: OpenRig) -> None:
    async with open_rig(capture={"drain_interval": "1h"}) as rig, notify_mode(rig) as doorbell:
        await eventually(lambda: doorbell.bell.is_heard, "it sleeps")
        for number in range(1, 4):
            insert(ats, number, f"a{number}")
            await eventually(partial(is_queued, rig, f"a{number}"), "the entry")
        # Nor does it wait for one while the bell is disarmed, since changes come fast.
        deadline = time.monotonic() + 30
        while is_armed(ats):
            assert time.monotonic() < deadline, "it never woke for good"
            for _ in range(20):
                update(ats, 1, status=f"{time.monotonic()}")
                await asyncio.sleep(0)
        update(ats, 1, status="last of many")
        await asyncio.sleep(0.2)  # whatever rang has been read
        update(ats, 1, status="silent")
        await eventually(lambda: is_status(rig, "silent"), "the entry")


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
async def test_a_writer_that_saw_the_bell_disarmed_is_waited_for(
    ats: Ats, other: Ats, open_rig: OpenRig, level: str
) -> None:
    insert(ats, 1, "a1")
    async with open_rig(capture=NEVER) as rig:
        await rig.adopt()
        other.execute(f"BEGIN ISOLATION LEVEL {level}".encode())
        update(other, 1, status="silent")
        async with notify_mode(rig) as doorbell:
            await eventually(lambda: is_armed(ats), "the bell is armed")
            for _ in range(3):
                await doorbell.lookout.look()
            assert not doorbell.bell.is_heard

            other.execute("COMMIT")

            # It did not ring, so only the drain that follows the fence can find it.
            await eventually(lambda: is_queued(rig, "a1"), "the entry")
            await eventually(lambda: doorbell.bell.is_heard, "it falls asleep")


class TestPace:
    """Awake while changes come fast."""

    async def test_commits_take_no_lock_for_us_then(
        self, ats: Ats, open_rig: OpenRig, open_session: OpenSession
    ) -> None:
        listener = open_session()
        listener.execute("LISTEN cdc_sync")
        insert(ats, 1, "a1")
        async with open_rig(capture=NEVER) as rig, notify_mode(rig) as doorbell:
            await eventually(lambda: doorbell.bell.is_heard, "it sleeps")
            deadline = time.monotonic() + 30
            while is_armed(ats):
                assert time.monotonic() < deadline, "it never woke for good"
                for _ in range(20):
                    update(ats, 1, status=f"{time.monotonic()}")
                    await asyncio.sleep(0)
            assert not doorbell.bell.is_heard
            listener.execute("SELECT")
            list(listener.notifies(timeout=0))

            update(ats, 1, status="silent")

            listener.execute("SELECT")
            assert list(listener.notifies(timeout=0)) == []
            await eventually(lambda: is_status(rig, "silent"), "the entry")
            await eventually(lambda: doorbell.bell.is_heard, "it sleeps again when nothing comes")
            assert is_armed(ats)
            update(ats, 1, status="rung for")
            await eventually(lambda: is_status(rig, "rung for"), "the entry")

    async def test_a_sweep_that_meets_many_leaves_the_bell_to_who_sleeps(
        self, ats: Ats, other: Ats, open_rig: OpenRig
    ) -> None:
        other.execute("SET lock_timeout = '1h'")  # so it does not ring
        async with open_rig(capture=NEVER) as rig, notify_mode(rig) as doorbell:
            await eventually(lambda: doorbell.bell.is_heard, "it sleeps")
            for number in range(1, 101):
                insert(other, number, f"a{number}")

            await doorbell.catch_up()

            assert is_armed(ats)
            assert doorbell.bell.is_heard
            insert(ats, 101, "a101")
            await eventually(partial(is_queued, rig, "a101"), "the entry")


async def is_status(rig: Rig, status: str) -> bool:
    return any(entry.content.status == status for entry in await rig.entries())


async def asleep(doorbell: NotifyCapture) -> None:
    """Turn until it sleeps."""
    while await doorbell.turn() is not None or not doorbell.bell.is_heard:
        await doorbell.lookout.look()


class TestLease:
    async def by_hand(self, rig: Rig) -> tuple[NotifyCapture, list[float]]:
        """A doorbell whose clock the test sets, asleep."""
        await rig.adopt()
        now = [0.0]
        doorbell = NotifyCapture(rig.intake, rig.drain.installed, lambda: now[0])
        await asleep(doorbell)
        return doorbell, now

    async def test_is_renewed_in_time_without_falling_asleep_anew(self, ats: Ats, open_rig: OpenRig) -> None:
        async with open_rig(capture=NEVER) as rig:
            doorbell, _ = await self.by_hand(rig)
            before = one(ats, ARMED_UNTIL)
            await asyncio.sleep(1.1)
            await doorbell.lookout.look()
            assert one(ats, ARMED_UNTIL) == before, "not yet due"

            await doorbell.lookout.renew()

            assert one(ats, ARMED_UNTIL) >= before + 1
            assert doorbell.bell.is_heard
            assert ROUND <= LEASE / 3

    @pytest.mark.parametrize(
        "meanwhile",
        [
            pytest.param("extract(epoch FROM clock_timestamp())::bigint", id="it ran out, as after a long sleep"),
            pytest.param("0", id="another daemon's last wish came late"),
        ],
    )
    async def test_renewed_too_late_it_falls_asleep_anew(
        self, ats: Ats, open_rig: OpenRig, other: Ats, meanwhile: str
    ) -> None:
        insert(ats, 1, "a1")
        async with open_rig(capture=NEVER) as rig:
            doorbell, _ = await self.by_hand(rig)
            run(ats, "SELECT setval('cdc_sync.bell_applications', {value})", value=meanwhile)
            other.execute("BEGIN")
            update(other, 1, status="silent")

            await doorbell.lookout.renew()
            await doorbell.lookout.look()
            assert not doorbell.bell.is_heard, "a transaction may have read the bell when it was not armed"
            other.execute("COMMIT")
            await asleep(doorbell)

            assert await is_queued(rig, "a1")


class TestWritersThatDoNotRing:
    """Those whose session has a lock_timeout: their COMMIT must not wait for NOTIFY's lock."""

    async def test_are_looked_for_every_poll_interval_for_minutes_after_one_was_found(
        self, ats: Ats, other: Ats, open_rig: OpenRig
    ) -> None:
        insert(ats, 1, "a1")
        other.execute("SET lock_timeout = '1h'")
        async with open_rig(capture={"drain_interval": "1s", "poll_interval": "250ms"}) as rig:
            await rig.adopt()
            now = [0.0]
            doorbell = NotifyCapture(rig.intake, rig.drain.installed, lambda: now[0])
            async with running(doorbell.run(nothing)):
                await eventually(lambda: doorbell.bell.is_heard, "it sleeps")
                update(other, 1, status="silent")
                await eventually(lambda: is_status(rig, "silent"), "the entry")
            await asleep(doorbell)

            assert doorbell.watched.every == 0.25
            now[0] += 301
            await asyncio.sleep(0.25)
            await doorbell.lookout.look()
            assert doorbell.watched.every == 1.0

    async def test_those_that_ring_do_not_make_it_poll(self, ats: Ats, open_rig: OpenRig) -> None:
        insert(ats, 1, "a1")
        async with open_rig(capture=NEVER) as rig:
            async with notify_mode(rig) as doorbell:
                await eventually(lambda: doorbell.bell.is_heard, "it sleeps")
                update(ats, 1, status="rung for")
                await eventually(lambda: is_status(rig, "rung for"), "the entry")
            await asleep(doorbell)

            assert doorbell.watched.every == 3600


async def test_the_end_disarms(ats: Ats, open_rig: OpenRig) -> None:
    async with open_rig(capture=NEVER) as rig:
        async with notify_mode(rig):
            await eventually(lambda: is_armed(ats), "the bell is armed")

        assert not is_armed(ats)


async def test_the_end_is_not_held_up_by_a_lost_database(ats: Ats, open_rig: OpenRig) -> None:
    async with open_rig(capture=NEVER) as rig:
        await rig.adopt()
        task = asyncio.create_task(rig.drain.run(nothing))
        await eventually(lambda: is_armed(ats), "the bell is armed")
        ats.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        task.cancel()

        done, _ = await asyncio.wait([task], timeout=10)

        assert done, "it has ended"


class TestDrainLoop:
    async def test_drains_without_being_rung_for_now_and_then(self, ats: Ats, open_rig: OpenRig) -> None:
        async with open_rig(capture={"wakeup": "none", "poll_interval": "20ms"}) as rig:
            await rig.adopt()
            async with running(rig.drain.run(nothing)):
                insert(ats, 1, "a1")

                await eventually(lambda: is_queued(rig, "a1"), "the entry")

    async def test_a_ring_during_a_drain_is_not_lost(self, ats: Ats, open_rig: OpenRig) -> None:
        async with open_rig(capture=NEVER) as rig:
            await rig.adopt()
            turns: list[None] = []

            def ring_within() -> None:
                turns.append(None)
                if len(turns) == 1:
                    insert(ats, 1, "a1")
                    rig.drain.rung.set()

            async with running(rig.drain.run(ring_within)):
                await eventually(lambda: is_queued(rig, "a1"), "the entry")


async def test_a_lost_connection_is_no_error_of_the_look_for_all_watches(ats: Ats, open_rig: OpenRig) -> None:
    async with open_rig(capture={"drain_interval": "200ms"}) as rig, notify_mode(rig) as doorbell:
        await eventually(lambda: doorbell.bell.is_heard, "it sleeps")
        async with rig.intake.sessions.pool.connection() as connection:
            idle = connection.info.backend_pid
        end_sessions(ats, "pid = %s", [idle])
        looks = len(rig.heard(CaughtUp))

        await eventually(lambda: len(rig.heard(CaughtUp)) > looks + 3, "it goes on")


async def test_a_pool_that_has_no_connection_is_an_error_of_the_watch_alone(open_rig: OpenRig) -> None:
    async with open_rig(capture=NEVER) as rig:
        await rig.intake.sessions.pool.close()

        with pytest.raises(SourceError):
            await rig.drain.was_worked_before()
