"""An edited section `status`: noticed at the start, and measured before anything of it is sent.

The store keeps, as one of the watch's positions, how labels became statuses when the watch was worked on last. If that
is not how they do now, the whole table is looked at once, and it is counted how many applications would be told
another status only because of the edit. More than the fuse believes at once are all held, the first ones too: the fuse
by itself would let `max_changes` of them out before it blows. Nothing is captured meanwhile, so nothing of the edit is
sent before its size is known.

Dying in between, it is looked at again: the new rules are kept last. A fuse that was blown for them stays blown.
"""

import json
from collections.abc import AsyncIterator, Callable, Mapping

from cdc_sync.core.observations import StatusRulesChanged
from cdc_sync.core.rules import StatusRules, WatchRules
from cdc_sync.pipeline.intake import Intake
from cdc_sync.pipeline.plan import Planned, plan

POSITION = "status-rules"


def to_text(rules: StatusRules) -> str:
    """As the store keeps them; the same for the same rules, in whatever order they are written."""
    fields = {"map": dict(rules.map), "unmapped": rules.unmapped, "deleted": rules.deleted}
    return json.dumps(fields, ensure_ascii=False, sort_keys=True)


def before(positions: Mapping[str, str], rules: WatchRules) -> StatusRules | None:
    """How labels became statuses until now; None if as they do now, or if nobody knows."""
    text = positions.get(POSITION)
    if text is None or text == to_text(rules.status):
        return None
    return StatusRules(**json.loads(text))


def is_told_otherwise(planned: Planned) -> bool:
    """Whether it is a call that is made only because of the edit."""
    return planned.remapped and planned.action in {"send", "held"}


def reason(touched: int) -> str:
    """Why everything is held after an edit that is too large."""
    return f"the section status has changed, and {touched} applications would be told another status"


async def notice(intake: Intake, progressed: Callable[[], None]) -> None:
    """Look whether the rules are others than before, and if so, measure what that means and hold what is too much.

    `progressed` is called as the table is gone through.

    Raises:
        SourceError: the table cannot be read.
        StoreError: the store cannot be read or written.
    """
    store, rules = intake.store, intake.rules
    positions = await store.positions(rules.watch)
    old = before(positions, rules)
    if old is not None:
        touched = 0
        async for planned in _plans(intake, old, progressed):
            touched += is_told_otherwise(planned)
        held = touched > rules.fuse.max_changes
        if held:
            await store.blow_fuse(rules.watch, reason(touched), intake.clock())
        intake.observe(StatusRulesChanged(rules.watch, touched, held))
    if positions.get(POSITION) != to_text(rules.status):
        await intake.place({POSITION: to_text(rules.status)})


def _plans(intake: Intake, old: StatusRules, progressed: Callable[[], None]) -> AsyncIterator[Planned]:
    rules, now = intake.rules, intake.store.clock.for_people()
    return plan(intake.reader, intake.store, rules, rules.first_status, now, old=old, progressed=progressed)
