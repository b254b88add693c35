"""What would be sent now, and why: a sweep that only looks."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Literal

from cdc_sync.core.content import Content
from cdc_sync.core.diff import Cancel, Fuse, Queue, Unseen
from cdc_sync.core.outbox import Known, with_last_job
from cdc_sync.core.plan import ApplyResult, Batch, Before, content_of_gone, is_nameless, plan_batch
from cdc_sync.core.rows import Key, Observation, Reportable, Row, by_application, interpret, map_status
from cdc_sync.core.rules import StatusRules, WatchRules
from cdc_sync.pipeline.intake import resolved
from cdc_sync.pipeline.sweep_position import Marks
from cdc_sync.source import row_security
from cdc_sync.source.reading import Page, Reader
from cdc_sync.store.store import Store

PAGE = 2_000
_WINDOW = 20_000

Action = Literal["send", "adopt", "cancel", "skip", "confirm-deletion", "dead-letter"]


@dataclass(frozen=True, slots=True)
class Planned:
    """What the daemon would do with one application if it looked now.

    `remapped`: by the rules for statuses that held before, its row would have another one.
    """

    application_id: str | None
    action: Action
    kinds: tuple[str, ...]
    told: Content | None
    observed: Content | None
    reason: str | None
    remapped: bool = False


async def plan(
    reader: Reader,
    store: Store,
    rules: WatchRules,
    unseen: Unseen,
    clock: int,
    *,
    old: StatusRules | None = None,
    progressed: Callable[[], None] = lambda: None,
) -> AsyncIterator[Planned]:
    """Walk the table and the snapshot, and yield every difference; nothing is changed.

    Args:
        reader: the watch's table.
        store: what is known.
        rules: the watch's rules.
        unseen: what an application of which nothing is known would get: the baseline's answer before the baseline is
            done, afterwards that for new applications.
        clock: milliseconds since the epoch, the date of events whose rows give none.
        old: how labels became statuses until now, if that was otherwise.
        progressed: called at each page.
    """
    last = await store.highest_number()
    marks = Marks(last)
    after: Key | None = None
    while True:
        page = await reader.page(after, PAGE)
        progressed()
        for row, planned in await _plan_page(page, reader, store, rules, unseen=unseen, marks=marks):
            yield planned if old is None or row is None else replace(planned, remapped=_differs(row, rules, old))
        if page.last is None:
            break
        after = page.last
    for first in range(1, last + 1, _WINDOW):
        unmet = await store.unseen(rules.watch, marks.bitmap(), first, min(first + _WINDOW - 1, last))
        known = await store.known(rules.watch, unmet)
        progressed()
        if not known:
            continue
        read = await reader.by_key({before.key for before in known.values()}, doubting=True)
        still_there = {row.key for row in read.rows if is_nameless(interpret(row, rules, 0))}
        reason = "its row is gone"
        if read.hidden_by:
            reason = f"{reason}, or {row_security.described(read.hidden_by)}: it will be held"
        for application_id, before in known.items():
            if before.key in still_there:
                continue
            latest = before.latest
            observed = None if latest is None else content_of_gone(application_id, latest, rules, clock)
            yield Planned(application_id, "confirm-deletion", ("deleted",), before.told, observed, reason)


async def _plan_page(
    page: Page, reader: Reader, store: Store, rules: WatchRules, *, unseen: Unseen, marks: Marks
) -> list[tuple[Row | None, Planned]]:
    """What follows from a page's rows, and from which row."""
    rows = {row.key: row for row in page.rows}
    observations = [interpret(row, rules, page.at) for row in page.rows]
    ids = {each.application_id for each in observations if each.application_id is not None}
    known = await store.known(rules.watch, list(ids))
    marks.add(known.values())
    before = {id_: Before(each) for id_, each in known.items()}
    # As after the grace, which a preview has not.
    batch = Batch("deletion", page.at, unseen, observations)
    plan = plan_batch(rules, batch, before, Fuse())
    plans = [(observations, plan)]
    if plan.unresolved:
        found = by_application((await reader.by_application(plan.unresolved)).rows, plan.unresolved)
        rows |= {row.key: row for of_one in found.values() for row in of_one}
        together = [resolved(id_, page.at, of_one, rules) for id_, of_one in found.items()]
        canonical = [each.canonical for each in together if each.canonical is not None]
        again = replace(batch, observations=(), resolved=together)
        plans.append((canonical, plan_batch(rules, again, before, Fuse())))
    planned: list[tuple[Row | None, Planned]] = []
    for observed, plan in plans:
        skips = (Planned(skip.application_id, "skip", (), None, None, skip.reason) for skip in plan.skips)
        planned += [(None, each) for each in skips]
        of_ids = {each.application_id: each for each in observed}
        for result in plan.results:
            row = of_ids[result.application_id]
            planned.append((rows[row.key], _planned(result, row, known.get(result.application_id))))
    return planned


def _differs(row: Row, rules: WatchRules, old: StatusRules) -> bool:
    now, before = (map_status(each, row.status, deleted=row.deleted) for each in (rules.status, old))
    return now != before


def _planned(result: ApplyResult, row: Observation, known: Known | None) -> Planned:
    """A result for people; `row` is the one that says it."""
    told = None if known is None else known.told
    observed = with_last_job(row, known)
    content = observed.content if isinstance(observed, Reportable) else None
    match result.decision:
        case Queue(kinds):
            action: Action = "dead-letter" if result.state == "dead" else "send"
            refused = result.reason if result.state == "dead" else None
            return Planned(result.application_id, action, tuple(sorted(kinds)), told, content, refused)
        case Cancel():
            return Planned(result.application_id, "cancel", (), told, content, "undone before it was sent")
        case _:
            return Planned(result.application_id, "adopt", (), told, content, None)
