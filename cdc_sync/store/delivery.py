"""The store for the sender: due entries, and the results of their calls.

What is being called is in the sender's memory only. So after a crash every pending entry counts as attempted.
"""

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from cdc_sync.core.batch import HistoryEntry, described
from cdc_sync.core.outbox import DueEntries, Entry, EntryId, Lane, Wanted
from cdc_sync.core.reasons import as_text, fields_of
from cdc_sync.core.replies import HEALTHY, Acked, Finished, Health, Retry
from cdc_sync.core.status_url import DEFAULT_ACCOUNT, account_of, endpoint_name

from . import encoding
from .acts import CONFIGURED, mend, paused
from .driver import Effect, Role, Transaction, add_history, job, no_effect, note, pages, value
from .report import CALL_STEP

H = TypeVar("H", bound=Hashable)

_STOPPED_CLEANLY = "stopped cleanly"
"""The note that every call that was begun has its result in the store."""

_AT_ONCE = 1_000
"""Entries in one transaction: a small part of a lease."""


class Delivery(Role):
    """See the module's text. Every method may raise `StoreError`.

    `effect` gets a method's result, or None if it failed; see `Driver.transact`.
    """

    async def begin_sending(self) -> None:
        """Count every pending entry as attempted, unless the last stop was clean: call it before anything else.

        In pages: the store's session must stay free for renewals of the lead. After an interruption all are marked
        again, since the note of a clean stop goes first.
        """
        if await self._was_clean():
            return
        for watch in sorted({watch for _, watch in await self.lanes()}):
            async for rows in pages(self.driver, "entries_after", watch, _AT_ONCE):
                pending = [(watch, id_) for id_, state, _ in rows if state == "pending"]
                await self.driver.write("mark_attempted", pending)

    @job
    async def _was_clean(self, transaction: Transaction) -> bool:
        """Whether the last stop was clean; only the first call finds out."""
        is_clean = bool(await note(transaction, _STOPPED_CLEANLY))
        await transaction.run("set_about", name=_STOPPED_CLEANLY, value="")
        return is_clean

    async def stopped_cleanly(self) -> None:
        """Note that each call that was begun has its result in the store, and that no further one begins."""
        await self.driver.run("set_about", name=_STOPPED_CLEANLY, value="yes")

    async def hasten(self, watches: Collection[str], now: int, latest: int) -> None:
        """Let what is due after `latest` be due now: only a clock that was wrong can have set such a time.

        Of these watches: the waits of one that is not configured are unknown.

        The clock of one process never goes back, so it is enough to do this before a watch begins.
        """
        which = {"watches": sorted(watches), "latest": latest, "limit": _AT_ONCE}

        async def some(transaction: Transaction, late: str, set_due: str) -> bool:
            rows = await transaction.run(late, **which)
            await transaction.write(set_due, [(*of, now) for of in rows])
            return bool(rows)

        for late, set_due in ("entries_due_after", "set_entry_due"), ("suspicions_due_after", "set_suspicion_due"):
            while await self.driver.transact(partial(some, late=late, set_due=set_due)):
                pass

    async def due(self, wanted: Mapping[Lane, Wanted], now: int, effect: Effect[DueEntries] = no_effect) -> DueEntries:
        """The wanted entries that are due `now`."""
        return await self.driver.transact(partial(_due, wanted=wanted, now=now), effect)

    async def lanes(self) -> dict[Lane, int]:
        """When each lane with pending entries has the first one due."""
        return {(endpoint, watch): due_at for endpoint, watch, due_at in await self.driver.run("lanes")}

    async def complete(
        self, finished: Sequence[Finished], health: Mapping[str, Health], effect: Effect[dict[Lane, int]] = no_effect
    ) -> dict[Lane, int]:
        """Write the ends of attempts and the endpoints' new states.

        Returns the lanes of the applications that still have a pending entry, and when the first of each is due.
        """
        work = partial(_complete, finished=finished, health=health, shift=self.driver.clock.shift)
        return await self.driver.transact(work, effect)

    async def healths(self) -> dict[str, Health]:
        """Every endpoint's health."""
        return {name: encoding.stored_from(Health, text) for name, text in await self.driver.run("endpoints")}

    async def endpoints(self) -> dict[str, tuple[Health, int | None]]:
        """Every endpoint's health, and its next due time, of the watches and accounts that are configured."""
        healths, lanes, configured = await self.healths(), await self.lanes(), await self.configured()
        due = first_due((lane[0], due_at) for lane, due_at in lanes.items() if configured.sends(lane))
        names = set(filter(configured.has, healths)) | due.keys()
        return {name: (healths.get(name, HEALTHY), due.get(name)) for name in sorted(names)}

    async def configured(self) -> "Configured":
        """What the last daemon had in its configuration."""
        return Configured(**encoding.of_json(await self.driver.value("about", name=CONFIGURED) or "{}"))

    async def waiting(self) -> dict[str, int]:
        """How many pending entries of configured watches wait for an account that is not, by account."""
        configured = await self.configured()
        waiting = [lane for lane in await self.lanes() if lane[1] in configured.watches and not configured.sends(lane)]
        found = Counter[str]()
        for endpoint, watch in waiting:
            found[account_of(endpoint)] += await self.driver.value("pending_in", endpoint=endpoint, watch=watch)
        return dict(found)

    async def has_endpoint(self, name: str) -> bool:
        """Whether an endpoint is known, paused, or one of a configured account at a known origin."""
        known, configured = await self.endpoints(), await self.configured()
        origins = {endpoint.partition(" [")[0] for endpoint in known}
        possible = {endpoint_name(origin, account) for origin in origins for account in configured.accounts}
        return name in {*known, *possible} or name in await self.driver.transact(paused)

    async def note_configured(self, watches: Collection[str], accounts: Collection[str]) -> None:
        """Record what `configured` returns. What is left of another account stays: the account may return."""
        noting = encoding.as_json({"watches": sorted(watches), "accounts": sorted(accounts)})
        await self.driver.run("set_about", name=CONFIGURED, value=noting)


@dataclass(frozen=True)
class Configured:
    """Watches and accounts; before the first daemon nobody knows."""

    watches: Sequence[str] = ()
    accounts: Sequence[str] = (DEFAULT_ACCOUNT,)

    def has(self, endpoint: str) -> bool:
        """Whether an endpoint's account is configured."""
        return not self.watches or account_of(endpoint) in self.accounts

    def sends(self, lane: Lane) -> bool:
        """Whether the entries of a lane are sent: others wait."""
        endpoint, watch = lane
        return not self.watches or (watch in self.watches and self.has(endpoint))


def first_due(due: Iterable[tuple[H, int]]) -> dict[H, int]:
    """The earliest due time of each."""
    found = dict[H, int]()
    for of, at in due:
        found[of] = min(at, found.get(of, at))
    return found


async def _due(transaction: Transaction, wanted: Mapping[Lane, Wanted], now: int) -> DueEntries:
    entries: dict[Lane, Sequence[Entry]] = {}
    next_at: dict[Lane, int | None] = {}
    for lane, (limit, besides, probing) in wanted.items():
        which = {"endpoint": lane[0], "watch": lane[1], "now": now}
        one_more = {"besides": list(besides), "probing": probing, "limit": limit + 1}
        rows = await transaction.run("due", **which, **one_more)
        entries[lane] = [encoding.entry_from(row) for row in rows[:limit]]
        if len(rows) > limit or (probing and rows):
            next_at[lane] = now  # a probe's limit hides entries with more attempts
        else:
            next_at[lane] = await value(transaction, "next_due", **which)
    return DueEntries(entries, next_at)


@dataclass
class _Ends:
    """What the ends of calls write; `discarded`: applications of which a person discarded the entry meanwhile."""

    discarded: Collection[EntryId]
    acknowledged: list[tuple[Any, ...]] = field(default_factory=list)
    removed: list[EntryId] = field(default_factory=list)
    kept: list[Entry] = field(default_factory=list)
    redirected: list[Entry] = field(default_factory=list)
    """Those of `kept` that have another account now."""
    history: list[HistoryEntry] = field(default_factory=list)
    calls: Counter[tuple[int, str]] = field(default_factory=Counter)
    freed: set[str] = field(default_factory=set)
    """Watches of which a held entry is removed."""

    def add(self, end: Finished, current: Entry | None, at: int) -> None:
        """Add one call's end at a moment for people; `current` is its application's present entry."""
        of, sent = end.entry.id, end.entry
        self.calls[at - at % CALL_STEP, end.result.outcome] += 1
        is_same = current is not None and current.content.same_as(sent.content)
        event, detail = "answered", {**end.reply, "attempt": sent.attempts, "to": described(sent.content)}
        if isinstance(end.result, Acked):
            # What a person discarded counts as known, and is not found again.
            if of not in self.discarded:
                self.acknowledged.append((*of, *encoding.state_columns(sent.content), at, False))
            if current is not None:
                self._add_acknowledged(sent, current, is_same=is_same)
            event = "acknowledged"
        elif not is_same or current is None or current.revision != sent.revision:
            # HelloWork may have received what a newer content has replaced.
            if current is not None:
                self.kept.append(current._replace(attempted=True))
            detail["replaced"] = True
        elif isinstance(end.result, Retry):
            self.kept.append(_again(sent, current, end.result, detail.get("reason")))
            detail["again_at"] = end.result.due_at + at - end.at
        else:
            self.kept.append(sent._replace(content=current.content, state="dead", reason=end.result.reason))
            event, detail["reason"] = "dead-lettered", end.result.reason
        if event != "acknowledged":  # a success needs no French
            detail |= fields_of(detail["reason"])
        self.history.append(HistoryEntry(at, *of, event, detail))

    def _add_acknowledged(self, sent: Entry, current: Entry, *, is_same: bool) -> None:
        if is_same:
            # Even if it was enqueued again during the call (to A, and back to B).
            self.removed.append(current.id)
            if current.state == "held":
                self.freed.add(current.watch)
            return
        # It was enqueued during the call, and never sent. Of the states sent before, HelloWork has acknowledged the
        # last: none is uncertain.
        kept, account = current._replace(attempted=False), sent.content.account
        if current.content.deleted and current.content.account != account:
            # Decided during the call, it would go to the account that had the application before.
            kept = kept._replace(content=kept.content._replace(account=account, url=sent.content.url))
            self.redirected.append(kept)
        self.kept.append(kept)

    @property
    def again(self) -> dict[Lane, int]:
        """The lanes of what is still pending, and when the first entry of each is due."""
        pending = [entry for entry in self.kept if entry.state == "pending"]
        return first_due(((entry.content.endpoint, entry.watch), entry.due_at) for entry in pending)


def _again(sent: Entry, current: Entry, result: Retry, reason: str | None) -> Entry:
    """The entry that is tried again; its address may have changed during the call."""
    first = None if result.restarts else sent.first_attempt_at
    again = sent._replace(content=current.content, due_at=result.due_at, reason=reason)
    return again._replace(first_attempt_at=first, not_found_since=result.not_found_since)


def _attempt(entry: Entry) -> tuple[Any, ...]:
    """The columns of the statement `end_attempt`."""
    times = entry.due_at, entry.first_attempt_at, entry.not_found_since
    return *entry.id, entry.attempted, entry.attempts, entry.state, *times, as_text(entry.reason)


async def _ends_of(transaction: Transaction, finished: Sequence[Finished], shift: int) -> _Ends:
    """What the ends of these calls write, by what the store has of their applications now."""
    found = map(encoding.entry_from, await transaction.run("current", ids=[end.entry.id for end in finished]))
    current = {entry.id: entry for entry in found}
    without = [end.entry.id for end in finished if end.entry.id not in current]
    states = await transaction.run("metadata", ids=without) if without else []
    ends = _Ends({(watch, id_) for watch, id_, metadata in states if encoding.is_discarded(metadata)})
    for end in finished:
        ends.add(end, current.get(end.entry.id), end.at + shift)
    return ends


async def _complete(
    transaction: Transaction, finished: Sequence[Finished], health: Mapping[str, Health], shift: int
) -> dict[Lane, int]:
    ends = await _ends_of(transaction, sorted(finished, key=lambda end: end.entry.id), shift)
    write = transaction.write
    await write("remove", ends.removed)
    await write("end_attempt", [_attempt(entry) for entry in ends.kept])
    await write("refresh", [(*entry.id, *encoding.address_columns(entry.content)) for entry in ends.redirected])
    await write("add_endpoint", [(entry.content.endpoint,) for entry in ends.redirected])
    await write("acknowledge", ends.acknowledged)
    await add_history(transaction, ends.history)
    await write("set_health", [(name, encoding.stored_text(health[name])) for name in sorted(health)])
    await write("count_calls", [(*of, ends.calls[of]) for of in sorted(ends.calls)])
    for watch in sorted(ends.freed):
        await mend(transaction, watch)
    return ends.again
