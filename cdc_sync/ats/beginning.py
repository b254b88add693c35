"""How a watch begins, for the daemon, `run --once` and a dry run alike: connect, adopt, get ready.

The **baseline** is the first walk through a table: its rows are adopted silently, or enqueued with `baseline: send`.
Each page, in key order, is applied together with the position that it reaches: a restart goes on there. Later changes
are in the change log; in poll mode a sweep finds them.

The effect of an **edited section `status`** is measured before anything of it is sent. If the edit alone gives more
applications another status than the fuse lets change, everything new is held; the fuse alone would let the first ones
pass. The rules that were used last are a position. The new ones are saved last, so a crash repeats the measurement.
"""

import json
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from time import monotonic
from typing import NamedTuple

from cdc_sync.core import events
from cdc_sync.core.diff import Enqueue
from cdc_sync.core.outbox import Known, Suspicion, completed
from cdc_sync.core.rows import Key, Observation, Reportable, Row, StatusRules, WatchRules, interpret, map_status
from cdc_sync.store.capture import FROM_DATABASE

from .connection import REPLICA
from .errors import reason
from .intake import FORGOTTEN, TABLE, Capture, Intake, WatchParts
from .notify import NotifyCapture
from .poll import PollCapture
from .reading import prepared

KINDS: Mapping[str, type[Capture]] = {"notify": NotifyCapture, "poll": PollCapture}
"""The kinds of capture, by `capture.mode`."""

BASELINE = "baseline"
"""The position with how far the baseline is."""


STATUS_RULES = "status-rules"
"""The position with the rules from labels to statuses."""


class BaselinePosition(NamedTuple):
    """How far the baseline is.

    Attributes:
        after: the last key adopted.
        known: rows read so far.
        queued: calls so far; after a failure, those of a page may be missing.
    """

    done: bool = False
    after: Key | None = None
    known: int = 0
    queued: int = 0

    def to_text(self) -> str:
        """As the store keeps it."""
        return json.dumps(self._asdict(), ensure_ascii=False)

    @classmethod
    def from_text(cls, text: str | None) -> "BaselinePosition | None":
        """The inverse of `to_text`; None if no baseline was begun."""
        if text is None:
            return None
        fields = json.loads(text)  # earlier versions may have had more
        after = fields["after"]
        return cls(fields["done"], after and tuple(after), fields["known"], fields["queued"])


OVER_EARLIER_WORK = "baseline over earlier work"
"""The position of a watch that had been captured before, with another store."""


@asynccontextmanager
async def connect(parts: WatchParts) -> AsyncIterator[Intake]:
    """Connect a watch to its database, check its configuration there and, unless in a dry run, take its turn.

    Raises:
        SourceError: the database cannot be used as configured, or another daemon captures the watch.
        StoreError: the store cannot be used, or belongs to another database.
    """
    async with AsyncExitStack() as stack:
        sessions = await stack.enter_async_context(parts.database.sessions(parts.name))
        mapping = await sessions.unless_lost(prepared(sessions.pool, parts.watch))
        # A dry run works beside the daemon that has the turn.
        if not parts.dry_run:
            await parts.database.take_turn(parts.name, sessions)
        intake = Intake(parts, sessions, mapping)
        stack.callback(sessions.lookout.leave, intake.watched)
        parts.others.join(parts.name, intake.reader, intake.suspected)
        stack.callback(parts.others.leave, parts.name)
        await sessions.unless_lost(intake.load())
        yield intake


async def begin(intake: Intake) -> Capture:
    """Adopt a watch's rows, and make its capture ready; may raise `SourceError` and `StoreError`.

    Missing triggers are reported, and no failure.
    """
    parts = intake.parts
    mode, version = parts.watch.capture.mode, intake.sessions.lookout.server.version
    parts.observe(events.WatchConnected(parts.name, mode, version, parts.database.name))
    capture = await KINDS[mode].open(intake)
    await adopt(capture)
    await measure_edit(intake)
    parts.observe(events.PendingReread(parts.name, await _reread_pending(intake)))
    await capture.begin()
    return capture


async def _reread_pending(intake: Intake) -> int:
    """Read the rows of the pending entries by their stored keys and apply them; returns the number of entries.

    The store may be a restored backup, and HelloWork may have received later states. An application without a row is
    suspected, and so is one with a pending deletion: a row with its id may have come since, under any key.
    """
    number, now = 0, intake.store.driver.clock.for_people()
    async for found in intake.store.capture.pending(intake.name, intake.parts.steps.read):
        if found:
            # No sweep found what these reads show.
            await intake.keys(dict.fromkeys(found.values(), now), intake.parts.watch.capture.mode)
            await _suspect_again(intake, found)
        number += len(found)
    return number


async def _suspect_again(intake: Intake, application_ids: Collection[str]) -> None:
    """Suspect those of these applications' entries that are pending deletions."""
    now, watch = intake.clock(), intake.name
    known = await intake.store.capture.known(watch, list(application_ids))
    deletions = [
        Suspicion(id_, entry.content.event_date, now)
        for id_, of in known.items()
        if (entry := of.entry) is not None and entry.state == "pending" and entry.content.deleted
    ]
    await intake.store.capture.suspect_again(watch, deletions)


async def adopt(capture: Capture) -> BaselinePosition:
    """Run the baseline, or the rest of it; returns its position."""
    intake, parts = capture.intake, capture.parts
    positions = await parts.store.capture.positions(parts.name)
    position = BaselinePosition.from_text(positions.get(BASELINE))
    if position is None:
        is_silent = parts.rules.baseline == "adopt" and not parts.dry_run
        if is_silent and await capture.was_worked_before():
            # The baseline takes as acknowledged what the earlier store may have had to send.
            parts.observe(events.BaselineOverEarlierWork(parts.name))
            await intake.place({OVER_EARLIER_WORK: "yes"})
        if parts.database.name:
            await intake.place({FROM_DATABASE: parts.database.name})
        position = BaselinePosition()
    if position.done:
        return position
    started = monotonic()
    # After a restart, rows behind the position may be in the store.
    rows_are_new = position.after is None and not await parts.store.report.known_of(parts.name)
    while True:
        position = await _adopt_page(intake, position, rows_are_new=rows_are_new)
        intake.observe(events.BaselineProgress(parts.name, position.known, intake.reader.mapping.facts.estimate))
        if position.done:
            break
    known = await parts.store.report.known_of(parts.name)
    intake.observe(events.BaselineDone(parts.name, known, position.queued, monotonic() - started))
    return position


async def _adopt_page(intake: Intake, position: BaselinePosition, *, rows_are_new: bool) -> BaselinePosition:
    page = await intake.reader.page(position.after, intake.parts.steps.adopted, intake.shape_of_digests)
    known = position.known + len(page.rows)
    reached = position._replace(done=page.last is None, after=page.last, known=known)
    async with intake.lock:
        intake.observe(events.ChangesRead(intake.name, "baseline", len(page.rows)))
        batch = intake.batch("baseline")._replace(
            observations=intake.interpreted(page), positions={BASELINE: reached.to_text()}, rows_are_new=rows_are_new
        )
        applied = await intake.apply(batch)
    queued = sum(isinstance(result.decision, Enqueue) for result in applied.results)
    return reached._replace(queued=position.queued + queued)


async def measure_edit(intake: Intake) -> None:
    """Measure the effect of changed status rules, and hold it if it is too large."""
    store, rules = intake.store, intake.rules
    before, now = (await store.capture.positions(intake.name)).get(STATUS_RULES), rules_text(rules.status)
    if before == now:
        return
    if before is not None:
        touched = await _touched(intake, StatusRules(**json.loads(before)))
        held = touched > rules.fuse.max_changes
        if held:
            await store.capture.blow_fuse(intake.name, reason("remapped", number=touched), intake.clock())
        intake.observe(events.StatusRulesChanged(intake.name, touched, held))
    await intake.place({STATUS_RULES: now})


def rules_text(rules: StatusRules) -> str:
    """As the store keeps them: the same text for the same rules in any order."""
    return json.dumps(rules._asdict() | {"map": dict(rules.map)}, ensure_ascii=False, sort_keys=True)


async def _touched(intake: Intake, before: StatusRules) -> int:
    """How many applications the edit alone gives another status than HelloWork acknowledged.

    Each is counted by the row that represents it; unknown ones, if they are sent, by any of their rows.
    """
    rules, touched = intake.rules, 0
    after: Key | None = None
    while True:
        page = await intake.reader.page(after, intake.parts.steps.adopted)
        remapped = [row for row in page.rows if row.in_scope and _status(row, rules.status) != _status(row, before)]
        rows = [interpret(row, rules, page.at) for row in remapped]
        known = await intake.store.capture.known(intake.name, [id_ for row in rows if (id_ := row.application_id)])
        touched += sum(_is_touched(row, rules, known.get(row.application_id or "")) for row in rows)
        if page.last is None:
            return touched
        after = page.last


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


def positions_elsewhere(positions: Mapping[str, str]) -> dict[str, str]:
    """The positions to write when a watch's store is given to another database.

    A transaction's number means nothing in another cluster, nor does a table's oid. The watermark is a time and stays;
    the new sweep at the next start finds what it misses. The snapshot stays the reference.
    """
    void = {REPLICA: "", TABLE: FORGOTTEN}
    return {name: text for name, text in void.items() if name in positions}
