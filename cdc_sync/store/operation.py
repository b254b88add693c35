"""The store for operators and the daemon's housekeeping: what is held, what people did, and small notes."""

import json
from collections.abc import Collection, Mapping, Sequence
from itertools import groupby

from cdc_sync.core.diff import Fuse
from cdc_sync.core.events import PersonActed
from cdc_sync.core.outbox import EntryState
from cdc_sync.core.reasons import as_text, from_text, joined
from cdc_sync.store.acts import (
    EVERYTHING,
    NO_ACTIONS,
    NUMBERS,
    Chosen,
    SeenEntry,
    forget_records,
    forget_traces,
    record,
)
from cdc_sync.store.driver import Role, Transaction, job, noted, watches_of
from cdc_sync.store.encoding import as_json, fuse_from
from cdc_sync.store.protocol import CALL_STEP, Condition, HeldGroup

EXAMPLES = 5
"""Applications named of each group of held entries."""


class Operation(Role):
    """See the module's text; what a person does is in `acts`."""

    async def fuses(self) -> dict[str, Fuse]:
        """The fuses that ever counted anything, by watch."""
        return {watch: fuse_from(fuse) for watch, fuse in await self.driver.ask("fuses")}

    @job
    async def held_groups(
        self, transaction: Transaction, watch: str | Collection[str] | None, chosen: Chosen = EVERYTHING
    ) -> list[HeldGroup]:
        """The chosen held entries, by watch, the largest group first."""
        shift = self.driver.clock.shift
        which = chosen.within(await watches_of(transaction, watch))
        rows = await transaction.rows("held_groups", examples=EXAMPLES, **which)
        found = []
        for (name, what, number, since, *why), of_group in groupby(rows, lambda row: row[:-1]):
            reason = joined(sorted({from_text(each) or "" for each in why}))
            found.append(HeldGroup(name, what, number, since + shift, reason, tuple(row[-1] for row in of_group)))
        return found

    @job
    async def chosen(
        self,
        transaction: Transaction,
        state: EntryState,
        watch: str | Collection[str] | None,
        chosen: Chosen = EVERYTHING,
    ) -> list[SeenEntry]:
        """The chosen entries in a state, the oldest first."""
        which = chosen.within(await watches_of(transaction, watch))
        return [
            (name, id_, revision) for name, id_, revision in await transaction.rows("in_state", state=state, **which)
        ]

    async def paused(self) -> frozenset[str]:
        """The endpoints that an operator has paused; see `ALL_ENDPOINTS`."""
        return frozenset(json.loads(await self.driver.note("paused") or "[]"))

    async def record_action(self, acted: PersonActed) -> None:
        """Count a person's action, and keep it for a daemon's log."""
        await self.driver.transact(lambda t: record(t, acted, acted.count))

    @job
    async def take_actions(self, transaction: Transaction) -> list[PersonActed]:
        """Remove and return the actions that no daemon has logged."""
        actions = await noted(transaction, "actions", NO_ACTIONS)
        if actions["unlogged"]:
            await transaction.run("set_about", name="actions", value=as_json({**actions, "unlogged": []}))
        return [PersonActed(*each) for each in actions["unlogged"]]

    async def count_actions(self) -> dict[str, int]:
        """How often people did each action."""
        actions = json.loads(await self.driver.note("actions") or NO_ACTIONS)
        return dict(actions["counts"])

    @job
    async def set_conditions(self, transaction: Transaction, messages: Mapping[str, str | None], now: int) -> None:
        """Record conditions by name; None ends one."""
        by_name = sorted(messages.items())
        wrong = [(name, as_text(message), now) for name, message in by_name if message]
        await transaction.write("set_condition", wrong)
        await transaction.write("clear_condition", [(name,) for name, message in by_name if not message])

    async def conditions(self) -> list[Condition]:
        """What is wrong now."""
        return [
            Condition(name, from_text(kept) or "", since) for name, kept, since in await self.driver.ask("conditions")
        ]

    async def add_repairs(self, watch: str, causes: Mapping[str, int]) -> None:
        """Count a sweep's repairs."""
        rows = [(watch, cause, number) for cause, number in sorted(causes.items())]
        await self.driver.write("add_repairs", rows)

    async def repairs(self) -> dict[str, dict[str, int]]:
        """Sweeps' repairs, by watch and cause."""
        found: dict[str, dict[str, int]] = {}
        for watch, cause, number in await self.driver.ask("repairs"):
            found.setdefault(watch, {})[cause] = number
        return found

    @job
    async def prune(self, transaction: Transaction, before: int, keep: int, limit: int) -> int:
        """Delete call counts older than `before`, and up to `limit` events: older ones, and all but the newest `keep`.

        Returns the number of deleted events.
        """
        await transaction.run("prune_call_counts", until=before - CALL_STEP)
        await transaction.run("prune_requests")
        return await transaction.count("prune", before=before, keep=keep, limit=limit)

    async def deleted_before(self, before: int, after: int) -> dict[str, list[str]]:
        """Applications whose deletion was acknowledged before then, by watch; of `NUMBERS` numbers after `after`."""
        found: dict[str, list[str]] = {}
        rows = await self.driver.ask("deleted_before", before=before, after=after, last=after + NUMBERS)
        for watch, application_id in rows:
            found.setdefault(watch, []).append(application_id)
        return found

    @job
    async def forget_deleted(
        self, transaction: Transaction, watch: str, application_ids: Sequence[str], before: int
    ) -> None:
        """Remove what the store has of those of these applications for which `deleted_before` still holds."""
        rows = await transaction.rows("still_deleted", watch=watch, ids=list(application_ids), before=before)
        await forget_records(transaction, rows)
        await forget_traces(transaction, rows)
