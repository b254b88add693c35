"""`run --once`: catches up, delivers what is due, and returns. For a cron job, a test, a first careful try."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from cdc_sync.ats.beginning import begin, connect
from cdc_sync.ats.database import WatchParts
from cdc_sync.ats.deletions import Deletions
from cdc_sync.ats.discovery import discover
from cdc_sync.ats.errors import SourceError, refused_by_system
from cdc_sync.ats.intake import Intake
from cdc_sync.ats.rows_elsewhere import OtherWatches
from cdc_sync.ats.sweep import Sweep
from cdc_sync.config import Config
from cdc_sync.core import events
from cdc_sync.core.events import Consumer, Dispatch, Emit
from cdc_sync.core.reasons import coded
from cdc_sync.core.replies import is_paused
from cdc_sync.daemon import wiring
from cdc_sync.daemon.process import while_leading
from cdc_sync.daemon.requests import execute_requests
from cdc_sync.daemon.tenants import Tenants
from cdc_sync.delivery.sender import Sender
from cdc_sync.event_loop import end, regularly
from cdc_sync.store import Store
from cdc_sync.store.errors import AnotherDatabaseError, store_error
from cdc_sync.store.lead import Lead, Standby

LONGEST_GRACE = 30_000
"""Milliseconds of a suspected deletion's grace; a longer one is left to the next run."""


@dataclass(frozen=True, slots=True)
class OnceResult:
    """What one run did, and what is left for the next.

    Attributes:
        calls: by outcome (acknowledged, retry, dead, also without a call).
        failed: whether a watch could not catch up, or a due entry could not be delivered.
    """

    calls: Counter[str]
    failed: bool
    pending: int
    held: int
    dead: int


async def run_once(
    config: Config, consumers: Sequence[Consumer], show: Callable[[str], None], *, dry_run: bool
) -> OnceResult:
    """Catch up with every watch, deliver what is due, and return. A watch that fails does not stop the others.

    Raises:
        SourceError: no watch's database can be used.
        StoreError: the store cannot be used.
    """
    calls: Counter[str] = Counter()

    def count(event: events.CallEnded | events.Decided) -> None:
        if isinstance(event, events.CallEnded) or event.outcome == "dead":
            calls[event.outcome] += 1

    emit = Dispatch(*consumers, lambda: {events.CallEnded: count, events.Decided: count}).emit

    async with wiring.leading(config, emit, _insist_on_lead, dry_run=dry_run) as lead:
        result = await while_leading(lead, _run(config, lead, emit, show, calls, dry_run=dry_run))
        if result is None:
            raise AssertionError("nothing ends the work but the loss of the lead")
        return result


async def _run(
    config: Config, lead: Lead, emit: Emit, show: Callable[[str], None], calls: Counter[str], *, dry_run: bool
) -> OnceResult:
    store = lead.store
    async with AsyncExitStack() as stack:
        tenants = await discover(config, await wiring.known_watches(store))
        config = Tenants(emit).report(tenants)
        for error in tenants.unasked.values() if not config.watches else ():
            raise error
        caller = await stack.enter_async_context(wiring.opened_caller(config, show, dry_run=dry_run))
        await wiring.note_configured(config, store)
        await wiring.report_unconfigured(config, store, emit, tenants.refused)
        may_send: set[str] = set()
        sender = wiring.make_sender(config, lead, caller, may_send, emit)
        if not dry_run:
            for acted in await store.operation.take_actions():
                emit(acted)
            executed = partial(wiring.follow_requests, sender, store)
            _meanwhile(stack, execute_requests(store, lambda: config.watches, executed))
        lost = await _catch_up_all(config, store, may_send, emit, dry_run=dry_run)
        await _deliver(sender, store)
        failed = bool(lost or tenants.refused or tenants.unasked or calls["retry"] or calls["dead"])
        counts = (await store.report.counts()).values()
        return OnceResult(
            calls,
            failed or await _is_refused(store),
            pending=sum(of.pending for of in counts),
            held=sum(of.held for of in counts),
            dead=sum(of.dead for of in counts),
        )


def _meanwhile(stack: AsyncExitStack, work: Coroutine[Any, Any, None]) -> None:
    """Have some work done until the stack is closed."""
    stack.push_async_callback(end, [asyncio.create_task(work)])


async def _deliver(sender: Sender, store: Store) -> None:
    """Deliver what is due, except to paused endpoints."""
    sender.pause(await store.operation.paused())
    async with AsyncExitStack() as stack:
        _meanwhile(stack, regularly(lambda: wiring.follow_pauses(sender, store), wiring.LOOK))
        await sender.run_once()
    await store.delivery.stopped_cleanly()


async def _is_refused(store: Store) -> bool:
    """Whether something is due for an endpoint that takes no calls, or is paused."""
    now, paused = store.driver.clock(), await store.operation.paused()
    return any(
        due_at is not None and due_at <= now and (health.mode != "healthy" or is_paused(paused, endpoint))
        for endpoint, (health, due_at) in (await store.delivery.endpoints()).items()
    )


async def _insist_on_lead(standby: Standby) -> None:
    """See `StandingBy`: wait for a former leader's calls to end, but not for a leader.

    Raises:
        StoreError: another daemon leads.
    """
    if not standby.is_free:
        raise store_error(
            "store-in-use/daemons", daemons="a process" if standby.leader is None else standby.leader.shown
        )


async def _catch_up_all(config: Config, store: Store, may_send: set[str], emit: Emit, *, dry_run: bool) -> int:
    """Catch up with every watch; returns how many failed.

    Raises:
        SourceError: every watch failed.
        AnotherDatabaseError: the only database is the wrong one.
    """
    lost = 0
    of_databases: dict[str, list[str]] = defaultdict(list)
    for name in config.watches:
        of_databases[config.database_name(name)].append(name)
    databases, others = {name: wiring.make_database(config, name, store) for name in of_databases}, OtherWatches()
    others.use(config, databases)
    for database_name, names in of_databases.items():
        database = databases[database_name]
        async with database.kept():
            for name in names:
                try:
                    if database.failure is not None:
                        raise database.failure.with_traceback(None)  # one try for all of its watches
                    await _catch_up(wiring.make_parts(config, name, database, emit, others, dry_run=dry_run))
                    may_send.add(name)
                except (SourceError, OSError, AnotherDatabaseError) as failure:
                    error = refused_by_system(failure) if isinstance(failure, OSError) else failure
                    lost += 1
                    is_another = isinstance(error, AnotherDatabaseError)
                    if lost == len(config.watches) or (is_another and database.is_only):
                        raise error from None
                    wrong = isinstance(error, AnotherDatabaseError) or error.kind == "misconfigured"
                    emit(events.WatchLost(name, error.message, wrong, error.code, database=database.shown_name))
    return lost


async def _catch_up(parts: WatchParts) -> None:
    async with connect(parts) as intake:
        # Missing triggers are no failure.
        meanwhile = coded("run-finds", "What that misses, the sweep of each run finds, as this one's does.")
        capture = await begin(intake, meanwhile)
        await capture.catch_up()
        await Sweep(capture, capture.catch_up).run()
        await _confirm(intake)


async def _confirm(intake: Intake) -> None:
    """Answer the suspected deletions with a grace that ends soon."""
    until, deletions = intake.clock() + LONGEST_GRACE, Deletions(intake)
    while True:
        await deletions.confirm_due()
        due_at = await intake.store.capture.next_suspicion(intake.rules.watch)
        if due_at is None or due_at > until or deletions.left_some_unanswered:
            return  # another watch has its turn after this one
        await asyncio.sleep(max(due_at - intake.clock(), 1) / 1000)
