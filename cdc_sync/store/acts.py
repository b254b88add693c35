"""What a person does to the store: releases, discards, retries, resends, forgets, pauses.

An act is a request (see `requests`): a dataclass in `KINDS`, whose fields are its arguments. Executing it is one
transaction. A transaction over a mass change would block the daemon, so a person's act over many entries goes in steps.
After an interruption the same act does the rest.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from functools import partial
from typing import Any, Final, Generic, TypeVar

from pydantic import ConfigDict

from cdc_sync.core.batch import HistoryEntry, described
from cdc_sync.core.content import Content
from cdc_sync.core.diff import Fuse
from cdc_sync.core.events import PersonActed
from cdc_sync.core.failures import OperationError
from cdc_sync.core.outbox import EntryId, EntryState
from cdc_sync.core.reasons import Reason, fields_of
from cdc_sync.core.replies import ALL_ENDPOINTS
from cdc_sync.core.status_url import DEFAULT_ACCOUNT
from cdc_sync.store.clock import Clock
from cdc_sync.store.driver import Driver, Transaction, add_history, noted, watches_of
from cdc_sync.store.encoding import (
    ANY_ACCOUNT,
    account_mark,
    as_json,
    content_from,
    fuse_from,
    fuse_text,
    state_columns,
)
from cdc_sync.store.protocol import Only

A = TypeVar("A")
T = TypeVar("T")

STEP = 1_000
"""Most entries that an act changes in one transaction."""

NO_ACTIONS = '{"counts":{},"unlogged":[]}'
"""The note `actions` of a new store."""

_UNLOGGED = 1_000
"""Actions kept for the log while no daemon runs."""

NUMBERS = 20_000
"""Numbers of records that one transaction looks at."""

CONFIGURED = "configured"
"""The note of the last daemon's watches and accounts."""

_NO_LIMIT = 1 << 40

_FORGOTTEN = "outbox", "suspicions", "positions", "repairs", "skipped", "snapshots", "history", "fuses", "watch"
"""What is removed of a watch, by the statements `forget_…`; its row keeps others from it, and goes last."""

_NO_OTHERS = ConfigDict(extra="forbid")
"""A newer command's argument may restrict what is meant, and must not be ignored."""

Captured = Collection[str] | None
"""The watches that the leader captures; None where a command acts without a leader: then no call is under way."""


@dataclass(frozen=True, slots=True)
class Act:
    """A person's act in the transaction of who holds the store's lock.

    `now` is people's time, `due_at` the due time of what is sent for it; `captured`: see there.
    """

    transaction: Transaction
    by: PersonActed
    now: int
    due_at: int
    captured: Captured

    async def contents(self, state: EntryState, entries: Collection["SeenEntry"]) -> dict[EntryId, Content]:
        """The contents of those entries that are in this state, and that nothing has replaced since they were read."""
        if not entries:
            return {}
        rows = await self.transaction.rows("contents_in_state", state=state, keys=sorted(entries))
        contents = {tuple(row[:3]): content_from(*row[3:]) for row in rows}
        return {of[:2]: content for of in entries if (content := contents.get(of)) is not None}

    async def snapshots(
        self, ids: Iterable[str], watches: Iterable[str]
    ) -> dict[EntryId, tuple[Content | None, EntryState | None]]:
        """The last acknowledged states of these applications in these watches, each with its entry's state."""
        rows = await self.transaction.rows("snapshots", ids=sorted({*ids}), watches=sorted({*watches}))
        return {(row[0], row[1]): (content_from(*row[2:6]), row[6]) for row in rows}

    async def revive(self, state: EntryState, entries: Collection["SeenEntry"], event: str) -> list[EntryId]:
        """Send those of these entries that can be called; returns which."""
        found = await self.contents(state, entries)
        chosen = {of: content for of, content in found.items() if _is_callable(content)}
        rows = [(*of, content.endpoint, self.due_at) for of, content in sorted(chosen.items())]
        await self.transaction.write("revive", rows)
        await self.add_endpoints(chosen.values())
        return await self.done(event, chosen)

    async def add_endpoints(self, contents: Iterable[Content]) -> None:
        """Make the endpoints of what is sent known."""
        await self.transaction.write("add_endpoint", [(name,) for name in sorted({each.endpoint for each in contents})])

    async def mend_fuses(self, watch: str | None) -> None:
        """Note the decision in the blown fuses of these watches; those without a held entry are whole again."""
        transaction, decided = self.transaction, await watches_of(self.transaction, watch)
        for name, text in await transaction.rows("fuses"):
            fuse = fuse_from(text)
            if fuse.blown_at is not None and name in decided:
                is_left = (await transaction.rows("held_left", watch=name))[0][0]
                after = fuse._replace(decided_at=self.due_at) if is_left else Fuse(decided_at=self.due_at)
                await transaction.run("set_fuse", watch=name, fuse=fuse_text(after))
                if not is_left:
                    await transaction.run("forget_fuses", watch=name)

    @property
    def who(self) -> dict[str, Any]:
        """Who acts, for a line of the history."""
        who: dict[str, Any] = {"who": self.by.who}
        if isinstance(self.by.who, Reason):
            who["actor"] = fields_of(self.by.who)
        return who

    async def done(
        self, event: str, contents: Mapping[EntryId, Content | None], was: Mapping[str, str] | None = None
    ) -> list[EntryId]:
        """Write what was done into the histories of these applications, and record it; returns them."""
        lines = []
        for of, content in contents.items():
            to = None if content is None else described(content)
            lines.append(HistoryEntry(self.now, *of, event, {**(was or {}), **self.who, "to": to}))
        await add_history(self.transaction, lines)
        await record(self.transaction, self.by, len(contents))
        return list(contents)


class Request(ABC, Generic[A]):
    """A kind of request, with its arguments; `A` is its answer."""

    __pydantic_config__ = _NO_OTHERS

    by: PersonActed

    @abstractmethod
    async def execute(self, act: Act) -> A:
        """Execute it in one transaction.

        Raises:
            OperationError: it is refused, before anything of it is written.
        """


async def perform(
    transaction: Transaction, request: Request[A], clock: Clock, now: int, captured: Captured = None
) -> A:
    """Execute a request under the store's lock, at people's time `now`."""
    return await request.execute(Act(transaction, request.by, now, clock.due(now), captured))


async def execute(driver: Driver, request: Request[A], now: int) -> A:
    """Execute a request of the process that holds the store's lock."""
    return await driver.transact(partial(perform, request=request, clock=driver.clock, now=now))


SeenEntry = tuple[str, str, int]
"""Watch, application id and revision of an entry that a person decides about: as it was read, or not at all."""


@dataclass(frozen=True)
class Chosen:
    """Which entries of a state are read for a person; None means no restriction.

    Attributes:
        ids: of these applications.
        only: changes, or deletions.
        transition: of this one (`diff.transition`).
        account: of this account.
        limit: so many, the oldest first.
    """

    ids: tuple[str, ...] | None = None
    only: Only | None = None
    transition: str | None = None
    account: str | None = None
    limit: int | None = None

    def within(self, watches: list[str]) -> dict[str, Any]:
        """The parameters of statements that choose entries."""
        return {
            "watches": watches,
            "any_id": self.ids is None,
            "ids": list(self.ids or ()),
            "deleted": None if self.only is None else self.only == "deletions",
            "transition": self.transition,
            **_of_account(self.account),
            "limit": _NO_LIMIT if self.limit is None else self.limit,
        }


EVERYTHING = Chosen()


def _of_account(account: str | None) -> dict[str, Any]:
    """The mark that an account's metadata have; the default one's have none."""
    is_default = account == DEFAULT_ACCOUNT
    return {"mark": ANY_ACCOUNT if is_default else account and account_mark(account), "marked": not is_default}


async def in_steps(step: Callable[[tuple[T, ...]], Awaitable[list[EntryId]]], of: Sequence[T]) -> list[EntryId]:
    """Take a step for some of these after the other; at least one: it mends fuses without held entries."""
    done = await step(tuple(of[:STEP]))
    for first in range(STEP, len(of), STEP):
        done += await step(tuple(of[first : first + STEP]))
    return done


@dataclass(frozen=True)
class Release(Request[list[EntryId]]):
    """Let held entries be sent; the answer is which. With none left, the watches' fuses are whole again."""

    watch: str | None
    entries: tuple[SeenEntry, ...]
    by: PersonActed

    async def execute(self, act: Act) -> list[EntryId]:
        """See `Request`."""
        released = await act.revive("held", self.entries, "released")
        await act.mend_fuses(self.watch)
        return released


@dataclass(frozen=True)
class Discard(Request[list[EntryId]]):
    """Take held or dead entries as acknowledged, without a call; the answer is which."""

    state: EntryState
    watch: str | None
    entries: tuple[SeenEntry, ...]
    by: PersonActed

    async def execute(self, act: Act) -> list[EntryId]:
        """See `Request`."""
        chosen = await act.contents(self.state, self.entries)
        snapshots = await act.snapshots([id_ for _, id_ in chosen], [watch for watch, _ in chosen])
        acknowledged = []
        for of, content in sorted(chosen.items()):
            snapshot, _ = snapshots[of]
            # The account that has the application: a deletion goes there.
            state = content if snapshot is None else content._replace(account=snapshot.account)
            acknowledged.append((*of, *state_columns(state, discarded=True), act.now, False))
        await act.transaction.write("remove", sorted(chosen))
        await act.transaction.write("acknowledge", acknowledged)
        if self.state == "held":
            await act.mend_fuses(self.watch)
        return await act.done("discarded", chosen, {"was": self.state})


@dataclass(frozen=True)
class Retry(Request[list[EntryId]]):
    """Send dead letters again; the answer is which."""

    entries: tuple[SeenEntry, ...]
    by: PersonActed

    async def execute(self, act: Act) -> list[EntryId]:
        """See `Request`."""
        return await act.revive("dead", self.entries, "retried")


@dataclass(frozen=True)
class Resend(Request[list[EntryId]]):
    """Send applications' last acknowledged states once more; the answer is which are sent."""

    watch: str | None
    ids: tuple[str, ...]
    by: PersonActed

    async def execute(self, act: Act) -> list[EntryId]:
        """See `Request`."""
        transaction, due_at = act.transaction, act.due_at
        known = await act.snapshots(self.ids, await watches_of(transaction, self.watch))
        # The same or a newer state is pending: send it now.
        hastened = {of: content for of, (content, state) in known.items() if state == "pending"}
        again = {
            of: content
            for of, (content, state) in known.items()
            if state is None and content is not None and _is_callable(content)
        }
        await transaction.write("hasten", [(*of, due_at) for of in hastened])
        rest = "", "pending", due_at, due_at, None
        rows = [(*of, *state_columns(each), *rest, each.endpoint) for of, each in again.items()]
        await transaction.write("enqueue", rows)
        await act.add_endpoints(again.values())
        return await act.done("resend", dict(sorted({**hastened, **again}.items())))


@dataclass(frozen=True)
class Forget(Request[bool]):
    """Forget some more of a watch, and all its entries at once; the answer is whether there was anything."""

    watch: str
    by: PersonActed

    async def execute(self, act: Act) -> bool:
        """See `Request`: it is refused if the leader captures the watch."""
        transaction = act.transaction
        if act.captured is not None and self.watch in act.captured:
            raise OperationError(
                f"a daemon works the watch {self.watch}: take it out of that daemon's configuration, and have it reload"
            )
        is_known = bool(await transaction.rows("fuse", watch=self.watch))
        ((is_left,),) = await transaction.rows("left_of_watch", watch=self.watch)
        for what in _FORGOTTEN:
            await transaction.run(f"forget_{what}", watch=self.watch, limit=STEP)
        await record(transaction, self.by, int(is_known))  # once: this step has removed its row
        return is_known or bool(is_left)


@dataclass(frozen=True)
class ForgetAccount(Request[int]):
    """Forget an account's entries, and its records with the next `NUMBERS` numbers after `after`; returns how many."""

    account: str
    after: int
    by: PersonActed

    async def execute(self, act: Act) -> int:
        """See `Request`: it is refused if the account is configured."""
        transaction = act.transaction
        configured = await noted(transaction, CONFIGURED, '{"accounts":[]}')
        if act.captured is not None and self.account in (*configured["accounts"], DEFAULT_ACCOUNT):
            raise OperationError(f"the account {self.account} is configured: take it out, and have the daemon reload")
        mark = account_mark(self.account)
        removed = await transaction.count("forget_entries_of_account", mark=mark)
        of_numbers = {"after": self.after, "last": self.after + NUMBERS}
        records = await transaction.rows("records_of_account", mark=mark, **of_numbers)
        # What is acknowledged next for another account's entry needs the record.
        await transaction.write("unacknowledge", sorted(of for *of, has_entry in records if has_entry))
        await forget_records(transaction, sorted((watch, id_) for watch, id_, has_entry in records if not has_entry))
        await record(transaction, self.by, removed + len(records))
        return removed + len(records)


_UNFINISHED: Final[dict[str | None, str]] = {
    "pending": "an entry of it is pending: wait until HelloWork has acknowledged it",
    "held": "an entry of it is held: `cdc-sync fuse show` shows why; release or discard it first",
    "dead": "it has a dead letter: `cdc-sync dead-letters retry` or `discard` decides about it first",
    None: "HelloWork has not acknowledged its deletion yet: that follows the next sweep, or `cdc-sync forget WATCH` "
    "removes all that the store has of a watch that is no longer configured",
}
"""Why an application is not forgotten, by its entry's state."""


@dataclass(frozen=True)
class ForgetApplication(Request[int]):
    """Forget an application in these watches, with its history; returns how many rows the store had of it.

    Who asks has looked whether a row has the id.
    """

    application_id: str
    watch: str | None
    by: PersonActed

    async def execute(self, act: Act) -> int:
        """See `Request`: it is refused while HelloWork is still to receive something of it."""
        transaction = act.transaction
        which = {"id": self.application_id, "watches": await watches_of(transaction, self.watch)}
        for watch, state in await transaction.rows("unfinished", **which):
            raise OperationError(f"{self.application_id} of the watch {watch} is not forgotten: {_UNFINISHED[state]}")
        found = await transaction.rows("left_of_application", **which)
        if found:
            await forget_records(transaction, [(watch, self.application_id) for watch, is_record in found if is_record])
            await forget_traces(transaction, sorted({(watch, self.application_id) for watch, _ in found}))
            detail = {**act.who, "count": len(found)}
            await add_history(transaction, [HistoryEntry(act.now, self.watch or "", "", "forgotten", detail)])
            await record(transaction, self.by, len(found))
        return len(found)


@dataclass(frozen=True)
class Pause(Request[list[str]]):
    """Pause sending to an endpoint; the answer is which are paused."""

    endpoint: str
    by: PersonActed

    async def execute(self, act: Act) -> list[str]:
        """See `Request`."""
        paused = self._after({*await noted(act.transaction, "paused", "[]")})
        await act.transaction.run("set_about", name="paused", value=as_json(sorted(paused)))
        await record(act.transaction, self.by, 1)
        return sorted(paused)

    def _after(self, paused: set[str]) -> set[str]:
        """What is paused then."""
        return paused | {self.endpoint}


@dataclass(frozen=True)
class Resume(Pause):
    """End a pause, or each with `ALL_ENDPOINTS`; the answer is which are still paused."""

    def _after(self, paused: set[str]) -> set[str]:
        return set() if self.endpoint == ALL_ENDPOINTS else paused - {self.endpoint}


KINDS: Final[dict[str, type[Request[Any]]]] = {
    "release": Release,
    "discard": Discard,
    "retry": Retry,
    "resend": Resend,
    "forget": Forget,
    "forget account": ForgetAccount,
    "forget application": ForgetApplication,
    "pause": Pause,
    "resume": Resume,
}
"""All kinds, by the name in the table: there are no others."""


def _is_callable(content: Content) -> bool:
    """Whether it has a usable URL; otherwise discard the entry, or correct it in the ATS."""
    try:
        _ = content.endpoint
    except ValueError:
        return False
    return True


async def forget_records(transaction: Transaction, records: Sequence[EntryId]) -> None:
    """Remove records without an entry."""
    await transaction.write("forget_application", records)
    await transaction.write("answer", records)
    for watch, number in sorted(Counter(watch for watch, _ in records).items()):
        await transaction.write("tally", [(-number, None, None, watch)])


async def forget_traces(transaction: Transaction, of: Sequence[EntryId]) -> None:
    """Remove what else the store has of applications: their histories, and their rows that cannot be reported."""
    await transaction.write("forget_lines", of)
    await transaction.write("forget_rows", of)


async def record(transaction: Transaction, by: PersonActed, number: int) -> None:
    """Record how many entries a person's action affected; its steps count as one action."""
    if not number:
        return
    actions, action = await noted(transaction, "actions", NO_ACTIONS), list(astuple(replace(by, count=0)))
    unlogged = [PersonActed(*each) for each in actions["unlogged"]]
    if actions.get("last") != action:
        actions["counts"][by.action] = actions["counts"].get(by.action, 0) + 1
    elif unlogged and list(astuple(replace(unlogged[-1], count=0))) == action:
        number += unlogged.pop().count
    unlogged.append(replace(by, count=number))
    actions |= {"unlogged": [astuple(each) for each in unlogged[-_UNLOGGED:]], "last": action}
    await transaction.run("set_about", name="actions", value=as_json(actions))
