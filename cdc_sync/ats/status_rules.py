"""An edited section `status`, whose effect is measured at the start, before anything of it is sent.

A position keeps the rules that were used last. If the edit alone gives more applications another status than the fuse
lets change, everything new is held; the fuse alone would let the first ones pass. The new rules are saved last, so a
crash repeats the measurement.
"""

import json
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from functools import partial

from cdc_sync.ats.intake import Intake
from cdc_sync.ats.reading import Read
from cdc_sync.core.events import StatusRulesChanged
from cdc_sync.core.outbox import Known, completed
from cdc_sync.core.reasons import coded
from cdc_sync.core.rows import (
    Key,
    Observation,
    Reportable,
    Row,
    StatusRules,
    WatchRules,
    by_application,
    current,
    interpret,
    map_status,
)

STATUS_RULES = "status-rules"
"""The position with the rules from labels to statuses."""

_PAGE = 500


async def measure_edit(intake: Intake) -> None:
    """Measure the effect of changed status rules, and hold it if it is too large."""
    store, rules = intake.store, intake.rules
    before, now = (await store.capture.positions(rules.watch)).get(STATUS_RULES), to_text(rules.status)
    if before == now:
        return
    if before is not None:
        touched = await _touched(intake, StatusRules(**json.loads(before)))
        held = touched > rules.fuse.max_changes
        if held:
            await store.capture.blow_fuse(rules.watch, _why_held(touched), intake.clock())
        intake.observe(StatusRulesChanged(rules.watch, touched, held))
    await intake.place({STATUS_RULES: now})


def to_text(rules: StatusRules) -> str:
    """As the store keeps them: the same text for the same rules in any order."""
    fields = {"map": dict(rules.map), "unmapped": rules.unmapped, "deleted": rules.deleted}
    return json.dumps(fields, ensure_ascii=False, sort_keys=True)


def _why_held(touched: int) -> str:
    return coded(
        "remapped",
        "the section status has changed, and %(number)s applications would be sent with another status",
        number=touched,
    )


async def _touched(intake: Intake, before: StatusRules) -> int:
    """How many applications the edit alone gives another status than HelloWork acknowledged."""
    touched = 0
    after: Key | None = None
    while True:
        page = await intake.reader.page(after, _PAGE)
        touched += await _touched_of(intake, page, before)
        if page.last is None:
            return touched
        after = page.last


async def _touched_of(intake: Intake, page: Read, before: StatusRules) -> int:
    """How many of them count at a row of this page."""
    rules = intake.rules
    counts = partial(_counts, now=rules.status, before=before)
    rows = list(filter(counts, page.rows))
    ids = {row.key: interpret(row, rules, page.at).application_id for row in rows}
    known = await intake.store.capture.known(rules.watch, [id_ for id_ in ids.values() if id_ is not None])
    if rules.first_status != "send":
        # Nothing would be sent of the others.
        rows = [row for row in rows if ids[row.key] in known]
        ids = {row.key: ids[row.key] for row in rows}
    canonical = filter(counts, await _canonical(intake, rows, ids, known, counts))
    return sum(_is_touched(interpret(row, rules, page.at), rules, known) for row in canonical)


async def _canonical(
    intake: Intake,
    rows: Sequence[Row],
    ids: Mapping[Key, str | None],
    known: Mapping[str, Known],
    counts: Callable[[Row], bool],
) -> list[Row]:
    """The canonical row of each application that counts at one of these rows.

    An application counts once: at the row that it was last known by, if that one counts, else at its canonical one.
    """
    times = Counter(ids.values())
    last: dict[str | None, Key] = {id_: before.key for id_, before in known.items()}
    sure = [row for row in rows if times[ids[row.key]] == 1 and row.key == last.get(ids[row.key])]
    doubtful = {id_ for id_ in ids.values() if id_ is not None} - {ids[row.key] for row in sure}
    read = await intake.reader.by_application(doubtful)
    found = by_application(read.rows, doubtful)
    return [*sure, *(best for id_, of_one in found.items() if (best := _counting(of_one, last.get(id_), ids, counts)))]


def _counting(rows: Sequence[Row], last: Key | None, at: Container[Key], counts: Callable[[Row], bool]) -> Row | None:
    """The canonical one of an application's rows, if it counts at one of these keys."""
    best = current(rows)
    if best is None:
        return None
    place = last if last in {row.key for row in rows if counts(row)} else best.key
    return best if place in at else None


def _is_touched(observation: Observation, rules: WatchRules, known: Mapping[str, Known]) -> bool:
    """Whether a row would be sent with another status than HelloWork acknowledged."""
    before = known.get(observation.application_id or "")
    row = completed(observation, before)
    if not isinstance(row, Reportable) or row.refused is not None:
        return False
    if before is None or before.snapshot is None:
        return rules.first_status == "send"
    return row.content.status != before.snapshot.status


def _counts(row: Row, now: StatusRules, before: StatusRules) -> bool:
    """Whether a row is in scope, and the edit gives it another status."""
    return row.in_scope and _maps(row, now) != _maps(row, before)


def _maps(row: Row, rules: StatusRules) -> object:
    return map_status(rules, row.status, deleted=row.deleted)
