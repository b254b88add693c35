"""`cdc-sync plan`: the daemon's next calls, and why.

The daemon's own steps work on a copy of the store: each watch begins, sweeps and confirms its deletions, without their
grace. What the copy's outbox has then would be sent.
"""

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Annotated, Any, get_args

import typer

from cdc_sync.admin.story import facts
from cdc_sync.ats.beginning import begin, connect
from cdc_sync.ats.deletions import Deletions
from cdc_sync.ats.errors import SourceError
from cdc_sync.ats.intake import Intake
from cdc_sync.ats.parts import WatchParts
from cdc_sync.ats.rows_elsewhere import OtherWatches
from cdc_sync.ats.sweep import Sweep
from cdc_sync.cli.console import print_table, print_text
from cdc_sync.cli.context import JsonOption, WatchOption, chosen, configured, print_json, say, with_tenants
from cdc_sync.config import Config
from cdc_sync.core.content import Content, iso
from cdc_sync.core.diff import transition
from cdc_sync.core.events import BaselineDone, DeletionsWait, Event, StatusRulesChanged
from cdc_sync.core.outbox import Entry, EntryState, Skip
from cdc_sync.core.replies import is_paused
from cdc_sync.core.watch_names import listed
from cdc_sync.daemon.watching import make_database, make_parts
from cdc_sync.store import Store
from cdc_sync.store.errors import AnotherDatabaseError
from cdc_sync.store.opening import leading_copy
from cdc_sync.store.operation import EXAMPLES

_ACTIONS = {"pending": "send", "held": "held", "dead": "dead-letter"}
"""By the entry's state."""

_LATER = "send later"

_SHOWN = 50
"""Most listed groups."""

_MOST = 1_000_000

_LAST_TIME = 2**62
"""After every due time."""


async def plan(
    context: typer.Context,
    watch: WatchOption = None,
    *,
    limit: Annotated[int | None, typer.Option(min=1, help="List so many applications one by one.")] = None,
    every: Annotated[bool, typer.Option("--all", help="List all of them one by one.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what would be sent now, held, or sent later, and why. Changes nothing; works beside the daemon."""
    config = await with_tenants(configured(context), watch)
    rehearsal = _Rehearsal()
    await rehearsal.run(config, chosen(config, watch))
    items, most = rehearsal.items, None if every else limit
    for error, failed in rehearsal.failed.items():
        say(f"{listed(failed)}: {error}", err=True)
    if as_json:
        print_json(items[:most])
    else:
        totals = Counter(item["when"] for item in items).most_common()
        print_text("plan", notes=dict.fromkeys(rehearsal.notes), items=items, totals=totals)
        _show([[item] for item in items[:most]] if every or limit else _grouped(items), len(items))
    if rehearsal.failed:
        raise typer.Exit(1)


def _grouped(items: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """What happens to many applications alike, the largest group first."""
    groups = defaultdict[tuple[str, ...], list[dict[str, Any]]](list)
    for item in items:
        groups[item["watch"], item["when"], item["transition"], item["reason"]].append(item)
    return sorted(groups.values(), key=len, reverse=True)[:_SHOWN]


def _show(groups: list[list[dict[str, Any]]], number: int) -> None:
    columns = ("watch", "number", "action", "transition", "because", "for example")
    more = number - sum(map(len, groups))
    if groups:
        print_table(columns, map(_cells, groups), f"… and {more} more (--all lists every one)" if more else None)


def _cells(group: list[dict[str, Any]]) -> tuple[object, ...]:
    first = group[0]
    because = first["reason"]
    if first["when"] == _LATER:
        because = because or f"the first at {min(item['due_at'] for item in group)}"
    ids = ", ".join(item["application_id"] or "?" for item in group[:EXAMPLES]) + ", …" * (len(group) > EXAMPLES)
    return first["watch"], len(group), first["when"], first["transition"], because, ids


class _Rehearsal:
    """The daemon's work on a copy of the store.

    Attributes:
        items: what would be sent or held, or cannot be reported.
        notes: for people.
        failed: the watches that could not be planned, by their error, where there are several databases.
    """

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self.failed = defaultdict[str, list[str]](list)

    async def run(self, config: Config, names: Collection[str]) -> None:
        """Do the work of these watches.

        Raises:
            SourceError, AnotherDatabaseError: the only database cannot be used.
            StoreError: the store cannot be used.
        """
        async with leading_copy(config) as lead:
            store = lead.store
            databases = {name: make_database(config, name, store) for name in config.all_databases}
            others = OtherWatches()
            others.use(config, databases)
            began, paused = store.driver.clock.for_people(), await store.operation.paused()
            self.notes += [f"sending to {each or 'all endpoints'} is paused by an operator" for each in sorted(paused)]
            for database in databases.values():
                its = [name for name in names if databases[config.database_name(name)] is database]
                all_parts = [make_parts(config, name, database, self._note, others, dry_run=True) for name in its]
                for watch in await self._work(all_parts):
                    self.items += await _items(store, watch, began, paused)

    async def _work(self, all_parts: Sequence[WatchParts]) -> list[str]:
        """Do the work of a database's watches; returns the names of those whose work is done."""
        intakes, done, failure = list[Intake](), list[str](), None
        async with AsyncExitStack() as stack:
            # An error that left the stack would let each watch wait for the reason why its sessions are lost.
            try:
                for parts in all_parts:
                    with self._may_fail(parts):
                        intakes.append(await stack.enter_async_context(_captured(parts)))
                for intake in intakes:
                    with self._may_fail(intake.parts):
                        await _answer_deletions(intake)
                        done.append(intake.parts.name)
            except (SourceError, AnotherDatabaseError) as error:
                failure = error
        if failure is not None:
            raise failure
        return done

    @contextmanager
    def _may_fail(self, parts: WatchParts) -> Iterator[None]:
        """Around a watch's work: of several databases, one that fails keeps no other back."""
        try:
            yield
        except (SourceError, AnotherDatabaseError) as error:
            if parts.database.is_only:
                raise
            self.failed[str(error)].append(parts.name)

    def _note(self, event: Event) -> None:
        match event:
            case BaselineDone() if number := event.known - event.queued:
                what = f"the baseline is not done; it would adopt {number} applications without a call."
                self.notes.append(f"{event.watch}: {what}")
            case StatusRulesChanged():
                more = " More than fuse.max_changes: all of them would be held for a person." if event.held else ""
                self.notes.append(
                    f"{event.watch}: the section status has changed since the daemon captured last: {event.touched} "
                    f"applications would get another status for that reason alone.{more}"
                )
            case DeletionsWait():
                self.notes.append(f"{event.watch}: deletions wait: {event.message}")


@asynccontextmanager
async def _captured(parts: WatchParts) -> AsyncIterator[Intake]:
    """Do what the daemon does with a watch, but for its deletions; within, other watches ask its table as it stands."""
    if parts.database.failure is not None:
        raise parts.database.failure.with_traceback(None)  # one try for all of its watches
    async with connect(parts) as intake:
        capture = await begin(intake, "")
        await capture.catch_up()
        await Sweep(capture, capture.catch_up).run()
        yield intake


async def _answer_deletions(intake: Intake) -> None:
    """Answer every suspected deletion, also those whose grace has not ended."""
    parts, at_once = intake.parts, intake.parts.steps.confirmed
    suspected = await parts.store.capture.due_suspicions(parts.name, _LAST_TIME, _MOST, horizon=0)
    for first in range(0, len(suspected), at_once):
        await Deletions(intake).answer(suspected[first : first + at_once])


async def _items(store: Store, watch: str, began: int, paused: Collection[str]) -> list[dict[str, Any]]:
    """What a watch's outbox has, with the dead letters since `began`, and the rows that cannot be reported."""
    pending, held, dead = [await store.report.entries(state, watch, _MOST) for state in get_args(EntryState)]
    entries = [*pending, *held, *(each for each in dead if each.queued_at >= began)]
    known = await store.capture.known(watch, [each.application_id for each in entries])
    now, skips = store.driver.clock.for_people(), await store.report.skipped(watch, _MOST)
    news = [_item(each, known[each.application_id].snapshot, now, paused) for each in entries]
    return news + [_skipped(watch, skip) for skip in skips]


def _skipped(watch: str, skip: Skip) -> dict[str, Any]:
    about = {"watch": watch, "application_id": skip.application_id, "action": "skip", "when": "skip"}
    return {
        **about,
        "transition": None,
        "kinds": [],
        "told": None,
        "observed": None,
        "reason": skip.reason,
        "due_at": None,
    }


def _item(entry: Entry, snapshot: Content | None, now: int, paused: Collection[str]) -> dict[str, Any]:
    action = when = _ACTIONS[entry.state]
    if action == "send" and is_paused(paused, entry.content.endpoint):
        when = "send once resumed"
    elif action == "send" and entry.due_at > now:
        when = _LATER
    return {
        "watch": entry.watch,
        "application_id": entry.application_id,
        "action": action,
        "when": when,
        "transition": transition(snapshot, entry.content),
        "kinds": sorted(entry.kinds),
        "told": snapshot and facts(snapshot),
        "observed": facts(entry.content),
        "reason": entry.reason,
        "due_at": iso(entry.due_at) if action == "send" else None,
    }
