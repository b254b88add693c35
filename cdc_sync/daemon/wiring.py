"""The parts of a run as the configuration wants them: the store, HelloWork's API, the databases and their watches."""

from collections import defaultdict
from collections.abc import Callable, Collection
from contextlib import AbstractAsyncContextManager, nullcontext, suppress

from cdc_sync.ats.database import Database, Others, WatchParts
from cdc_sync.config import Config
from cdc_sync.config.models import (
    accounts,
    allowed_hosts,
    built_urls,
    expected_endpoints,
    retry_policy,
    sender_horizon,
    watch_rules,
)
from cdc_sync.core import events
from cdc_sync.core.batch import NO_CALLS, Calls
from cdc_sync.core.content import request
from cdc_sync.core.events import Emit
from cdc_sync.core.failures import StoreError
from cdc_sync.core.outbox import Entry
from cdc_sync.core.replies import Reply
from cdc_sync.core.visible import visible, visible_json
from cdc_sync.core.watch_names import MOST_LISTED, SEPARATOR
from cdc_sync.delivery.client import Client
from cdc_sync.delivery.endpoints import SenderSettings
from cdc_sync.delivery.sender import Sender
from cdc_sync.store import Store, opening
from cdc_sync.store.lead import Lead, StandingBy
from cdc_sync.store.opening import leading_copy

LOOK = 1.0
"""Seconds between reads of the store's pauses."""


class Rehearsal:
    """HelloWork in a dry run: `show` gets each call as text; all count as acknowledged."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show

    async def call(self, entry: Entry) -> tuple[Reply, str]:
        """See `delivery.client.Caller`."""
        kinds = ", ".join(sorted(entry.kinds)) or "resend"
        body = visible_json(request(entry.application_id, entry.content)[0].decode())
        self._show(f"would POST {visible(entry.content.url)}\n           {body}\n           because: {kinds}")
        return Reply(status=200), ""


def leading(config: Config, emit: Emit, standing_by: StandingBy, *, dry_run: bool) -> AbstractAsyncContextManager[Lead]:
    """The daemon's lead of its store; for a dry run of a temporary copy.

    While this thread waits, the one that upgrades an SQLite store calls `emit`.

    Raises:
        StoreError: the store cannot be used.
    """
    if dry_run:
        return leading_copy(config)
    return opening.leading(config, standing_by, lambda seconds: emit(events.StoreUpgrading(seconds)))


def opened_caller(
    config: Config, show: Callable[[str], None], *, dry_run: bool
) -> AbstractAsyncContextManager[Client | Rehearsal]:
    """HelloWork's API; for a dry run a `Rehearsal`."""
    return nullcontext(Rehearsal(show)) if dry_run else make_client(config)


def make_client(config: Config) -> Client:
    """HelloWork's API."""
    return Client(accounts(config), config.hellowork.timeout.total_seconds(), config.hellowork.concurrency)


def sender_settings(config: Config) -> SenderSettings:
    """The sender's settings."""
    return SenderSettings(
        concurrency=config.hellowork.concurrency,
        rate=config.hellowork.rate_limit,
        policy=retry_policy(config),
        allowed=allowed_hosts(config),
        built=built_urls(config),
        horizon=sender_horizon(config),
        accounts=frozenset(accounts(config)),
        expected=expected_endpoints(config),
    )


def make_sender(config: Config, lead: Lead, caller: Client | Rehearsal, watches: Collection[str], emit: Emit) -> Sender:
    """The sender of a leader; it sends entries of these watches, which may change: see `Sender.recheck`."""
    store = lead.store
    return Sender(
        store.delivery,
        caller,
        sender_settings(config),
        emit,
        store.driver.clock,
        may_begin=lead.may_call,
        may_send=watches.__contains__,
    )


def make_database(config: Config, name: str, store: Store) -> Database:
    """A database of the ATS, not connected yet."""
    of, section, is_only = config.all_databases[name], config.section_of(name), len(config.all_databases) == 1
    return Database(of.dsn.get_secret_value(), store, of.pool, name, section, is_only=is_only)


def make_parts(
    config: Config,
    name: str,
    database: Database,
    observe: Emit,
    others: Others,
    *,
    dry_run: bool,
    calls: Calls = NO_CALLS,
) -> WatchParts:
    """A watch's parts."""
    return WatchParts(
        name=name,
        watch=config.watches[name],
        rules=watch_rules(config, name),
        database=database,
        observe=observe,
        clock=database.store.driver.clock,
        calls=calls,
        others=others,
        dry_run=dry_run,
    )


# Capture and delivery report a store that fails.


async def follow_pauses(sender: Sender, store: Store) -> bool:
    """Apply the operators' pauses; returns whether they could be read."""
    with suppress(StoreError):
        sender.pause(await store.operation.paused())
        return True
    return False


async def follow_requests(sender: Sender, store: Store) -> None:
    """Have the sender do what an operator's request has changed."""
    await follow_pauses(sender, store)
    sender.look()


async def known_watches(store: Store) -> Collection[str]:
    """The watches in the store; none if it cannot be read."""
    with suppress(StoreError):
        return (await store.report.counts()).keys()
    return ()


async def note_configured(config: Config, store: Store) -> None:
    """Save the names of watches and accounts, for commands."""
    with suppress(StoreError):
        await store.delivery.note_configured(config.watches, accounts(config))


async def report_unconfigured(config: Config, store: Store, observe: Emit, besides: Collection[str]) -> None:
    """Report the watches in the store that are no longer configured, except those in `besides`, and such accounts.

    Many tenants of a template are one report.
    """
    found: dict[str, list[events.WatchUnconfigured]] = defaultdict(list)
    with suppress(StoreError):  # `check` and `status` list the watches too
        for one in await store.report.unconfigured({*config.watches, *besides}):
            template, is_tenant, _ = one.watch.partition(SEPARATOR)
            found[f"{template}{SEPARATOR}%" if is_tenant else one.watch].append(one)
        if waiting := await store.delivery.waiting():
            observe(events.AccountsUnconfigured(tuple(sorted(waiting)), sum(waiting.values())))
    for name, several in found.items():
        if len(several) <= MOST_LISTED:
            for one in several:
                observe(one)
            continue
        of_all = [sum(getattr(one, of) for one in several) for of in ("known", "pending", "held", "dead", "suspected")]
        observe(events.WatchUnconfigured(f"{name} ({len(several)} watches)", *of_all))
