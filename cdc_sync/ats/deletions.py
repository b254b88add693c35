"""Suspected deletions, and their answers: after the grace, by a fresh read of all rows of their applications."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress

from cdc_sync.core.events import DeletionsDecided, DeletionsWait
from cdc_sync.core.outbox import Suspicion, former_row
from cdc_sync.core.rows import Observation, content_of

from .errors import SourceError
from .intake import Intake
from .rows_elsewhere import Elsewhere

LONGEST_REST = 600.0
"""Seconds between looks while no deletion is suspected, at most; a suspicion ends the rest."""

_LOOK_EVERY = 1.0
"""Seconds between looks, at most: a machine that was suspended has lost the time of its timers."""

_LAST_TIME = 2**62
"""After every due time; more than there are suspicions."""


class Deletions:
    """One watch's suspected deletions.

    Attributes:
        left_some_unanswered: whether the last look at them had to wait for another watch.

    Raises:
        SourceError: by every method: rows cannot be read.
        StoreError: by every method: the outcome cannot be saved.
    """

    def __init__(self, intake: Intake) -> None:
        self.left_some_unanswered = False
        self.parts, self._store = intake.parts, intake.store.capture
        self._intake = intake

    async def confirm(self) -> None:
        """Answer suspected deletions for ever."""
        parts, suspected = self.parts, self._intake.suspected
        while True:
            suspected.clear()
            await self.confirm_due()
            due_at = await self._store.next_suspicion(parts.name)
            if due_at is None:  # what waited may have ended without an answer: its row is back
                parts.observe(DeletionsDecided(parts.name))
            rest = LONGEST_REST if due_at is None else min(max((due_at - parts.clock()) / 1000, 0.01), _LOOK_EVERY)
            with suppress(TimeoutError):
                async with asyncio.timeout(rest):
                    await suspected.wait()

    async def confirm_due(self) -> int:
        """Answer the suspected deletions whose grace has ended by now; returns their number."""
        parts, answered, limit = self.parts, 0, self.parts.steps.confirmed
        # Fixed: what another table keeps unanswered is due again while its database is waited for.
        now = parts.clock()
        while True:
            due = await self._store.due_suspicions(parts.name, now, limit)
            if due:
                await self.answer(due)
                answered += len(due)
            if len(due) < limit:
                if answered:
                    await self._intake.place(await self._intake.table.accepted())
                return answered

    async def confirm_all(self) -> None:
        """Answer every suspected deletion now, also those whose grace has not ended."""
        at_once = self.parts.steps.confirmed
        suspected = await self._store.due_suspicions(self.parts.name, _LAST_TIME, _LAST_TIME)
        for first in range(0, len(suspected), at_once):
            await self.answer(suspected[first : first + at_once])

    async def answer(self, suspicions: Sequence[Suspicion]) -> None:
        """Answer suspected deletions now."""
        times = {each.application_id: each.at for each in suspicions}
        # Without the lock: another database may not answer for long.
        elsewhere = await self._ask_elsewhere(times)
        async with self._intake.lock:
            resolved = await self._intake.resolve(times)
            missing = [each.application_id for each in resolved if each.canonical is None]
            left = await self._former_rows(missing) if missing else {}
            resolved = [each._replace(canonical=left.get(each.application_id, each.canonical)) for each in resolved]
            there = elsewhere.found
            resolved = [
                each._replace(elsewhere=there.get(each.application_id, "unknown")) if each.is_deletion else each
                for each in resolved
            ]
            self._intake.unreported.update(each.application_id for each in resolved if each.elsewhere == "unreported")
            doubt = self._intake.doubt(self._intake.hidden_by | elsewhere.hidden_by)
            await self._intake.apply(self._intake.batch("deletion")._replace(resolved=resolved, doubt=doubt))
            self.left_some_unanswered = bool(await self._store.suspected(self.parts.name, list(times)))

    async def _ask_elsewhere(self, times: Mapping[str, int]) -> Elsewhere:
        """What the tables of the other watches with the same account have; if one cannot be read, nobody knows.

        Nothing is found of what has a row here: it may move while the others are asked.
        """
        parts = self.parts
        if not parts.others.of(parts.name):
            return Elsewhere(dict.fromkeys(times, "nothing"), frozenset())
        gone = {each.application_id: each for each in await self._intake.resolve(times) if each.is_deletion}
        known = await self._store.known(parts.name, list(gone))
        latest = {id_: known[id_].latest if id_ in known else content_of(each.canonical) for id_, each in gone.items()}
        accounts = {id_: parts.rules.account or of.account for id_, of in latest.items() if of is not None}
        try:
            asked = await parts.others.with_live_row(parts.name, accounts)
        except SourceError as error:
            parts.observe(DeletionsWait(parts.name, error.message))
            return Elsewhere({}, frozenset())
        parts.observe(DeletionsDecided(parts.name))
        return asked._replace(found={**dict.fromkeys(gone, "nothing"), **asked.found})

    async def _former_rows(self, application_ids: Sequence[str]) -> dict[str, Observation | None]:
        """The rows that still are those of applications whose id no row was found to carry; None: another's by now."""
        known = await self._store.known(self.parts.name, application_ids)
        read = await self._intake.reader.by_key({before.key for before in known.values()}, confirming=True)
        self._intake.see_hiding(self._intake.hidden_by | read.hidden_by)
        rows, rules = {row.key: row for row in read.rows}, self.parts.rules
        return {
            id_: former_row(rows[before.key], id_, before, rules, read.at)
            for id_, before in known.items()
            if before.key in rows
        }
