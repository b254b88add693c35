"""The bell that all watches of a database share, on a real server."""

from collections.abc import AsyncIterator

import pytest
from support.sessions import Ats, one, run
from support.watched import a_config, install_triggers

from cdc_sync.ats.connection import Pool, pooled
from cdc_sync.ats.lookout import BUSY, LEASE, WINDOW, Bell

LEFT = "SELECT last_value - extract(epoch FROM clock_timestamp()) FROM cdc_sync.bell"


class Clock:
    """A monotonic clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def pool(database: str, ats: Ats) -> AsyncIterator[Pool]:
    install_triggers(ats, a_config())
    async with pooled(database) as pool:
        yield pool


async def test_it_is_armed_for_a_lease_and_renewed_in_time(pool: Pool, ats: Ats) -> None:
    clock = Clock()
    bell = Bell(pool, clock)
    await bell.follow()
    assert bell.is_armed
    assert LEASE - 5 < one(ats, LEFT) <= LEASE

    run(ats, "SELECT setval('cdc_sync.bell', 1)")
    clock.now += LEASE / 6
    await bell.follow()
    assert one(ats, LEFT) < 0, "not yet due"

    clock.now += LEASE / 6
    await bell.follow()
    assert one(ats, LEFT) > LEASE - 5


async def test_many_changes_disarm_it_until_they_are_few_again(pool: Pool, ats: Ats) -> None:
    clock = Clock()
    bell = Bell(pool, clock)
    await bell.follow()
    clock.now += LEASE / 6

    await bell.count(round(BUSY * WINDOW) - 1)
    assert not bell.is_busy
    await bell.count(1)
    assert (bell.is_busy, bell.is_armed) == (True, False), "a burst is seen as it begins"
    assert one(ats, LEFT) <= 0
    await bell.follow()
    assert not bell.is_armed, "they are many"

    clock.now += WINDOW / 2
    await bell.follow()
    assert not bell.is_armed, "the window is not over"
    clock.now += WINDOW / 2
    await bell.follow()
    assert not bell.is_armed, "they were many in the window before"
    clock.now += WINDOW
    await bell.follow()
    assert (bell.is_busy, bell.is_armed) == (False, True)
    assert one(ats, LEFT) > 0


async def test_while_changes_are_many_it_is_kept_disarmed(pool: Pool, ats: Ats) -> None:
    """Another daemon, with other watches in the database, may arm it."""
    clock = Clock()
    bell = Bell(pool, clock)
    await bell.count(10_000)
    run(ats, "SELECT setval('cdc_sync.bell', 2000000000)")

    clock.now += LEASE / 3
    await bell.count(10_000)
    await bell.follow()

    assert (bell.is_busy, bell.is_armed) == (True, False)
    assert one(ats, LEFT) <= 0


async def test_bells_of_earlier_versions_are_silenced(pool: Pool, ats: Ats) -> None:
    """Else their triggers would ring, or after a day take the watch for abandoned."""
    for name in ("bell_applications", "bell_never_set", "belle_epoque"):
        run(ats, "CREATE SEQUENCE cdc_sync.{name} MINVALUE 0", name=name)
    run(ats, "SELECT setval('cdc_sync.bell_applications', 2000000000), setval('cdc_sync.belle_epoque', 7)")

    await Bell(pool).silence()

    values = "SELECT last_value, is_called FROM cdc_sync.{name}"
    assert one(ats, values.format(name="bell_applications")) == 0
    assert one(ats, "SELECT is_called FROM cdc_sync.bell_never_set") is False
    assert one(ats, values.format(name="belle_epoque")) == 7
