"""What a person does to the store: releases, discards, retries, resends, forgets, pauses.

An act is a request: a dataclass in `KINDS`, whose fields are its arguments, checked when they are read, since a command
may be of another version than the leader. Executing it is one transaction. A transaction over a mass change would block
the daemon, so a person's act over many entries goes in steps, each an action of its own. After an interruption the same
act does the rest.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Final, Generic, Literal, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from cdc_sync.core.batch import HistoryEntry, described
from cdc_sync.core.content import Content
from cdc_sync.core.events import PersonActed
from cdc_sync.core.failures import OperationError, StoreError
from cdc_sync.core.fuse import Fuse
from cdc_sync.core.outbox import Entry, EntryId, EntryState
from cdc_sync.core.reasons import Reason, fields_of
from cdc_sync.core.replies import ALL_ENDPOINTS
from cdc_sync.core.status_url import DEFAULT_ACCOUNT

from . import encoding
from .clock import Clock
from .driver import Row, Transaction, Watches, add_history, by_first, known_in, note, value, watches_of
from .errors import message
from .report import record_from

A = TypeVar("A")
T = TypeVar("T")

STEP = 1_000
"""Most entries that an act changes in one transaction."""

DEADLINE: Final = 30.0
"""Seconds after which a request is not executed any more."""

NUMBERS = 20_000
"""Numbers of records that one transaction looks at."""

CONFIGURED = "configured"
"""The note of the last daemon's watches and accounts."""

_NO_LIMIT = 1 << 40

_FORGOTTEN_AT_ONCE = "outbox", "suspicions", "positions", "repairs", "fuses"
"""What is removed of a watch in the first step, by the statements `forget_…`."""

Captured = Collection[str] | None
"""The watches that the leader captures; None where a command acts without a leader: then no call is under way."""


@dataclass(frozen=True, slots=True)
class Act:
    """A person's act in the transaction of who holds the store's lock.

    `now` is people's time, `due_at` the due time of what is sent for it; `captured`: see there. `done` is for the log.
    """

    transaction: Transaction
    by: PersonActed
    now: int
    due_at: int
    captured: Captured
    done: list[PersonActed] = field(default_factory=list)

    async def send(self, statement: str, rows: Sequence[Row]) -> None:
        """Run a statement that has entries sent; each row ends with its endpoint, which becomes known."""
        await self.transaction.write(statement, rows)
        await self.transaction.write("add_endpoint", [(endpoint,) for endpoint in sorted({row[-1] for row in rows})])

    async def mend_fuses(self, watch: Watches) -> None:
        """Note the decision in the blown fuses of these watches; those without a held entry are whole again."""
        transaction, decided = self.transaction, set(await watches_of(self.transaction, watch))
        for name, text in await transaction.run("fuses"):
            fuse = encoding.stored_from(Fuse, text)
            if name not in decided or fuse.blown_at is None:
                continue
            if not await value(transaction, "held_left", watch=name):
                fuse = Fuse()
                await transaction.run("forget_fuses", watch=name)
            noted = encoding.stored_text(fuse._replace(decided_at=self.due_at))
            await transaction.run("set_fuse", watch=name, fuse=noted)

    @property
    def who(self) -> dict[str, Any]:
        """Who acts, for a line of the history."""
        who: dict[str, Any] = {"who": self.by.who}
        if isinstance(self.by.who, Reason):
            who["actor"] = fields_of(self.by.who)
        return who

    async def note(
        self, event: str, contents: Mapping[EntryId, Content | None], was: Mapping[str, str] | None = None
    ) -> list[EntryId]:
        """Write what was done into the histories of these applications; returns them."""
        states = {of: content and described(content) for of, content in contents.items()}
        lines = [HistoryEntry(self.now, *of, event, {**(was or {}), **self.who, "to": to}) for of, to in states.items()]
        await add_history(self.transaction, lines)
        self.count(len(contents))
        return list(contents)

    def count(self, number: int) -> None:
        """So many entries were affected."""
        if number:
            self.done.append(replace(self.by, count=number))


class Request(ABC, Generic[A]):
    """A kind of request, with its arguments; `A` is its answer."""

    # A newer command's argument may restrict what is meant, and must not be ignored.
    __pydantic_config__ = ConfigDict(extra="forbid")

    by: PersonActed

    @abstractmethod
    async def execute(self, act: Act) -> A:
        """Execute it in one transaction.

        Raises:
            OperationError: it is refused, before anything of it is written.
        """


Only = Literal["changes", "deletions"]

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
        # The default account leaves no mark.
        is_default = self.account == DEFAULT_ACCOUNT
        return {
            "watches": watches,
            "any_id": self.ids is None,
            "ids": list(self.ids or ()),
            "deleted": None if self.only is None else self.only == "deletions",
            "transition": self.transition,
            "mark": encoding.ANY_ACCOUNT if is_default else self.account and encoding.account_mark(self.account),
            "marked": not is_default,
            "limit": _NO_LIMIT if self.limit is None else self.limit,
        }


EVERYTHING = Chosen()


async def in_steps(step: Callable[[tuple[T, ...]], Awaitable[list[EntryId]]], of: Sequence[T]) -> list[EntryId]:
    """Take a step for some of these after the other; at least one: it mends fuses without held entries."""
    done = list[EntryId]()
    for first in range(0, len(of) or 1, STEP):
        done += await step(tuple(of[first : first + STEP]))
    return done


@dataclass(frozen=True)
class Decide(Request[list[EntryId]]):
    """Decide about entries in a state; the answer is about which.

    One that is in another state by now, or was replaced since it was read, is left out. With no entry held any more,
    the fuses of the entries' watches are whole again; without entries, those of `watch`.
    """

    state: EntryState
    watch: str | None
    entries: tuple[SeenEntry, ...]
    by: PersonActed

    async def execute(self, act: Act) -> list[EntryId]:
        """See `Request`."""
        current = map(encoding.entry_from, await act.transaction.run("current", ids=sorted(self.entries)))
        found = {(*entry.id, entry.revision): entry.content for entry in current if entry.state == self.state}
        contents = {of[:2]: found[of] for of in self.entries if of in found}
        done = await self.decide(act, contents)
        if self.state == "held":
            await act.mend_fuses({name for name, _, _ in self.entries} or self.watch)
        return done

    @abstractmethod
    async def decide(self, act: Act, contents: Mapping[EntryId, Content]) -> list[EntryId]:
        """Decide about the entries with these contents; returns about which."""


class Send(Decide):
    """Release held entries, or retry dead ones, if they can be called."""

    async def decide(self, act: Act, contents: Mapping[EntryId, Content]) -> list[EntryId]:
        """See `Decide`."""
        chosen = {of: content for of, content in contents.items() if _is_callable(content)}
        await act.send("revive", [(*of, act.due_at, content.endpoint) for of, content in sorted(chosen.items())])
        # A row may have come back since: a fresh read confirms that it is gone.
        gone = {of: content for of, content in sorted(chosen.items()) if content.deleted}
        await act.transaction.write("suspect", [(*of, each.event_date, act.due_at) for of, each in gone.items()])
        return await act.note("released" if self.state == "held" else "retried", chosen)


class Discard(Decide):
    """Take entries as acknowledged, without a call."""

    async def decide(self, act: Act, contents: Mapping[EntryId, Content]) -> list[EntryId]:
        """See `Decide`."""
        acknowledged = list[Row]()
        for watch, ids in by_first(sorted(contents)).items():
            for id_, known in (await known_in(act.transaction, watch, [id_ for (id_,) in ids])).items():
                state = contents[watch, id_]
                # The account that has the application: a deletion goes there.
                state = state._replace(account=(known.snapshot or state).account)
                acknowledged.append((watch, id_, *encoding.state_columns(state, discarded=True), act.now, False))
        await act.transaction.write("remove", sorted(contents))
        await act.transaction.write("acknowledge", acknowledged)
        return await act.note("discarded", contents, {"was": self.state})


@dataclass(frozen=True)
class Resend(Request[list[EntryId]]):
    """Send applications once more that are in their acknowledged states; the answer is which are sent.

    `states` are the present ones: address and account may have changed. Another state is the capture's to send.
    """

    watch: str
    states: tuple[tuple[str, Content], ...]
    by: PersonActed

    async def execute(self, act: Act) -> list[EntryId]:
        """See `Request`."""
        due_at, hastened, again = act.due_at, dict[EntryId, Content | None](), dict[EntryId, Content]()
        states = dict(self.states)
        for id_, known in sorted((await known_in(act.transaction, self.watch, list(states))).items()):
            of, snapshot, entry = (self.watch, id_), known.snapshot, known.entry
            if entry is not None and entry.state == "pending":
                hastened[of] = snapshot  # the same or a newer state is pending: send it now
            elif entry is None and snapshot is not None and states[id_].same_as(snapshot):
                again[of] = states[id_]._replace(event_date=snapshot.event_date)
        await act.transaction.write("set_entry_due", [(*of, due_at) for of in hastened])
        entries = [
            Entry(*of, content, frozenset(), "pending", due_at, due_at, due_at, attempted=False)
            for of, content in again.items()
        ]
        await act.send("enqueue", [(each.watch, *encoding.enqueue_columns(each)) for each in entries])
        resent = {**hastened, **again}
        # A change that is undone before does not cancel it.
        await act.transaction.write("mark_attempted", sorted(resent))
        return await act.note("resend", resent)


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
        some = {"watch": self.watch, "limit": STEP}
        is_known = bool(await transaction.run("fuse", watch=self.watch))
        records, lines = await transaction.run("some_records", **some), await transaction.run("some_lines", **some)
        skipped = [row[:2] for row in await transaction.run("skipped_of_each", watches=[self.watch], limit=STEP)]
        await transaction.write("forget_application", records)
        await transaction.write("prune", lines)
        await transaction.write("unskip", skipped)
        for what in _FORGOTTEN_AT_ONCE:
            await transaction.run(f"forget_{what}", watch=self.watch)
        if records or lines or skipped:
            return True
        # Last: by this row, an interrupted command finds the rest.
        await transaction.run("forget_watch", watch=self.watch)
        act.count(int(is_known))
        return is_known


@dataclass(frozen=True)
class ForgetAccount(Request[int]):
    """Forget an account's entries, and its records with the next `NUMBERS` numbers after `after`; returns how many."""

    account: str
    after: int
    by: PersonActed

    async def execute(self, act: Act) -> int:
        """See `Request`: it is refused if the account is configured."""
        transaction = act.transaction
        configured = encoding.of_json(await note(transaction, CONFIGURED, '{"accounts":[]}'))
        if act.captured is not None and self.account in (*configured["accounts"], DEFAULT_ACCOUNT):
            raise OperationError(f"the account {self.account} is configured: take it out, and have the daemon reload")
        mark = encoding.account_mark(self.account)
        entries = await transaction.run("entries_of_account", mark=mark)
        await transaction.write("remove", entries)
        for watch in sorted({watch for watch, _ in entries}):
            await mend(transaction, watch)
        last = self.after + NUMBERS
        records = await transaction.run("records_of_account", mark=mark, after=self.after, last=last)
        # What is acknowledged next for another account's entry needs the record.
        await transaction.write("unacknowledge", sorted(of for *of, has_entry in records if has_entry))
        await forget_records(transaction, sorted((watch, id_) for watch, id_, has_entry in records if not has_entry))
        act.count(len(entries) + len(records))
        return len(entries) + len(records)


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
        records = [record_from(self.application_id, row) for row in await transaction.run("records", **which)]
        for record in records:
            is_alive = record.in_scope and record.snapshot is not None and not record.snapshot.deleted
            if record.entry is not None or record.suspicion is not None or is_alive:
                raise OperationError(
                    f"{self.application_id} of the watch {record.watch} is not forgotten: HelloWork is still to "
                    f"receive something of it; `cdc-sync explain {self.application_id}` shows what"
                )
        lines = await transaction.run("story", id=self.application_id, limit=_NO_LIMIT)
        found = [row[0] for row in await transaction.run("skipped_rows", **which)]
        found += [row[1] for row in lines if row[1] in which["watches"]]
        found += [record.watch for record in records]
        if found:
            await forget_records(transaction, [(record.watch, self.application_id) for record in records])
            await forget_traces(transaction, [(watch, self.application_id) for watch in sorted(set(found))])
            detail = {**act.who, "count": len(found)}
            await add_history(transaction, [HistoryEntry(act.now, self.watch or "", "", "forgotten", detail)])
            act.count(len(found))
        return len(found)


@dataclass(frozen=True)
class Pause(Request[list[str]]):
    """Pause sending to an endpoint; the answer is which are paused."""

    endpoint: str
    by: PersonActed

    async def execute(self, act: Act) -> list[str]:
        """See `Request`."""
        after = sorted(self.after(await paused(act.transaction)))
        await act.transaction.run("set_about", name="paused", value=encoding.as_json(after))
        act.count(1)
        return after

    def after(self, before: frozenset[str]) -> frozenset[str]:
        """What is paused then."""
        return before | {self.endpoint}


class Resume(Pause):
    """End a pause, or each with `ALL_ENDPOINTS`; the answer is which are still paused."""

    def after(self, before: frozenset[str]) -> frozenset[str]:
        """See `Pause`."""
        return frozenset() if self.endpoint == ALL_ENDPOINTS else before - {self.endpoint}


async def paused(transaction: Transaction) -> frozenset[str]:
    """The endpoints that an operator has paused; see `ALL_ENDPOINTS`."""
    return frozenset(encoding.of_json(await note(transaction, "paused", "[]")))


KINDS: Final[dict[str, type[Request[Any]]]] = {
    kind.__name__: kind for kind in (Send, Discard, Resend, Forget, ForgetAccount, ForgetApplication, Pause, Resume)
}
"""All kinds, by the name in the table: there are no others."""


@cache
def arguments_of(kind: type[Request[Any]]) -> TypeAdapter[Request[Any]]:
    """What writes and reads a kind's arguments."""
    return TypeAdapter(kind)


async def answered(
    transaction: Transaction, what: str, arguments: str, clock: Clock, captured: Captured
) -> tuple[dict[str, Any], list[PersonActed]]:
    """Execute a request of a kind with these arguments, as JSON; returns its answer, and what was done."""
    try:
        request = arguments_of(KINDS[what]).validate_json(arguments)
    except (KeyError, ValidationError):
        return {"refused": message("request-unknown", what=what)}, []
    now = clock.for_people()
    act = Act(transaction, request.by, now, clock.due(now), captured)
    try:
        return {"done": await request.execute(act)}, act.done
    except StoreError:
        raise
    except OperationError as error:
        return {"refused": str(error)}, []


def read_answer(answer: str) -> Any:
    """What a request's answer says.

    Raises:
        OperationError: the request was refused.
    """
    found = encoding.of_json(answer)
    if "refused" in found:
        raise OperationError(found["refused"])
    return found["done"]


def _is_callable(content: Content) -> bool:
    """Whether a dead letter has a usable URL; otherwise discard it, or correct it in the ATS."""
    try:
        _ = content.endpoint
    except ValueError:
        return False
    return True


async def mend(transaction: Transaction, watch: str) -> None:
    """Make a watch's fuse whole again if no entry is held."""
    fuse = encoding.stored_from(Fuse, await value(transaction, "fuse", watch=watch))
    is_left = await value(transaction, "held_left", watch=watch)
    if fuse.blown_at is not None and not fuse.holds_all and not is_left:
        whole = encoding.stored_text(fuse._replace(blown_at=None, reason=None))
        await transaction.run("set_fuse", watch=watch, fuse=whole)


async def forget_records(transaction: Transaction, records: Sequence[EntryId]) -> None:
    """Remove records without an entry."""
    await transaction.write("forget_application", records)
    await transaction.write("answer", records)
    for watch, number in sorted(Counter(watch for watch, _ in records).items()):
        await transaction.write("tally", [(watch, -number, None, None)])


async def forget_traces(transaction: Transaction, of: Sequence[EntryId]) -> None:
    """Remove what else the store has of applications: their histories, and their rows that cannot be reported."""
    await transaction.write("forget_lines", of)
    await transaction.write("forget_rows", of)
