"""What a leader does beside capture and delivery.

It looks for tenants, removes what is too old, keeps what others are to see, and reports lags and differing clocks.
These are events, so that the log, readiness, `status` and the page agree.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from types import MappingProxyType

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from cdc_sync.admin.report import endpoints
from cdc_sync.ats.beginning import KINDS
from cdc_sync.ats.connection import Pool
from cdc_sync.ats.discovery import Discovery, discover
from cdc_sync.ats.errors import SourceError
from cdc_sync.config import Config
from cdc_sync.config.models import accounts
from cdc_sync.config.tenants import unused_overrides
from cdc_sync.core import events
from cdc_sync.core.content import milliseconds
from cdc_sync.core.failures import StoreError
from cdc_sync.core.watch_names import listed, template_of
from cdc_sync.store import Store
from cdc_sync.store.acts import NUMBERS
from cdc_sync.store.errors import AnotherDatabaseError

from .process import Process

_PRUNE_EVERY = 600
"""Seconds."""

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

LOOK_FOR_TENANTS = 30.0
"""Seconds between two looks: a new customer's first application takes longer."""

_PATIENCE = 60.0
"""Seconds beyond the longest pause between two looks at the database, or beyond a call's due time."""


@contextmanager
def pruning(store: Store, config: Config) -> Iterator[None]:
    """The job that prunes the history: at once, and every ten minutes by the wall clock."""
    kept = milliseconds(config.state.history)

    async def work() -> None:
        await prune(store, store.driver.clock.for_people() - kept)

    scheduler = AsyncIOScheduler(timezone=UTC)
    # A misfire has no limit, since the clock may be set forward.
    scheduler.add_job(work, "interval", seconds=_PRUNE_EVERY, next_run_time=datetime.now(UTC), misfire_grace_time=None)
    scheduler.start()
    try:
        yield
    finally:
        scheduler.shutdown(wait=False)


async def prune(store: Store, before: int, keep: int = MOST_EVENTS) -> None:
    """Delete events older than `before` (milliseconds since the epoch), and all but the newest `keep`.

    In small steps, so that others can use the store.
    """
    with suppress(StoreError):
        while await store.operation.prune(before, keep, _PRUNED_AT_ONCE) == _PRUNED_AT_ONCE:
            pass


async def forget_deleted(
    store: Store, before: int, with_row: Callable[[str, Sequence[str]], Awaitable[Collection[str]]]
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
                        gone = [id_ for id_ in some if id_ not in kept]
                        await store.operation.forget_deleted(watch, gone, before, after)


async def report_unconfigured(process: Process, store: Store, config: Config, refused: Collection[str]) -> None:
    """Save the names of watches and accounts, for commands, and report those of the store that are not configured."""
    with suppress(StoreError):  # `check` and `status` list the watches too
        await store.delivery.note_configured(config.watches, accounts(config))
        if found := await store.report.unconfigured({*config.watches, *refused}):
            numbers = ("known", "pending", "held", "dead", "suspected")
            sums = [sum(getattr(each, number) for each in found) for number in numbers]
            process.emit(events.WatchUnconfigured(listed([each.watch for each in found]), *sums))
        if waiting := await store.delivery.waiting():
            process.emit(events.AccountsUnconfigured(tuple(sorted(waiting)), sum(waiting.values())))


async def save_conditions(process: Process, store: Store) -> None:
    """Save each change of conditions at once, for `status` from another process; for ever."""
    changed, operation = process.conditions_changed, store.operation
    while True:
        changed.clear()
        wanted = process.conditions
        try:
            saved = {condition.name: condition.message for condition in await operation.conditions()}
            if differing := {name: wanted.get(name) for name, _ in wanted.items() ^ saved.items()}:
                await operation.set_conditions(differing, store.driver.clock.for_people())
        except StoreError:
            await asyncio.sleep(_TRY_AGAIN)
        else:
            await changed.wait()


async def report_late(process: Process, store: Store, config: Config) -> None:
    """Report when reading or calls are late, and when they are back; also count what the store has of each watch."""
    lags, emit = process.metrics.lags(), process.emit
    for name, watch in config.watches.items():
        limit = _PATIENCE + KINDS[watch.capture.mode].longest_silence(watch.capture)
        is_late = lags.get(name, 0.0) > limit
        emit(events.CaptureLate(name, limit) if is_late else events.CaptureInTime(name))
    with suppress(StoreError):  # the sender reports it
        for each in await endpoints(store, store.driver.clock.for_people()):
            name = each["endpoint"]
            # An unhealthy endpoint has a report of its own.
            is_expected = each["mode"] == "healthy" and not each["sending_paused"]
            is_late = is_expected and (each["late_seconds"] or 0) > _PATIENCE
            emit(events.DeliveryLate(name, _PATIENCE) if is_late else events.DeliveryInTime(name))
        process.counts = await store.report.counts()  # last: then the conditions are this lead's, too


class Tenants:
    """The tenants of one configuration.

    Attributes:
        found: what the last look has found.
    """

    def __init__(self, process: Process) -> None:
        self._emit = process.emit
        self.found = Discovery(process.config, {}, {})
        self._was_complete = False
        """Whether a look has asked every database."""

    async def look_first(self, store: Store) -> Config:
        """As `look`; the store knows earlier tenants."""
        known: Iterable[str] = ()
        with suppress(StoreError):  # capture and delivery report it
            known = await store.report.counts()
        return await self.look(known)

    async def look(self, known: Iterable[str], pools: Mapping[str, Pool | None] = MappingProxyType({})) -> Config:
        """The configuration with its present tenants; see `discover`.

        Reports what is wrong; of what needs no condition, only at the first complete look.
        """
        emit, before = self._emit, self.found
        self.found = found = await discover(before.config, known, pools)
        for watch, why in found.refused.items():
            emit(events.TenantRefused(watch, why))
        for watch in before.refused.keys() - found.refused.keys():
            emit(events.TenantAccepted(watch))
        for name, error in found.unasked.items():
            emit(events.TenantsUnknown(name, error.message))
        for name in before.unasked.keys() - found.unasked.keys():
            emit(events.TenantsKnown(name))
        if not (found.unasked or self._was_complete):
            self._was_complete = True
            watches = (*found.config.watches, *found.refused)
            for name in found.config.templates.keys() - set(map(template_of, watches)):
                emit(events.TenantsMissing(name))
            for name, tenants in unused_overrides(found.config, watches).items():
                emit(events.OverridesUnused(name, tenants))
        return found.config
