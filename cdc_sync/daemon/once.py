"""`run --once`: catch up, deliver what is due, exit. For a cron job, a test, a first careful try."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from cdc_sync.config import Config
from cdc_sync.core.delivery import is_paused
from cdc_sync.core.observations import CallEnded, Consumer, Decided, Dispatch, WatchLost
from cdc_sync.core.reasons import coded
from cdc_sync.daemon.running import (
    LOOK,
    follow_pauses,
    make_database,
    make_parts,
    make_sender,
    opened_caller,
    opened_store,
    regularly,
    tell_of_unconfigured,
)
from cdc_sync.daemon.together import end
from cdc_sync.daemon.watching import refused_by_system
from cdc_sync.pipeline.intake import Intake
from cdc_sync.pipeline.parts import WatchParts, nothing
from cdc_sync.pipeline.sweep import Sweep
from cdc_sync.pipeline.watch import begin, connect
from cdc_sync.source.errors import SourceError

LONGEST_GRACE = 30_000
"""A deletion whose grace ends within so many milliseconds is waited for; a longer one is the next run's business."""


@dataclass(frozen=True, slots=True)
class OnceResult:
    """What one run did, and what waits for the next.

    Attributes:
        calls: how many, by outcome (acknowledged, retry, dead); dead letters that were never called count as dead.
        lost: how many watches could not be caught up with.
        refused: whether something is due that its endpoint takes no calls for now.
        pending: entries that wait.
        held: entries that the fuse holds.
        dead: dead letters.
    """

    calls: Counter[str]
    lost: int
    refused: bool
    pending: int
    held: int
    dead: int

    @property
    def failed(self) -> bool:
        """Whether a watch could not be caught up with, or something that was due could not be delivered."""
        return bool(self.lost or self.refused or self.calls["retry"] or self.calls["dead"])


async def run_once(
    config: Config, consumers: Sequence[Consumer], show: Callable[[str], None], *, dry_run: bool
) -> OnceResult:
    """Catch up with every watch, deliver what is due now, and return. A watch that cannot work keeps no other one back.

    Raises:
        SourceError: no watch's database can be used; nothing is waited for.
        StoreError: the store cannot be used.
    """
    calls: Counter[str] = Counter()

    def count(event: CallEnded | Decided) -> None:
        if isinstance(event, CallEnded) or event.outcome == "dead":
            calls[event.outcome] += 1

    emit = Dispatch(*consumers, lambda: {CallEnded: count, Decided: count}).emit

    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(opened_store(config, emit, dry_run=dry_run))
        caller = await stack.enter_async_context(opened_caller(config, show, dry_run=dry_run))
        await tell_of_unconfigured(config, store, emit)
        for acted in [] if dry_run else await store.take_actions():
            emit(acted)
        database = make_database(config, store)
        lost: list[SourceError] = []
        for name in config.watches:
            try:
                await _catch_up(make_parts(config, name, database, emit, dry_run=dry_run))
            except (SourceError, OSError) as failure:
                error = failure if isinstance(failure, SourceError) else refused_by_system(failure)
                lost.append(error)
                if len(lost) == len(config.watches):
                    raise error from None
                emit(WatchLost(name, str(error), error.kind == "misconfigured", error.code))
        sender = make_sender(config, store, caller, emit)
        sender.pause(await store.paused())
        following = asyncio.create_task(regularly(lambda: follow_pauses(sender, store), LOOK))
        try:
            await sender.run_once()
        finally:
            await end([following])
        now, paused = store.clock(), await store.paused()
        refused = any(
            (health.mode != "healthy" or is_paused(paused, endpoint)) and due_at is not None and due_at <= now
            for endpoint, (health, due_at) in (await store.endpoints()).items()
        )
        counts = (await store.counts()).values()
        pending, held, dead = (sum(getattr(of, state) for of in counts) for state in ("pending", "held", "dead"))
        return OnceResult(calls, len(lost), refused, pending, held, dead)


async def _catch_up(parts: WatchParts) -> None:
    async with connect(parts) as connected:
        # No failure: the sweep of each run compares every row, triggers or not.
        meanwhile = coded("run-finds", "What that misses, the sweep of each run finds, as this one's does.")
        capture = await begin(connected, meanwhile, nothing)
        await capture.catch_up()
        if (await Sweep(capture, capture.catch_up, nothing).run()).resumed:
            await Sweep(capture, capture.catch_up, nothing).run()
        await _confirm(connected.intake)


async def _confirm(intake: Intake) -> None:
    """Answer the suspicions whose grace ends soon."""
    until = intake.clock() + LONGEST_GRACE
    while True:
        await intake.confirm_due()
        due_at = await intake.store.next_suspicion(intake.rules.watch)
        if due_at is None or due_at > until:
            return
        await asyncio.sleep(max(due_at - intake.clock(), 1) / 1000)
