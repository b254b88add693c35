"""The store for operators and the daemon's housekeeping: what is held, what people did, and small notes."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import groupby

from cdc_sync.core.diff import Fuse
from cdc_sync.core.events import PersonActed
from cdc_sync.core.outbox import EntryState
from cdc_sync.core.reasons import as_text, from_text, joined
from cdc_sync.store.acts import EVERYTHING, NO_ACTIONS, Chosen, SeenEntry, parameters, record
from cdc_sync.store.driver import Driver, Transaction, about, noted, watches_of
from cdc_sync.store.encoding import as_json, fuse_from
from cdc_sync.store.protocol import CALL_STEP, Condition, HeldGroup

EXAMPLES = 5
"""Applications named of each group of held entries."""


@dataclass
class Operation:
    """See the module's text; what a person does is in `acts`."""

    driver: Driver

    async def fuses(self) -> dict[str, Fuse]:
        """The fuses that ever counted anything, by watch."""
        return {watch: fuse_from(fuse) for watch, fuse in await self.driver.ask("fuses")}

    async def held_groups(self, watch: str | Collection[str] | None, chosen: Chosen = EVERYTHING) -> list[HeldGroup]:
        """The chosen held entries, by watch, the largest group first."""
        shift = self.driver.clock.shift

        async def work(transaction: Transaction) -> list[HeldGroup]:
            which = parameters(await watches_of(transaction, watch), chosen)
            rows = await transaction.rows("held_groups", examples=EXAMPLES, **which)
            found = []
            for (name, what, number, since, *why), of_group in groupby(rows, lambda row: row[:-1]):
                reason = joined(sorted({from_text(each) or "" for each in why}))
                found.append(HeldGroup(name, what, number, since + shift, reason, tuple(row[-1] for row in of_group)))
            return found

        return await self.driver.transact(work)

    async def chosen(
        self, state: EntryState, watch: str | Collection[str] | None, chosen: Chosen = EVERYTHING
    ) -> list[SeenEntry]:
        """The chosen entries in a state, the oldest first."""

        async def work(transaction: Transaction) -> list[SeenEntry]:
            which = parameters(await watches_of(transaction, watch), chosen)
            return [
                (name, id_, revision)
                for name, id_, revision in await transaction.rows("in_state", state=state, **which)
            ]

        return await self.driver.transact(work)

    async def paused(self) -> frozenset[str]:
        """The endpoints that an operator has paused; see `ALL_ENDPOINTS`."""
        return frozenset(json.loads(await self.driver.note("paused") or "[]"))

    async def record_action(self, acted: PersonActed) -> None:
        """Count a person's action, and keep it for a daemon's log."""
        await self.driver.transact(lambda t: record(t, acted, acted.count))

    async def take_actions(self) -> list[PersonActed]:
        """Remove and return the actions that no daemon has logged."""

        async def work(transaction: Transaction) -> list[PersonActed]:
            if not json.loads(await about(transaction, "actions") or NO_ACTIONS)["unlogged"]:
                return []
            actions = await noted(transaction, "actions", NO_ACTIONS)
            await transaction.run("set_about", name="actions", value=as_json({**actions, "unlogged": []}))
            return [PersonActed(*each) for each in actions["unlogged"]]

        return await self.driver.transact(work)

    async def count_actions(self) -> dict[str, int]:
        """How often people did each action."""
        actions = json.loads(await self.driver.note("actions") or NO_ACTIONS)
        return dict(actions["counts"])

    async def set_conditions(self, messages: Mapping[str, str | None], now: int) -> None:
        """Record conditions by name; None ends one."""
        wrong = [(name, as_text(message), now) for name, message in sorted(messages.items()) if message]
        over = [(name,) for name, message in sorted(messages.items()) if not message]

        async def work(transaction: Transaction) -> None:
            await transaction.write("set_condition", wrong)
            await transaction.write("clear_condition", over)

        await self.driver.transact(work)

    async def conditions(self) -> list[Condition]:
        """What is wrong now."""
        return [
            Condition(name, from_text(kept) or "", since) for name, kept, since in await self.driver.ask("conditions")
        ]

    async def add_repairs(self, watch: str, causes: Mapping[str, int]) -> None:
        """Count a sweep's repairs."""
        rows = [(watch, cause, number) for cause, number in sorted(causes.items())]
        await self.driver.transact(lambda t: t.write("add_repairs", rows))

    async def repairs(self) -> dict[str, dict[str, int]]:
        """Sweeps' repairs, by watch and cause."""
        found: dict[str, dict[str, int]] = {}
        for watch, cause, number in await self.driver.ask("repairs"):
            found.setdefault(watch, {})[cause] = number
        return found

    async def prune(self, before: int, keep: int, limit: int) -> int:
        """Delete call counts older than `before`, and up to `limit` events: older ones, and all but the newest `keep`.

        Returns the number of deleted events.
        """

        async def work(transaction: Transaction) -> int:
            await transaction.run("prune_call_counts", until=before - CALL_STEP)
            await transaction.run("prune_requests")
            return await transaction.count("prune", before=before, keep=keep, limit=limit)

        return await self.driver.transact(work)
