"""What would be sent now, and why: a sweep that only looks."""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from cdc_sync.core.content import Content
from cdc_sync.core.diff import Cancel, Fuse, Queue, Unseen
from cdc_sync.core.outbox import EntryState, Known, with_last_job
from cdc_sync.core.plan import ApplyResult, Batch, BatchPlan, Before, Resolved, is_nameless, plan_batch
from cdc_sync.core.rows import Key, Reportable, Row, by_application, interpret, map_status
from cdc_sync.core.rules import StatusRules, WatchRules
from cdc_sync.pipeline.intake import resolved
from cdc_sync.pipeline.sweep_position import Marks
from cdc_sync.source import row_security
from cdc_sync.source.reading import Page, Reader
from cdc_sync.store.store import Store

PAGE = 2_000
_WINDOW = 20_000

Action = Literal["send", "held", "adopt", "cancel", "skip", "confirm-deletion", "dead-letter"]

_WHOLE = Fuse()


@dataclass(frozen=True, slots=True)
class Planned:
    """What the daemon would do with one application if it looked now.

    Attributes:
        application_id: which; None: of a row that has no id.
        action: what is done with it.
        kinds: why it is news.
        told: what HelloWork knows.
        observed: what it would be sent.
        reason: why it is held, skipped, given up or cancelled.
        due_at: when it is sent, after its settle time, in milliseconds since the epoch.
        remapped: by the rules for statuses that held before, its row would have another one.
    """

    application_id: str | None
    action: Action
    kinds: tuple[str, ...]
    told: Content | None
    observed: Content | None
    reason: str | None
    due_at: int | None = None
    remapped: bool = False


async def plan(
    reader: Reader,
    store: Store,
    rules: WatchRules,
    unseen: Unseen,
    clock: int,
    *,
    fuse: Fuse = _WHOLE,
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
        fuse: the watch's fuse; everything is counted as if it were captured now.
        old: how labels became statuses until now, if that was otherwise.
        progressed: called at each page.
    """
    last = await store.highest_number()
    preview = _Preview(reader, store, rules, unseen, Marks(last), fuse)
    after: Key | None = None
    while True:
        page = await reader.page(after, PAGE)
        progressed()
        for row, planned in await preview.of_page(page):
            yield planned if old is None or row is None else replace(planned, remapped=_differs(row, rules, old))
        if page.last is None:
            break
        after = page.last
    for first in range(1, last + 1, _WINDOW):
        unmet = await store.unseen(rules.watch, preview.marks.bitmap(), first, min(first + _WINDOW - 1, last))
        before = await store.before(rules.watch, unmet)
        progressed()
        if before:
            for planned in await preview.of_gone(before, clock):
                yield planned


@dataclass(slots=True)
class _Preview:
    """One walk; `fuse` is the watch's, with what was counted so far."""

    reader: Reader
    store: Store
    rules: WatchRules
    unseen: Unseen
    marks: Marks
    fuse: Fuse

    async def of_page(self, page: Page) -> list[tuple[Row | None, Planned]]:
        """What follows from a page's rows, and from which row."""
        rows = {row.key: row for row in page.rows}
        observations = [interpret(row, self.rules, page.at) for row in page.rows]
        ids = {each.application_id for each in observations if each.application_id is not None}
        before = await self.store.before(self.rules.watch, list(ids))
        self.marks.add(each.known for each in before.values())
        plan = self._plan(before, observations=observations)
        plans = [(observations, plan)]
        if plan.unresolved:
            found = by_application((await self.reader.by_application(plan.unresolved)).rows, plan.unresolved)
            rows |= {row.key: row for of_one in found.values() for row in of_one}
            together = [resolved(id_, page.at, of_one, self.rules) for id_, of_one in found.items()]
            canonical = [each.canonical for each in together if each.canonical is not None]
            plans.append((canonical, self._plan(before, resolved=together)))
        planned: list[tuple[Row | None, Planned]] = []
        for observed, plan in plans:
            skips = (Planned(skip.application_id, "skip", (), None, None, skip.reason) for skip in plan.skips)
            planned += [(None, each) for each in skips]
            of_ids, due = {each.application_id: each for each in observed}, self._due(plan)
            for result in plan.results:
                row = of_ids[result.application_id]
                known = before[result.application_id].known if result.application_id in before else None
                observed_now = with_last_job(row, known)
                content = observed_now.content if isinstance(observed_now, Reportable) else None
                planned.append((rows[row.key], _planned(result, known, content, due)))
        return planned

    async def of_gone(self, before: Mapping[str, Before], clock: int) -> list[Planned]:
        """What follows for applications of which no row was met; a fresh read after the grace decides about each."""
        read = await self.reader.by_key({each.known.key for each in before.values()}, doubting=True)
        still_there = {row.key for row in read.rows if is_nameless(interpret(row, self.rules, 0))}
        gone = [Resolved(id_, clock, None) for id_, each in before.items() if each.known.key not in still_there]
        doubt = row_security.described(read.hidden_by) if read.hidden_by else None
        plan = self._plan(before, resolved=gone, doubt=doubt)
        contents = {each.application_id: each.content for each in plan.enqueued}
        found = [
            _planned(result, before[result.application_id].known, contents.get(result.application_id), {})
            for result in plan.results
        ]
        confirmed = "its row is gone; a fresh read confirms it first"
        return [
            replace(each, action="confirm-deletion", reason=confirmed) if each.action == "send" else each
            for each in found
        ]

    def _plan(self, before: Mapping[str, Before], **found: Any) -> BatchPlan:
        # As after the grace, which a preview has not.
        clock = self.store.clock
        batch = Batch("deletion", clock(), self.unseen, shift=clock.shift, **found)
        plan = plan_batch(self.rules, batch, before, self.fuse)
        self.fuse = plan.fuse or self.fuse
        return plan

    def _due(self, plan: BatchPlan) -> dict[str, int]:
        """When the entries of a plan are sent, by the clock that people read."""
        return {each.application_id: each.due_at + self.store.clock.shift for each in plan.enqueued}


def _planned(result: ApplyResult, known: Known | None, content: Content | None, due: Mapping[str, int]) -> Planned:
    """A result for people; `content` is what is observed."""
    told, id_ = None if known is None else known.told, result.application_id
    match result.decision:
        case Queue(kinds):
            action = _ACTIONS[result.state or "pending"]
            due_at = due.get(id_) if action == "send" else None
            return Planned(id_, action, tuple(sorted(kinds)), told, content, result.reason, due_at)
        case Cancel():
            return Planned(id_, "cancel", (), told, content, "undone before it was sent")
        case _:
            return Planned(id_, "adopt", (), told, content, None)


_ACTIONS: Mapping[EntryState, Action] = {"pending": "send", "held": "held", "dead": "dead-letter"}


def _differs(row: Row, rules: WatchRules, old: StatusRules) -> bool:
    now, before = (map_status(each, row.status, deleted=row.deleted) for each in (rules.status, old))
    return now != before
