"""A preview: what the daemon would send now, and why. A sweep that changes nothing.

At the start it also measures an edited section `status`, whose last rules a position keeps. Above the fuse's
`max_changes` all are held; the fuse alone would let the first ones pass. The new rules are saved last, so a crash
repeats the measurement.
"""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from cdc_sync.ats.deletions import former_rows
from cdc_sync.ats.intake import Intake, resolved
from cdc_sync.ats.reading import Page
from cdc_sync.ats.sweep import mark, size_of, unmet_records
from cdc_sync.core.batch import NOTHING, Batch, Resolved, States, plan_batch
from cdc_sync.core.content import Content
from cdc_sync.core.diff import Enqueue, Fuse, Unseen
from cdc_sync.core.events import StatusRulesChanged
from cdc_sync.core.outbox import EntryState, Known
from cdc_sync.core.reasons import coded
from cdc_sync.core.rows import Key, Row, StatusRules, by_application, map_status

STATUS_RULES = "status-rules"
"""The position with the rules from labels to statuses."""

PAGE = 500

Action = Literal["send", "held", "adopt", "cancel", "skip", "confirm-deletion", "dead-letter"]
_ACTIONS: Mapping[EntryState, Action] = {"pending": "send", "held": "held", "dead": "dead-letter"}


@dataclass(frozen=True, slots=True)
class Planned:
    """What the daemon would do with one application now.

    Attributes:
        application_id: None for a row without id.
        observed: what would be sent.
        reason: why it is held, skipped, dead-lettered or cancelled.
        due_at: in milliseconds since the epoch.
        remapped: whether the earlier status rules give its row another status.
    """

    application_id: str | None
    action: Action
    kinds: tuple[str, ...]
    snapshot: Content | None
    observed: Content | None
    reason: str | None
    due_at: int | None = None
    remapped: bool = False


async def plan(
    intake: Intake,
    unseen: Unseen,
    *,
    fuse: Fuse | None = None,
    old: StatusRules | None = None,
) -> AsyncIterator[Planned]:
    """Walk the table and the snapshot and yield every difference.

    `unseen` is the rule for unknown applications: the baseline's until that is done. `fuse` counts everything as
    captured now. `old` has the earlier status rules, if they differ.
    """
    store, watch = intake.store, intake.rules.watch
    last = await store.capture.highest_number()
    preview = _Preview(intake, unseen, old, fuse or Fuse(), bytearray(size_of(last)))
    after: Key | None = None
    while True:
        page = await intake.reader.page(after, PAGE)
        for planned in await preview.of_page(page):
            yield planned
        if page.last is None:
            break
        after = page.last
    async for unmet in unmet_records(intake, bytes(preview.marks), last):
        before = await store.capture.known(watch, unmet)
        if before:
            for planned in await preview.of_gone(before):
                yield planned


@dataclass(slots=True)
class _Preview:
    """One walk. `fuse` is the watch's, with the counts so far; `marks` has the met records."""

    intake: Intake
    unseen: Unseen
    old: StatusRules | None
    fuse: Fuse
    marks: bytearray
    of_accounts: dict[str, Fuse] = field(default_factory=dict)

    async def of_page(self, page: Page) -> list[Planned]:
        """What follows from a page."""
        reader, rules = self.intake.reader, self.intake.rules
        rows = {row.key: row for row in page.rows}
        observations = self.intake.interpreted(page)
        ids = {each.application_id for each in observations if each.application_id is not None}
        before = await self.intake.store.capture.known(rules.watch, list(ids))
        mark(self.marks, (each.number for each in before.values()))
        elsewhere = await self._known_elsewhere([id_ for id_ in ids if id_ not in before])
        planned, unresolved = self._follows(before, elsewhere, observations=observations)
        if unresolved:
            found = by_application((await reader.by_application(unresolved)).rows, unresolved)
            rows |= {row.key: row for of_one in found.values() for row in of_one}
            together = [resolved(id_, page.at, of_one, rules) for id_, of_one in found.items()]
            planned += self._follows(before, elsewhere, resolved=together)[0]
            observations = [each for each in observations if each.application_id not in unresolved]
            observations += [each.canonical for each in together if each.canonical is not None]
        if self.old is None:
            return planned
        remapped = {each.application_id for each in observations if self._is_remapped(rows[each.key], self.old)}
        return [replace(each, remapped=each.application_id in remapped) for each in planned]

    def _is_remapped(self, row: Row, old: StatusRules) -> bool:
        """Whether the earlier status rules give a row another status."""
        now, then = (map_status(of, row.status, deleted=row.deleted) for of in (self.intake.rules.status, old))
        return now != then

    async def of_gone(self, before: Mapping[str, Known]) -> list[Planned]:
        """What follows for applications without a row."""
        read = await self.intake.reader.by_key({each.key for each in before.values()}, confirming=True)
        still_there = former_rows(read, before, self.intake.rules)
        now = self.intake.store.driver.clock.for_people()
        gone = [Resolved(id_, now, None) for id_ in before if id_ not in still_there]
        planned, _ = self._follows(before, NOTHING, resolved=gone, doubt=self.intake.doubt(read.hidden_by))
        reason = "its row is gone; a fresh read confirms it first"
        return [
            replace(each, action="confirm-deletion", reason=reason, due_at=None) if each.action == "send" else each
            for each in planned
        ]

    async def _known_elsewhere(self, unknown: Sequence[str]) -> States:
        """What other watches know of applications that would be sent as new ones."""
        others = self.intake.parts.others.of(self.intake.rules.watch)
        if self.unseen == "adopt" or not others:
            return NOTHING
        return await self.intake.store.capture.known_elsewhere(others, unknown)

    def _follows(
        self, before: Mapping[str, Known], elsewhere: States, **found: Any
    ) -> tuple[list[Planned], Mapping[str, int]]:
        """What follows from a batch with these findings, and the applications to read all rows of."""
        # As after the grace.
        clock = self.intake.store.driver.clock
        batch = Batch("deletion", clock(), self.unseen, shift=clock.shift, **found)
        plan = plan_batch(self.intake.rules, batch, before, self.fuse, elsewhere, of_accounts=self.of_accounts)
        self.fuse = plan.fuse
        self.of_accounts |= plan.of_accounts
        planned = [Planned(skip.application_id, "skip", (), None, None, skip.reason) for skip in plan.skips]
        entries = {each.application_id: each for each in plan.enqueued}
        adopted = {each.application_id: each.content for each in (*plan.adopted, *plan.acknowledged)}
        for result in plan.results:
            id_, reason = result.application_id, result.reason
            snapshot = before[id_].snapshot if id_ in before else None
            match result.decision:
                case Enqueue(kinds):
                    entry, action = entries[id_], _ACTIONS[result.state or "pending"]
                    # By the clock for people.
                    due_at = entry.due_at + clock.shift if action == "send" else None
                    planned.append(Planned(id_, action, tuple(sorted(kinds)), snapshot, entry.content, reason, due_at))
                case "cancel":
                    planned.append(Planned(id_, "cancel", (), snapshot, snapshot, "undone before it was sent"))
                case _:
                    planned.append(Planned(id_, "adopt", (), snapshot, adopted[id_], None))
        return planned, plan.unresolved


def before_edit(positions: Mapping[str, str], rules: StatusRules) -> StatusRules | None:
    """The earlier status rules; None if they are the present ones, or unknown."""
    text = positions.get(STATUS_RULES)
    return None if text in (None, to_text(rules)) else StatusRules(**json.loads(text))


def to_text(rules: StatusRules) -> str:
    """As the store keeps them: the same text for the same rules in any order."""
    fields = {"map": dict(rules.map), "unmapped": rules.unmapped, "deleted": rules.deleted}
    return json.dumps(fields, ensure_ascii=False, sort_keys=True)


def is_only_remapped(planned: Planned) -> bool:
    """Whether only the edit causes this call."""
    return planned.remapped and planned.action in {"send", "held"}


def why_held(touched: int) -> str:
    """Why everything is held after an edit that is too large."""
    return coded(
        "remapped",
        "the section status has changed, and %(number)s applications would be sent with another status",
        number=touched,
    )


async def measure_edit(intake: Intake) -> None:
    """Measure the effect of changed status rules, and hold it if it is too large."""
    store, rules = intake.store, intake.rules
    positions = await store.capture.positions(rules.watch)
    old = before_edit(positions, rules.status)
    if old is not None:
        plans = plan(intake, rules.first_status, old=old)
        touched = sum([is_only_remapped(planned) async for planned in plans])
        held = touched > rules.fuse.max_changes
        if held:
            await store.capture.blow_fuse(rules.watch, why_held(touched), intake.clock())
        intake.observe(StatusRulesChanged(rules.watch, touched, held))
    if positions.get(STATUS_RULES) != to_text(rules.status):
        await intake.place({STATUS_RULES: to_text(rules.status)})
