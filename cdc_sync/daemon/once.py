"""`run --once`: catches up, delivers what is due, and returns. For a cron job, a test, a first careful try."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cdc_sync.config import Config
from cdc_sync.core import events
from cdc_sync.core.events import Consumer, Handlers
from cdc_sync.core.failures import StoreError
from cdc_sync.core.replies import is_paused
from cdc_sync.daemon.leading import Leading
from cdc_sync.daemon.process import Process, opened_lead
from cdc_sync.daemon.tenants import Tenants
from cdc_sync.event_loop import ungrouped
from cdc_sync.store import Store
from cdc_sync.store.errors import store_error
from cdc_sync.store.lead import Lead, Standby


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
        StoreError: the store cannot be used, or the lead was lost.
    """
    calls: Counter[str] = Counter()

    def count(event: events.CallEnded | events.Decided) -> None:
        if isinstance(event, events.CallEnded) or event.outcome == "dead":
            calls[event.outcome] += 1

    counting: Handlers = {events.CallEnded: count, events.Decided: count}
    process = Process(config, [*consumers, lambda: counting], show, dry_run=dry_run)
    async with opened_lead(process, _insist_on_lead) as lead:
        lead.holding.add_done_callback(lambda _: process.over.set())
        with ungrouped(StoreError):
            return await _work(process, lead, calls)


async def _work(process: Process, lead: Lead, calls: Counter[str]) -> OnceResult:
    tenants, store = Tenants(process), lead.store
    config = await tenants.look_first(process.config, store)
    unasked, refused = tenants.found.unasked, tenants.found.refused
    if unasked and not config.watches:
        raise next(iter(unasked.values()))
    failed = await Leading(process, lead, config, tenants, process.over).work_once()
    counts = (await store.report.counts()).values()
    return OnceResult(
        calls,
        bool(failed or refused or unasked or calls["retry"] or calls["dead"]) or await _is_refused(store),
        pending=sum(of.pending for of in counts),
        held=sum(of.held for of in counts),
        dead=sum(of.dead for of in counts),
    )


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
