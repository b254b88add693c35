"""What a leader does beside capture and delivery: it removes what is too old, and keeps what others are to see."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from cdc_sync.ats.errors import SourceError
from cdc_sync.core.conditions import Conditions
from cdc_sync.core.failures import StoreError
from cdc_sync.daemon.process import Process
from cdc_sync.store import Store
from cdc_sync.store.acts import NUMBERS
from cdc_sync.store.errors import AnotherDatabaseError

_PRUNE_EVERY = timedelta(minutes=10)

MOST_EVENTS = 1_000_000
"""Kept events, at any age: about 300 MB, of 300,000 deliveries. A mass change must not fill the disk."""

_PRUNED_AT_ONCE = 1_000
"""Events deleted in one transaction."""

FORGET_EVERY = 86_400.0
"""Seconds: each look walks through the records."""

_FORGOTTEN_AT_ONCE = 1_000
"""Applications that the ATS is asked for, and that are removed, at once."""

_TRY_AGAIN = 1.0
"""Seconds until the next try, after the store has failed."""


class Pruning:
    """The job that prunes the history: at once, and every ten minutes by the wall clock."""

    def __init__(self, store: Store, history: int) -> None:
        """Keep events for `history` milliseconds."""
        self._store = store
        self._history = history
        self._scheduler = AsyncIOScheduler(timezone=UTC)
        self._job = self._scheduler.add_job(
            self._prune,
            "interval",
            seconds=_PRUNE_EVERY.total_seconds(),
            next_run_time=datetime.now(UTC),
            coalesce=True,
            max_instances=2,  # without a warning
            misfire_grace_time=None,  # however late: the clock may have been set forward
        )

    def start(self) -> None:
        """Begin."""
        self._scheduler.start()

    def follow_clock(self) -> None:
        """The wall clock may have been set back: the next time counts from the present one."""
        if self._scheduler.running:
            self._job.modify(next_run_time=datetime.now(UTC))

    def end(self) -> None:
        """Begin no further run."""
        self._scheduler.shutdown(wait=False)

    async def _prune(self) -> None:
        await prune(self._store, self._store.driver.clock.for_people() - self._history)


async def prune(store: Store, before: int, keep: int = MOST_EVENTS) -> None:
    """Delete events older than `before` (milliseconds since the epoch), and all but the newest `keep`.

    In small steps, so that others can use the store.
    """
    with suppress(StoreError):
        while await store.operation.prune(before, keep, _PRUNED_AT_ONCE) == _PRUNED_AT_ONCE:
            pass


async def forget_deleted(
    store: Store, before: int, *, with_row: Callable[[str, Sequence[str]], Awaitable[Collection[str]]]
) -> None:
    """Remove what the store has of applications whose deletion was acknowledged before then (milliseconds).

    One stays of which a row has the id, though it is marked as deleted: without a record that row would be news.
    `with_row` returns these, of a watch's applications. What fails is done the next time.
    """
    with suppress(StoreError):
        for after in range(0, await store.capture.highest_number() + 1, NUMBERS):
            for watch, ids in (await store.operation.deleted_before(before, after)).items():
                with suppress(SourceError, OSError, AnotherDatabaseError):
                    for first in range(0, len(ids), _FORGOTTEN_AT_ONCE):
                        some = ids[first : first + _FORGOTTEN_AT_ONCE]
                        kept = await with_row(watch, some)
                        await store.operation.forget_deleted(watch, [id_ for id_ in some if id_ not in kept], before)


async def count(process: Process, store: Store) -> None:
    """Count what the store has of each watch."""
    try:
        process.counts = await store.report.counts()
    except StoreError:
        process.counts = None


async def report_actions(process: Process, store: Store) -> None:
    """Report what people have done."""
    with suppress(StoreError):  # the sender reports it
        for acted in await store.operation.take_actions():
            process.emit(acted)


class NotedConditions:
    """The store's list of conditions, for `status` from another process."""

    def __init__(self, process: Process, store: Store) -> None:
        self._process = process
        self._store = store
        self._noted: Conditions | None = None

    async def follow(self) -> None:
        """Save each change at once."""
        changed = self._process.conditions_changed
        while True:
            changed.clear()
            if await self.look():
                await changed.wait()
            else:
                await asyncio.sleep(_TRY_AGAIN)

    async def look(self) -> bool:
        """Save what has changed since the last look; returns False if the store has failed."""
        operation, wanted = self._store.operation, self._process.conditions
        try:
            if self._noted is None:
                self._noted = {condition.name: condition.message for condition in await operation.conditions()}
            if changed := {name: wanted.get(name) for name, _ in wanted.items() ^ self._noted.items()}:
                await operation.set_conditions(changed, self._store.driver.clock.for_people())
                self._noted = wanted
        except StoreError:
            return False
        return True
