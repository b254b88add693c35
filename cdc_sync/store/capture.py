"""The store for capture: what is known, and batches of observations (see `applying`)."""

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from functools import partial
from operator import attrgetter
from typing import Any

from cdc_sync.core.batch import NO_CALLS, NO_STATES, Applied, Batch, Calls, States
from cdc_sync.core.content import Content
from cdc_sync.core.diff import blow
from cdc_sync.core.outbox import Known, Suspicion, Verified
from cdc_sync.core.rows import Key, WatchRules
from cdc_sync.store.applying import OF_NO_ROW, apply
from cdc_sync.store.driver import Role, Transaction, job, pages
from cdc_sync.store.encoding import (
    content_from,
    fuse_from,
    fuse_text,
    key_from,
    key_text,
    known_from,
)

_RECORDS_AT_ONCE = 20_000
"""Records searched by one statement, at most: some 30 ms of SQLite's only thread."""


class Capture(Role):
    """See the module's text."""

    async def pending(self, watch: str, at_once: int) -> AsyncIterator[dict[str, Key]]:
        """The watch's applications with a pending entry, each with its row's key, in parts of at most so many."""
        async for rows in pages(self.driver, "entries_after", watch, at_once):
            yield {application_id: key_from(text) for application_id, state, text in rows if state == "pending"}

    async def postpone(self, watch: str, application_ids: Sequence[str], due_at: int) -> None:
        """Let these pending entries wait until a time."""
        rows = [(watch, application_id, due_at) for application_id in sorted(application_ids)]
        await self.driver.write("hasten", rows)

    async def positions(self, watch: str) -> dict[str, str]:
        """The watch's capture positions by name."""
        return dict(await self.driver.ask("positions", watch=watch))

    async def knows_any(self, watch: str) -> bool:
        """Whether any application of the watch was ever recorded."""
        ((found,),) = await self.driver.ask("knows_any", watch=watch)
        return bool(found)

    async def known(self, watch: str, application_ids: Sequence[str]) -> dict[str, Known]:
        """What is known of these applications."""
        rows = await self.driver.ask("before", watch=watch, ids=list(application_ids), rows=OF_NO_ROW)
        return {row[1]: known_from(row) for row in rows}

    async def known_elsewhere(self, watches: Sequence[str], application_ids: Sequence[str]) -> States:
        """The newest state of these applications in some watches, without those that have an entry there.

        Each watch may have each of them: in parts, between which the store does other work.
        """
        ids, found = list(application_ids), dict[str, Content]()
        at_once = max(_RECORDS_AT_ONCE // max(len(watches), 1), 1)
        for first in range(0, len(ids), at_once):
            some = ids[first : first + at_once]
            found |= _states(await self.driver.ask("known_elsewhere", ids=some, watches=list(watches)))
        return found

    async def compare(self, watch: str, digests: str) -> list[int]:
        """A number for each row of a page of digests (`ats.mapping`), in order.

        The record's, if it was verified with this digest and has no pending entry. 0: nothing to do. -1: read it.
        """
        rows = await self.driver.ask("compare", watch=watch, digests=digests)
        found: list[int] = json.loads(rows[0][0] or "[]")
        return found

    async def verify(self, watch: str, verified: Sequence[Verified]) -> None:
        """Keep the digests of unchanged rows, until a change or another row of the record.

        PostgreSQL leaves out rows that a batch holds.
        """
        of_nothing = (None, None, None)
        rows = [
            (watch, each.application_id, key_text(each.key), each.digest, *(each.content or of_nothing)[:3])
            for each in sorted(verified, key=attrgetter("application_id"))
        ]
        await self.driver.write("verify", rows)

    async def unseen(self, watch: str, bitmap: bytes, last: int, at_once: int) -> AsyncIterator[list[str]]:
        """The watch's applications, numbered 1 to `last`, without a set bit in a sweep's bitmap.

        In parts of at most `at_once` records, without deleted ones and those out of scope. The cost grows with the
        watch.
        """
        async for rows in pages(self.driver, "in_scope_after", watch, at_once):
            yield [id_ for id_, number in rows if number <= last and not bitmap[number >> 3] >> (number & 7) & 1]

    async def highest_number(self) -> int:
        """The highest record number; 0 if there is none."""
        ((number,),) = await self.driver.ask("highest_number")
        return int(number)

    async def apply(self, rules: WatchRules, batch: Batch, calls: Calls = NO_CALLS) -> Applied:
        """Decide about a batch and write it; meanwhile no call of its applications begins."""
        batch = replace(batch, shift=self.driver.clock.shift)
        watch = rules.watch
        elsewhere = await self._states_elsewhere(watch, batch)
        # Without a pause before the transaction's place in the order is fixed.
        applying = calls.begin_apply(watch, batch.application_ids)
        work = partial(apply, rules=rules, batch=batch, elsewhere=elsewhere, applying=applying)
        return await self.driver.transact(work, partial(calls.end_apply, applying))

    async def _states_elsewhere(self, watch: str, batch: Batch) -> States:
        """What other watches know of the applications that would be sent as new ones.

        Outside the batch's transaction. What changes meanwhile is compared when the other watch hands it over.
        """
        ids = batch.application_ids
        if batch.unseen == "adopt" or not batch.others or not ids:
            return NO_STATES
        recorded = {id_ for (id_,) in await self.driver.ask("recorded", watch=watch, ids=ids)}
        return await self.known_elsewhere(batch.others, [id_ for id_ in ids if id_ not in recorded])

    async def due_suspicions(self, watch: str, now: int, limit: int, *, horizon: int) -> list[Suspicion]:
        """Suspicions after their grace, oldest first; also those due over `horizon` ms ahead, by a wrong clock."""
        rows = await self.driver.ask("due_suspicions", watch=watch, now=now, latest=now + horizon, limit=limit)
        return [Suspicion(*row) for row in rows]

    async def suspected(self, watch: str, application_ids: Sequence[str]) -> set[str]:
        """Which of these applications are suspected to be deleted."""
        rows = await self.driver.ask("suspected", watch=watch, ids=list(application_ids))
        return {application_id for (application_id,) in rows}

    async def suspect_again(self, watch: str, suspicions: Sequence[Suspicion]) -> None:
        """Suspect deletions whose entries are still pending."""
        rows = [(watch, each.application_id, each.at, each.due_at) for each in suspicions]
        await self.driver.write("suspect", rows)

    async def next_suspicion(self, watch: str) -> int | None:
        """When the next suspicion's grace ends."""
        ((due_at,),) = await self.driver.ask("next_suspicion", watch=watch)
        return None if due_at is None else int(due_at)

    @job
    async def blow_fuse(self, transaction: Transaction, watch: str, reason: str, now: int) -> None:
        """Hold everything new of a watch until a person decides. A blown fuse stays as it is."""
        await transaction.run("add_watch", watch=watch)
        ((fuse,),) = await transaction.rows("fuse", watch=watch)
        blown = blow(fuse_from(fuse), now, reason)._replace(holds_all=True)
        await transaction.run("set_fuse", watch=watch, fuse=fuse_text(blown))


def _states(rows: Sequence[tuple[Any, ...]]) -> dict[str, Content]:
    """See `Capture.known_elsewhere`."""
    found: dict[str, Content] = {}
    with_entry: set[str] = set()
    for id_, *columns, adopted, has_entry in rows:
        if has_entry:
            with_entry.add(id_)
        content = content_from(*columns)
        # HelloWork never received the deletion of a row that was left to another watch.
        if content is not None and not (adopted and content.deleted):
            found[id_] = content  # the last one is the newest
    return {id_: content for id_, content in found.items() if id_ not in with_entry}
