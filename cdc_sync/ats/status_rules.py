"""An edited section `status`, whose effect is measured at the start, before anything of it is sent.

A position keeps the rules that were used last. If the edit alone gives more applications another status than the fuse
lets change, everything new is held; the fuse alone would let the first ones pass. The new rules are saved last, so a
crash repeats the measurement.
"""

import json

from cdc_sync.ats.intake import Intake
from cdc_sync.ats.reading import Read
from cdc_sync.core.events import StatusRulesChanged
from cdc_sync.core.outbox import Known, completed
from cdc_sync.core.reasons import coded
from cdc_sync.core.rows import Key, Observation, Reportable, Row, StatusRules, WatchRules, interpret, map_status

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
            why = coded(
                "remapped",
                "the section status has changed, and %(number)s applications would be sent with another status",
                number=touched,
            )
            await store.capture.blow_fuse(rules.watch, why, intake.clock())
        intake.observe(StatusRulesChanged(rules.watch, touched, held))
    await intake.place({STATUS_RULES: now})


def to_text(rules: StatusRules) -> str:
    """As the store keeps them: the same text for the same rules in any order."""
    fields = {"map": dict(rules.map), "unmapped": rules.unmapped, "deleted": rules.deleted}
    return json.dumps(fields, ensure_ascii=False, sort_keys=True)


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
    """How many of them are represented by a row of this page; unknown ones, if they are sent, by any of their rows."""
    rules = intake.rules
    remapped = [row for row in page.rows if row.in_scope and _status(row, rules.status) != _status(row, before)]
    rows = [interpret(row, rules, page.at) for row in remapped]
    known = await intake.store.capture.known(rules.watch, [id_ for row in rows if (id_ := row.application_id)])
    return sum(_is_touched(row, rules, known.get(row.application_id or "")) for row in rows)


def _status(row: Row, rules: StatusRules) -> object:
    return map_status(rules, row.status, deleted=row.deleted)


def _is_touched(observation: Observation, rules: WatchRules, before: Known | None) -> bool:
    """Whether a row would be sent with another status than HelloWork acknowledged."""
    row = completed(observation, before)
    if not isinstance(row, Reportable) or row.refused is not None:
        return False
    if before is None:
        return rules.first_status == "send"
    return before.key == row.key and (before.snapshot is None or row.content.status != before.snapshot.status)
