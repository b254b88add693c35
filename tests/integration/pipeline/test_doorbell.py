"""The loops of notify mode together: the drain sleeps until it is rung for, and only when that is safe."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from support.applications import insert, update
from support.builders import WATCH
from support.eventually import eventually
from support.rig import OpenRig, Rig, nothing
from support.sessions import Ats, one

from cdc_sync.daemon import watching
from cdc_sync.daemon.watching import keep_armed
from cdc_sync.source.bell import Bell
from cdc_sync.source.session import listen

NEVER = 3600.0
"""Seconds: no test lives to see it."""

ARMED_UNTIL = "SELECT last_value FROM cdc_sync.bell_applications"


class CountedBell(Bell):
    """A bell that counts how often it is armed."""

    armed = 0

    async def arm(self) -> int:
        self.armed += 1
        return await super().arm()


@asynccontextmanager
async def running(*loops: Coroutine[Any, Any, None]) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Run loops beside the test; one that fails fails the test."""
    tasks = [asyncio.create_task(loop) for loop in loops]
    try:
        yield tasks
        assert not [task.exception() for task in tasks if task.done()]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def notify_mode(rig: Rig, bell: Bell) -> AsyncIterator[list[asyncio.Task[None]]]:
    """All the loops of notify mode, with nothing that would find a change without the bell."""
    await rig.adopt()
    async with running(
        listen(rig.connected.connection, rig.drain.ring, NEVER),
        keep_armed(bell, rig.drain.ring),
        rig.drain.run(NEVER, nothing),
    ) as tasks:
        yield tasks


async def is_queued(rig: Rig, application_id: str) -> bool:
    return any(entry.application_id == application_id for entry in await rig.entries())


def is_steady(count: Callable[[], int]) -> Callable[[], Awaitable[bool]]:
    """Whether a number has stayed the same for three turns of the fast phase."""

    async def look() -> bool:
        before = count()
        await asyncio.sleep(3 * watching._FENCE_PACE)
        return count() == before

    return look


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fast phase's turns are faster here than usual."""
    monkeypatch.setattr(watching, "_FENCE_PACE", 0.02)


async def test_a_change_rings_and_is_queued_at_once(ats: Ats, open_rig: OpenRig) -> None:
    insert(ats, 1, "a1")
    async with open_rig() as rig, notify_mode(rig, Bell(rig.connected.pool, WATCH)):
        for number in range(2, 6):
            insert(ats, number, f"a{number}")
            await eventually(partial(is_queued, rig, f"a{number}"), "the entry", within=5)


@pytest.mark.usefixtures("turns")
@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
async def test_a_writer_that_saw_the_bell_disarmed_is_waited_for(
    ats: Ats, other: Ats, open_rig: OpenRig, level: str
) -> None:
    insert(ats, 1, "a1")
    async with open_rig() as rig:
        other.execute(f"BEGIN ISOLATION LEVEL {level}".encode())
        update(other, 1, status="silent")
        rings: list[None] = []
        async with running(keep_armed(Bell(rig.connected.pool, WATCH), lambda: rings.append(None))):
            await eventually(lambda: len(rings) > 10, "it stays in the fast phase")
            assert one(ats, ARMED_UNTIL) > 0

            other.execute("COMMIT")
            at_commit = len(rings)

            await eventually(is_steady(lambda: len(rings)), "it falls asleep")
            assert len(rings) > at_commit, "but drains once more before"


@pytest.mark.usefixtures("turns")
async def test_what_that_writer_changed_is_found_although_it_does_not_ring(
    ats: Ats, other: Ats, open_rig: OpenRig
) -> None:
    insert(ats, 1, "a1")
    async with open_rig() as rig:
        await rig.adopt()
        other.execute("BEGIN")
        update(other, 1, status="silent")
        async with notify_mode(rig, Bell(rig.connected.pool, WATCH)):
            await eventually(lambda: one(ats, ARMED_UNTIL) > 0, "the bell is armed")
            other.execute("COMMIT")

            await eventually(lambda: is_queued(rig, "a1"), "the entry", within=5)


@pytest.mark.usefixtures("turns")
async def test_the_lease_is_renewed_in_time_without_another_fast_phase(
    ats: Ats, open_rig: OpenRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "LEASE", 0.6)
    monkeypatch.setattr(watching, "_LEASE_MARGIN", 0.1)
    async with open_rig() as rig:
        bell, rings = CountedBell(rig.connected.pool, WATCH), list[None]()
        async with running(keep_armed(bell, lambda: rings.append(None))):
            await eventually(is_steady(lambda: len(rings)), "it sleeps")
            asleep = len(rings)
            armed = bell.armed

            await eventually(lambda: bell.armed >= armed + 3, "it renews its lease")

            assert len(rings) == asleep


@pytest.mark.usefixtures("turns")
async def test_a_lease_renewed_too_late_begins_anew(
    ats: Ats, open_rig: OpenRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after the machine was asleep."""
    monkeypatch.setattr(watching, "LEASE", 0.3)
    monkeypatch.setattr(watching, "_LEASE_MARGIN", 0.3)  # whatever comes later than at once is late
    async with open_rig() as rig:
        bell, rings = CountedBell(rig.connected.pool, WATCH), list[None]()
        async with running(keep_armed(bell, lambda: rings.append(None))):
            await eventually(lambda: bell.armed >= 3, "it renews its lease")
            assert len(rings) >= 2, "with a fast phase each time"


async def test_the_end_disarms(ats: Ats, open_rig: OpenRig) -> None:
    async with open_rig() as rig:
        async with running(keep_armed(Bell(rig.connected.pool, WATCH), nothing)):
            await eventually(lambda: one(ats, ARMED_UNTIL) > 0, "the bell is armed")

        assert one(ats, ARMED_UNTIL) == 0


async def test_the_end_is_not_held_up_by_a_lost_database(ats: Ats, open_rig: OpenRig) -> None:
    async with open_rig() as rig:
        task = asyncio.create_task(keep_armed(Bell(rig.connected.pool, WATCH), nothing))
        await eventually(lambda: one(ats, ARMED_UNTIL) > 0, "the bell is armed")
        ats.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        task.cancel()

        done, _ = await asyncio.wait([task], timeout=10)

        assert done, "it has ended"


class TestDrainLoop:
    async def test_drains_without_being_rung_for_now_and_then(self, ats: Ats, open_rig: OpenRig) -> None:
        async with open_rig(capture={"wakeup": "none"}) as rig:
            await rig.adopt()
            async with running(rig.drain.run(0.02, nothing)):
                insert(ats, 1, "a1")

                await eventually(lambda: is_queued(rig, "a1"), "the entry", within=5)

    async def test_a_ring_during_a_drain_is_not_lost(self, ats: Ats, open_rig: OpenRig) -> None:
        async with open_rig() as rig:
            await rig.adopt()
            turns: list[None] = []

            def ring_within() -> None:
                turns.append(None)
                if len(turns) == 1:
                    insert(ats, 1, "a1")
                    rig.drain.ring()

            async with running(rig.drain.run(NEVER, ring_within)):
                await eventually(lambda: is_queued(rig, "a1"), "the entry", within=5)
