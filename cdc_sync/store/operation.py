"""The store for operators and the daemon's housekeeping: what is held, requests, and small notes."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from cdc_sync.core.events import Emit, PersonActed
from cdc_sync.core.fuse import Fuse
from cdc_sync.core.outbox import EntryState
from cdc_sync.core.reasons import as_text, from_text, joined

from . import acts
from .driver import Driver, Role, Transaction, Watches, by_first, job, no_effect, value, watches_of
from .encoding import as_json, stored_from
from .report import CALL_STEP

EXAMPLES = 5
"""Applications named of each group of held entries."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that is wrong now, with its remedy."""

    name: str
    message: str
    since: int


@dataclass(frozen=True, slots=True)
class HeldGroup:
    """Held entries of one watch with the same transition (`diff.transition`).

    `since` is when the oldest was enqueued; `reason` may join two; `examples` are the oldest entries' applications.
    """

    watch: str
    transition: str
    number: int
    since: int
    reason: str
    examples: tuple[str, ...]


class Operation(Role):
    """See the module's text; what a person does is in `acts`.

    Who holds the store's lock executes the waiting requests in their order: the leader, or without one the command
    itself. Each is executed and answered in one transaction. So a process that dies before the commit has done nothing,
    and the next holder of the lock executes the request, if it has not expired; nobody executes an answered one.

    A command removes its request in the end. If that had no answer, it is never executed. A killed command leaves its
    request, which is executed before its deadline or never, by the clock of the store's database alone.

    Attributes:
        observe: gets what people did here, as soon as it is durable, also if who waits for it was cancelled.
    """

    def __init__(self, driver: Driver) -> None:
        super().__init__(driver)
        self.observe: Emit = no_effect

    async def add_request(self, id_: str, request: acts.Request[Any], within: float) -> None:
        """Add a request, by an id of its own, that expires after so many seconds."""
        what, milliseconds = type(request), round(within * 1000)
        arguments = acts.arguments_of(what).dump_json(request).decode()
        await self.driver.run("add_request", id=id_, what=what.__name__, arguments=arguments, within=milliseconds)

    async def is_answered(self, id_: str) -> bool:
        """Whether a request has been answered, or is gone."""
        rows = await self.driver.run("answer_to", id=id_)
        return not rows or rows[0][0] is not None

    @job
    async def remove_request(self, transaction: Transaction, id_: str) -> str | None:
        """Remove a request; returns its answer. Without one it is never executed.

        While the request is being executed, this waits.
        """
        await transaction.run("lock_request", id=id_)
        answer: str | None = await value(transaction, "answer_to", id=id_)
        await transaction.run("remove_request", id=id_)
        return answer

    async def execute(self, request: acts.Request[acts.A], now: int) -> acts.A:
        """Execute a request of the process that holds the store's lock, at people's time `now`."""

        async def work(transaction: Transaction) -> tuple[acts.A, list[PersonActed]]:
            act = acts.Act(transaction, request.by, now, self.driver.clock.due(now), None)
            return await request.execute(act), act.done

        answer, _ = await self.driver.transact(work, lambda ended: self._report(ended and ended[1]))
        return answer

    async def execute_next(self, captured: acts.Captured) -> bool:
        """Execute and answer the oldest waiting request; returns False if there is none.

        Only who holds the store's lock may do this; `captured`: see there.
        """

        async def work(transaction: Transaction) -> list[PersonActed] | None:
            done = None
            for id_, what, arguments, is_in_time in await transaction.run("next_request"):
                if is_in_time:
                    answer, done = await acts.answered(transaction, what, arguments, self.driver.clock, captured)
                    await transaction.run("answer_request", id=id_, answer=as_json(answer))
                else:
                    await transaction.run("remove_request", id=id_)
                    done = []
            return done

        return await self.driver.transact(work, self._report) is not None

    def _report(self, done: list[PersonActed] | None) -> None:
        for acted in done or ():
            self.observe(acted)

    async def fuses(self) -> dict[str, Fuse]:
        """The fuses that ever counted anything, by watch."""
        return {watch: stored_from(Fuse, fuse) for watch, fuse in await self.driver.run("fuses")}

    @job
    async def held_groups(
        self, transaction: Transaction, watch: Watches, chosen: acts.Chosen = acts.EVERYTHING
    ) -> list[HeldGroup]:
        """The chosen held entries, by watch, the largest group first."""
        shift = self.driver.clock.shift
        which = chosen.within(await watches_of(transaction, watch))
        rows = await transaction.run("held_groups", examples=EXAMPLES, **which)
        found = []
        for (name, what, number, since, *why), of_group in groupby(rows, lambda row: row[:-1]):
            reason = joined(sorted({from_text(each) or "" for each in why}))
            found.append(HeldGroup(name, what, number, since + shift, reason, tuple(row[-1] for row in of_group)))
        return found

    @job
    async def chosen(
        self, transaction: Transaction, state: EntryState, watch: Watches, chosen: acts.Chosen = acts.EVERYTHING
    ) -> list[acts.SeenEntry]:
        """The chosen entries in a state, the oldest first."""
        which = chosen.within(await watches_of(transaction, watch))
        rows = await transaction.run("in_state", state=state, **which)
        return [(name, id_, revision) for name, id_, revision in rows]

    async def paused(self) -> frozenset[str]:
        """The endpoints that an operator has paused; see `ALL_ENDPOINTS`."""
        return await self.driver.transact(acts.paused)

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
            Condition(name, from_text(kept) or "", since) for name, kept, since in await self.driver.run("conditions")
        ]

    async def add_repairs(self, watch: str, causes: Mapping[str, int]) -> None:
        """Count a sweep's repairs."""
        rows = [(watch, cause, number) for cause, number in sorted(causes.items())]
        await self.driver.write("add_repairs", rows)

    async def repairs(self) -> dict[str, dict[str, int]]:
        """Sweeps' repairs, by watch and cause."""
        return {watch: dict(of) for watch, of in by_first(await self.driver.run("repairs")).items()}

    @job
    async def prune(self, transaction: Transaction, before: int, keep: int, limit: int) -> int:
        """Delete call counts older than `before`, and up to `limit` events: older ones, and all but the newest `keep`.

        Returns the number of deleted events.
        """
        await transaction.run("prune_call_counts", until=before - CALL_STEP)
        await transaction.run("prune_requests")
        lines = await transaction.run("prunable", before=before, keep=keep, limit=limit)
        await transaction.write("prune", lines)
        return len(lines)

    async def deleted_before(self, before: int, after: int) -> dict[str, list[str]]:
        """Applications whose deletion was acknowledged before then, by watch; of `NUMBERS` numbers after `after`."""
        rows = await self.driver.transact(lambda t: _deleted_before(t, before, after))
        return {watch: [id_ for (id_,) in of] for watch, of in by_first(rows).items()}

    @job
    async def forget_deleted(
        self, transaction: Transaction, watch: str, application_ids: Collection[str], before: int, after: int
    ) -> None:
        """Remove what the store has of those of these applications for which `deleted_before` still holds."""
        wanted = {(watch, application_id) for application_id in application_ids}
        rows = [row for row in await _deleted_before(transaction, before, after) if row in wanted]
        await acts.forget_records(transaction, rows)
        await acts.forget_traces(transaction, rows)


async def _deleted_before(transaction: Transaction, before: int, after: int) -> list[tuple[Any, ...]]:
    return await transaction.run("deleted_before", before=before, after=after, last=after + acts.NUMBERS)
