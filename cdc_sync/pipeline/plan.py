"""What would be sent now, and why: a sweep that only looks."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Literal

from cdc_sync.core.content import Content
from cdc_sync.core.diff import Adopt, Cancel, Queue, Unseen, decide
from cdc_sync.core.outbox import Known, with_last_job
from cdc_sync.core.rows import Key, Reportable, Row, Unreportable, current, interpret, status_of
from cdc_sync.core.rules import WatchRules
from cdc_sync.core.status import StatusRules
from cdc_sync.pipeline.intake import content_of_gone, nameless
from cdc_sync.pipeline.marks import Marks
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
        for row, planned in await _judge_page(page, reader, store, rules, unseen=unseen, marks=marks):
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
        still_there = nameless(read.rows, rules)
        reason = "its row is gone"
        if read.hidden_by:
            reason = f"{reason}, or {row_security.described(read.hidden_by)}: it will be held"
        for application_id, before in known.items():
            if before.key in still_there:
                continue
            latest = before.latest
            observed = None if latest is None else content_of_gone(application_id, latest, rules, clock)
            yield Planned(application_id, "confirm-deletion", ("deleted",), before.told, observed, reason)


async def _judge_page(
    page: Page, reader: Reader, store: Store, rules: WatchRules, *, unseen: Unseen, marks: Marks
) -> list[tuple[Row | None, Planned]]:
    """What follows from a page's rows, and from which row."""
    by_id: dict[str, list[Row]] = {}
    readings = [interpret(row, rules, page.at) for row in page.rows]
    for row, reading in zip(page.rows, readings, strict=True):
        application_id = getattr(reading, "application_id", None)
        if application_id is not None:
            by_id.setdefault(application_id, []).append(row)
    known = await store.known(rules.watch, list(by_id))
    found: list[tuple[Row | None, Planned]] = [
        (None, Planned(reading.application_id, "skip", (), None, None, reading.reason))
        for reading in (with_last_job(reading, known.get(reading.application_id or "")) for reading in readings)
        if isinstance(reading, Unreportable)
    ]
    marks.add(known.values())
    moved = [id_ for id_, rows in by_id.items() if len(rows) > 1 or (id_ in known and rows[0].key != known[id_].key)]
    if moved:
        by_id |= await _all_rows(reader, rules, moved)
    for application_id, rows in by_id.items():
        best = current(rows)
        said = None if best is None else with_last_job(interpret(best, rules, page.at), known.get(application_id))
        if isinstance(said, Reportable):
            planned = _judge(said, known.get(application_id), unseen)
            if planned is not None:
                found.append((best, planned))
    return found


def _differs(row: Row, rules: WatchRules, old: StatusRules) -> bool:
    return status_of(row, rules.status) != status_of(row, old)


async def _all_rows(reader: Reader, rules: WatchRules, ids: list[str]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in (await reader.by_application(ids)).rows:
        application_id = getattr(interpret(row, rules, 0), "application_id", None)
        if application_id in ids:
            found.setdefault(application_id, []).append(row)
    return found


def _judge(reading: Reportable, before: Known | None, unseen: Unseen) -> Planned | None:
    told = None if before is None else before.told
    waiting = None if before is None else before.waiting
    application_id, content = reading.application_id, reading.content
    match decide(content, told, waiting, unseen):
        case Adopt():
            return Planned(application_id, "adopt", (), told, content, None)
        case Cancel():
            return Planned(application_id, "cancel", (), told, content, "undone before it was sent")
        case Queue(kinds):
            action: Action = "dead-letter" if reading.refused else "send"
            return Planned(application_id, action, tuple(sorted(kinds)), told, content, reading.refused)
        case _:
            return None
