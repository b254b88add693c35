"""An edited section `status`, whose effect is measured at the start, before anything of it is sent.

A position keeps the rules that were used last. If the edit alone gives more applications another status than the fuse
lets change, everything new is held; the fuse alone would let the first ones pass. The new rules are saved last, so a
crash repeats the measurement.
"""

import json

from cdc_sync.ats.intake import Intake
from cdc_sync.core.events import StatusRulesChanged
from cdc_sync.core.reasons import coded
from cdc_sync.core.rows import Key, Reportable, Row, StatusRules, map_status

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
    rules, touched = intake.rules, 0
    after: Key | None = None
    while True:
        page = await intake.reader.page(after, _PAGE)
        statuses = {
            each.application_id: each.content.status
            for row, each in zip(page.rows, intake.interpreted(page), strict=True)
            if isinstance(each, Reportable) and each.refused is None and _maps(row, rules.status) != _maps(row, before)
        }
        snapshots = await _snapshots(intake, list(statuses))
        touched += sum(
            status != snapshots[id_] if id_ in snapshots else rules.first_status == "send"
            for id_, status in statuses.items()
        )
        if page.last is None:
            return touched
        after = page.last


def _maps(row: Row, rules: StatusRules) -> object:
    return map_status(rules, row.status, deleted=row.deleted)


async def _snapshots(intake: Intake, application_ids: list[str]) -> dict[str, str]:
    """The acknowledged statuses of those of these applications that have one."""
    known = await intake.store.capture.known(intake.rules.watch, application_ids)
    return {id_: of.snapshot.status for id_, of in known.items() if of.snapshot is not None}
