"""A month of an ATS in two minutes: nothing is lost or invented, and nothing grows without bound.

Our clock is the test's. The ATS writes local times without a zone, over the days on which the clocks change.
"""

import gc
import os
import random
from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from psycopg import sql
from support.applications import delete, insert, update
from support.rig import OpenRig, Rig
from support.sessions import Ats, one, rows
from support.store_steps import acknowledge, begin_calls

from cdc_sync.daemon.chores import prune

PARIS = ZoneInfo("Europe/Paris")
DAYS = 31
WITHOUT_HELLOWORK = range(15, 22)
GONE = "gone"
STATUSES = "applied", "interview", "offer", "hired", "rejected"
HISTORY = timedelta(days=3)
"""How long events are kept."""

# 2,400 applications, with 4,600 calls: 0.9 MB, 0.5 MB and 4 MB were seen.
MOST_STORE_BYTES = 3 * 2**20
MOST_LOG_BYTES = 4 * 2**20
MOST_GROWTH = 20 * 2**20
"""Bytes of memory from the end of the first week to the end of the month."""

pytestmark = pytest.mark.timeout(600)


@dataclass
class Month:
    """The ATS's rows, HelloWork's states, and how they came there.

    Attributes:
        rows: status by row id; None for one that is deleted.
        received: the last status by application; `GONE` once deleted.
        needless: calls that said what HelloWork knew.
        dates: when the ATS changed an application, each as `instants`.
        calls: how many there were.
    """

    chance: random.Random
    rows: dict[int, str] = field(default_factory=dict)
    gone: set[int] = field(default_factory=set)
    received: dict[str, str] = field(default_factory=dict)
    needless: Counter[str] = field(default_factory=Counter)
    dates: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    calls: int = 0

    def work(self, ats: Ats, now: datetime) -> None:
        """What people do within an hour."""
        local = now.astimezone(PARIS).replace(tzinfo=None)
        busy = local.weekday() < 5 and 8 <= local.hour < 19
        with ats.transaction():
            for _ in range(self.chance.randrange(40 if busy else 3)):
                self.change(ats, local)
            if local.weekday() == 0 and local.hour == 9:
                self.burst(ats, local)

    def change(self, ats: Ats, local: datetime) -> None:
        """One change: a new application, another status, a deletion, or only another date."""
        living = list(self.rows)
        what = self.chance.random()
        if what < 0.4 or not living:
            self.add(ats, local)
            return
        id_ = self.chance.choice(living)
        if what < 0.8:
            self.rows[id_] = self.chance.choice(STATUSES)
            self.touch(ats, local, id_, status=self.rows[id_])
        elif what < 0.9:
            self.touch(ats, local, id_)
        else:
            delete(ats, id_)
            self.gone.add(id_)
            del self.rows[id_]

    def add(self, ats: Ats, local: datetime) -> None:
        id_ = len(self.rows) + len(self.gone) + 1
        self.rows[id_] = "applied"
        self.dates[f"a{id_}"] = instants(local)
        insert(ats, id_, f"a{id_}", created_at=local, updated_at=local)

    def touch(self, ats: Ats, local: datetime, *ids: int, **columns: Any) -> None:
        for id_ in ids:
            self.dates[f"a{id_}"] |= instants(local)
        update(ats, *ids, updated_at=local, **columns)

    def burst(self, ats: Ats, local: datetime) -> None:
        """A clean-up of the whole table, then back again for most rows."""
        some = self.chance.sample(list(self.rows), len(self.rows) // 2)
        self.touch(ats, local, *some, status="screening")
        for id_ in some[: len(some) // 3]:
            self.rows[id_] = "screening"
        for id_ in some[len(some) // 3 :]:
            self.touch(ats, local, id_, status=self.rows[id_])

    async def receive(self, rig: Rig) -> None:
        """HelloWork gets all that is due, and acknowledges it."""
        entries = await begin_calls(rig.store, rig.clock(), limit=100_000)
        for entry in entries:
            of, content = entry.application_id, entry.content
            state = GONE if content.deleted else content.status
            self.needless[of] += self.received.get(of) == state
            self.received[of] = state
            if not content.deleted:
                assert content.event_date in self.dates[of], content
        self.calls += len(entries)
        await acknowledge(rig.store, *entries, at=rig.clock())

    def expected(self) -> Mapping[str, str]:
        """What HelloWork should know; it may know nothing of an application that came and went between two looks."""
        living = {f"a{id_}": status for id_, status in self.rows.items()}
        return living | {of: GONE for of in self.received if int(of[1:]) in self.gone}


def instants(local: datetime) -> set[int]:
    """Milliseconds since the epoch of a local time: two within the hour that comes twice."""
    return {int(local.replace(tzinfo=PARIS, fold=fold).timestamp() * 1000) for fold in (0, 1)}


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def resident() -> int:
    """Bytes."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def a_deployment(now: datetime) -> bool:
    """Whether the daemon is stopped, and started again after an hour's work."""
    return now.weekday() == 3 and now.hour == 20


async def started(running: AsyncExitStack, open_rig: OpenRig, *, install: bool) -> Rig:
    """What the daemon does at its start."""
    no_limit = {"max_changes": 100_000, "max_deletions": 100_000}
    opened = open_rig(install=install, timezone="Europe/Paris", columns={"deleted": None}, fuse=no_limit)
    rig = await running.enter_async_context(opened)
    await rig.drain.begin()
    return rig


async def capture(rig: Rig, now: datetime) -> None:
    """What the daemon does within an hour; at night it sweeps, and removes old events."""
    rig.clock.forward(int(now.timestamp() * 1000) - rig.clock())
    await rig.drain.catch_up()
    await rig.pass_grace()
    if now.hour == 3:
        await rig.sweep()
        await prune(rig.store, int((now - HISTORY).timestamp() * 1000))
    rig.said.clear()


def without_zones(ats: Ats) -> None:
    for column in map(sql.Identifier, ("created_at", "updated_at")):
        change = sql.SQL("ALTER TABLE public.applications ALTER {0} TYPE timestamp USING {0}::timestamp")
        ats.execute(change.format(column))


@pytest.mark.parametrize("first_day", [datetime(2027, 3, 10, tzinfo=UTC), datetime(2027, 10, 15, tzinfo=UTC)])
async def test_a_month(first_day: datetime, ats: Ats, open_rig: OpenRig, tmp_path: Path) -> None:
    without_zones(ats)
    month = Month(random.Random(7))  # noqa: S311 - repeatable, not secret
    for _ in range(300):
        month.add(ats, first_day.replace(tzinfo=None))
    month.received = dict(month.expected())
    async with AsyncExitStack() as running:
        rig = await started(running, open_rig, install=True)
        early_bytes = early_descriptors = 0
        for now in (first_day + timedelta(hours=hour) for hour in range(24 * DAYS)):
            day = (now - first_day).days
            if a_deployment(now):
                await running.aclose()
                month.work(ats, now)
                rig = await started(running, open_rig, install=False)
            month.work(ats, now)
            await capture(rig, now)
            if day not in WITHOUT_HELLOWORK:
                await month.receive(rig)
            if day == 7 and not early_bytes:
                early_bytes, early_descriptors = resident(), descriptors()
        await rig.sweep()
        await rig.pass_grace()
        await month.receive(rig)

        assert not await rig.entries("held")
        assert month.received == month.expected(), "the latest state of each"
        assert month.calls > 3_000
        assert not +month.needless, "no call said what HelloWork knew"
        assert resident() - early_bytes < MOST_GROWTH
        assert descriptors() <= early_descriptors
        assert (tmp_path / "state.db").stat().st_size < MOST_STORE_BYTES
        assert one(ats, "SELECT pg_total_relation_size('cdc_sync.changes')") < MOST_LOG_BYTES
        assert rows(ats, "SELECT 1 FROM cdc_sync.changes LIMIT 1") == []
