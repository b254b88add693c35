"""The loops of notify mode together: the log is read when the bell rings, or when a look shows changes."""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from support.applications import insert, update
from support.eventually import eventually
from support.rig import OpenRig, Rig
from support.sessions import Ats, OpenSession, one, run

from cdc_sync.ats.notify import NotifyCapture
from cdc_sync.event_loop import end

NEVER = {"drain_interval": "1h"}
"""No test lives to see it."""


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
    async with running(*(job() for job in (await rig.drain.jobs()).values())):
        yield rig.drain


async def is_queued(rig: Rig, application_id: str) -> bool:
    return any(entry.application_id == application_id for entry in await rig.entries())


def is_armed(ats: Ats) -> bool:
    return bool(one(ats, "SELECT last_value > extract(epoch FROM clock_timestamp()) FROM cdc_sync.bell"))


class TestPace:
    """Awake while changes come fast."""

    async def test_commits_take_no_lock_for_us_then(
        self, ats: Ats, open_rig: OpenRig, open_session: OpenSession
    ) -> None:
        listener = open_session()
        listener.execute("LISTEN cdc_sync")
        insert(ats, 1, "a1")
        async with open_rig(capture=NEVER) as rig, notify_mode(rig) as doorbell:
            await eventually(lambda: doorbell.lookout.bell.is_armed, "it sleeps")
            deadline = time.monotonic() + 30
            while is_armed(ats):
                assert time.monotonic() < deadline, "it never woke for good"
                for _ in range(20):
                    update(ats, 1, status=f"{time.monotonic()}")
                    await asyncio.sleep(0)
            listener.execute("SELECT")
            list(listener.notifies(timeout=0))

            update(ats, 1, status="silent")

            listener.execute("SELECT")
            assert list(listener.notifies(timeout=0)) == []
            await eventually(lambda: is_status(rig, "silent"), "the entry")
            await eventually(lambda: doorbell.lookout.bell.is_armed, "it sleeps again when nothing comes")
            assert is_armed(ats)
            update(ats, 1, status="rung for")
            await eventually(lambda: is_status(rig, "rung for"), "the entry")


async def is_status(rig: Rig, status: str) -> bool:
    return any(entry.content.status == status for entry in await rig.entries())


async def test_a_writer_that_does_not_ring_is_found_by_the_next_look(ats: Ats, other: Ats, open_rig: OpenRig) -> None:
    """One with a lock_timeout: its COMMIT must not wait for NOTIFY's lock."""
    insert(ats, 1, "a1")
    other.execute("SET lock_timeout = '1h'")
    async with open_rig(capture={"drain_interval": "100ms"}) as rig, notify_mode(rig) as doorbell:
        await eventually(lambda: doorbell.lookout.bell.is_armed, "the bell is armed")

        update(other, 1, status="silent")

        await eventually(lambda: is_status(rig, "silent"), "the entry")


async def test_triggers_of_an_earlier_version_are_heard_by_looks(ats: Ats, open_rig: OpenRig) -> None:
    """They know nothing of the common bell."""
    insert(ats, 1, "a1")
    async with open_rig(capture={"drain_interval": "100ms"}) as rig:
        run(ats, "ALTER SEQUENCE cdc_sync.bell RENAME TO bell_applications")
        async with notify_mode(rig):
            run(ats, "INSERT INTO cdc_sync.changes VALUES ('applications', 'U', '{1}', now())")

            await eventually(lambda: one(ats, "SELECT count(*) = 0 FROM cdc_sync.changes"), "it is taken")


async def test_triggers_that_were_off_for_a_while_are_followed_by_a_sweep(ats: Ats, open_rig: OpenRig) -> None:
    """Within one transaction nobody ever sees them off."""
    insert(ats, 1, "a1")
    async with open_rig(capture={"drain_interval": "100ms"}) as rig, notify_mode(rig) as doorbell:
        with ats.transaction():
            ats.execute("ALTER TABLE public.applications DISABLE TRIGGER USER")
            update(ats, 1, status="silent")
            ats.execute("ALTER TABLE public.applications ENABLE TRIGGER USER")

        await doorbell.lookout.go_round()

        await eventually(lambda: rig.sweeps_wanted, "a sweep is wanted")


async def test_the_end_disarms(ats: Ats, open_rig: OpenRig) -> None:
    async with open_rig(capture=NEVER) as rig, notify_mode(rig):
        await eventually(lambda: is_armed(ats), "the bell is armed")

    assert not is_armed(ats)


class TestDrainLoop:
    async def test_drains_without_being_rung_for_now_and_then(self, ats: Ats, open_rig: OpenRig) -> None:
        async with open_rig(capture={"wakeup": "none", "poll_interval": "20ms"}) as rig:
            await rig.adopt()
            async with running(rig.drain.run()):
                insert(ats, 1, "a1")

                await eventually(lambda: is_queued(rig, "a1"), "the entry")
