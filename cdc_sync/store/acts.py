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

from cdc_sync.core.batch import NOTHING_MORE, HistoryLine, described
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
    discarded_columns,
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
class Holder:
    """Who holds the store's lock: when it acts, and what it captures.

    `now` is people's time, `due_at` the due time of what is sent for the act.
    """

    now: int
    due_at: int
    captured: Captured


def holder(clock: Clock, now: int, captured: Captured = None) -> Holder:
    """Who holds the store's lock acts at people's time `now`."""
    return Holder(now, clock.due(now), captured)


class Request(ABC, Generic[A]):
    """A kind of request, with its arguments; `A` is its answer."""

    __pydantic_config__ = _NO_OTHERS

    @abstractmethod
    async def execute(self, transaction: Transaction, holder: Holder) -> A:
        """Execute it in one transaction.

        Raises:
            OperationError: it is refused, and nothing of it is kept.
        """


async def execute(driver: Driver, request: Request[A], now: int) -> A:
    """Execute a request of the process that holds the store's lock."""
    return await driver.transact(partial(request.execute, holder=holder(driver.clock, now)))


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


EVERYTHING = Chosen()


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

    async def execute(self, transaction: Transaction, holder: Holder) -> list[EntryId]:
        """See `Request`."""
        chosen = await _contents(transaction, "held", self.entries)
        await _revive(transaction, chosen, holder, "released", self.by)
        await _mend_fuses(transaction, self.watch, holder.due_at)
        await record(transaction, self.by, len(chosen))
        return list(chosen)


@dataclass(frozen=True)
class Discard(Request[list[EntryId]]):
    """Take held or dead entries as acknowledged, without a call; the answer is which."""

    state: EntryState
    watch: str | None
    entries: tuple[SeenEntry, ...]
    by: PersonActed

    async def execute(self, transaction: Transaction, holder: Holder) -> list[EntryId]:
        """See `Request`."""
        chosen, now = await _contents(transaction, self.state, self.entries), holder.now
        snapshots = await _snapshots(transaction, [id_ for _, id_ in chosen], [watch for watch, _ in chosen])
        states = {of: _of_its_account(content, snapshots[of][0]) for of, content in sorted(chosen.items())}
        acknowledged = [(*of, *discarded_columns(state), now, False) for of, state in states.items()]
        await transaction.write("remove", sorted(chosen))
        await transaction.write("acknowledge", acknowledged)
        was = {"was": self.state}
        history = [_line(now, of, "discarded", content, self.by, was) for of, content in chosen.items()]
        await add_history(transaction, history)
        if self.state == "held":
            await _mend_fuses(transaction, self.watch, holder.due_at)
        await record(transaction, self.by, len(chosen))
        return list(chosen)


@dataclass(frozen=True)
class Retry(Request[list[EntryId]]):
    """Send dead letters again; the answer is which."""

    entries: tuple[SeenEntry, ...]
    by: PersonActed

    async def execute(self, transaction: Transaction, holder: Holder) -> list[EntryId]:
        """See `Request`."""
        found = await _contents(transaction, "dead", self.entries)
        chosen = {of: content for of, content in found.items() if _is_callable(content)}
        await _revive(transaction, chosen, holder, "retried", self.by)
        await record(transaction, self.by, len(chosen))
        return list(chosen)


@dataclass(frozen=True)
class Resend(Request[list[EntryId]]):
    """Send applications' last acknowledged states once more; the answer is which are sent."""

    watch: str | None
    ids: tuple[str, ...]
    by: PersonActed

    async def execute(self, transaction: Transaction, holder: Holder) -> list[EntryId]:
        """See `Request`."""
        watches, due_at = sorted(await watches_of(transaction, self.watch)), holder.due_at
        known = await _snapshots(transaction, self.ids, watches)
        # The same or a newer state is pending: send it now.
        hastened = [of for of, (_, state) in known.items() if state == "pending"]
        again = {
            of: content
            for of, (content, state) in known.items()
            if state is None and content is not None and _is_callable(content)
        }
        await transaction.write("hasten", [(*of, due_at) for of in hastened])
        rest = "", "pending", due_at, due_at, None
        rows = [(*of, *state_columns(each), *rest, each.endpoint) for of, each in again.items()]
        await transaction.write("enqueue", rows)
        found = [of for of in known if of in again or of in hastened]
        await add_history(transaction, [_line(holder.now, of, "resend", known[of][0], self.by) for of in found])
        await transaction.write("add_endpoint", _endpoints(again.values()))
        await record(transaction, self.by, len(found))
        return found


@dataclass(frozen=True)
class Forget(Request[bool]):
    """Forget some more of a watch, and all its entries at once; the answer is whether there was anything."""

    watch: str
    by: PersonActed

    async def execute(self, transaction: Transaction, holder: Holder) -> bool:
        """See `Request`: it is refused if the leader captures the watch."""
        if holder.captured is not None and self.watch in holder.captured:
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

    async def execute(self, transaction: Transaction, holder: Holder) -> int:
        """See `Request`: it is refused if the account is configured."""
        configured = await noted(transaction, CONFIGURED, '{"accounts":[]}')
        if holder.captured is not None and self.account in (*configured["accounts"], DEFAULT_ACCOUNT):
            raise OperationError(f"the account {self.account} is configured: take it out, and have the daemon reload")
        mark = account_mark(self.account)
        removed = await transaction.count("forget_entries_of_account", mark=mark)
        of_numbers = {"after": self.after, "last": self.after + NUMBERS}
        records = await transaction.rows("records_of_account", mark=mark, **of_numbers)
        # What is acknowledged next for another account's entry needs the record.
        await transaction.write("unacknowledge", sorted(of for *of, has_entry in records if has_entry))
        gone = sorted(of for *of, has_entry in records if not has_entry)
        await transaction.write("forget_application", gone)
        await transaction.write("answer_of", gone)
        for watch, number in sorted(Counter(watch for watch, _ in gone).items()):
            await transaction.write("tally", [(-number, None, None, watch)])
        await record(transaction, self.by, removed + len(records))
        return removed + len(records)


@dataclass(frozen=True)
class Pause(Request[list[str]]):
    """Pause sending to an endpoint; the answer is which are paused."""

    endpoint: str
    by: PersonActed

    async def execute(self, transaction: Transaction, holder: Holder) -> list[str]:  # noqa: ARG002 - see `Request`
        """See `Request`."""
        await record(transaction, self.by, 1)
        return await _set_paused(transaction, {self.endpoint, *await noted(transaction, "paused", "[]")})


@dataclass(frozen=True)
class Resume(Request[list[str]]):
    """End a pause, or each with `ALL_ENDPOINTS`; the answer is which are still paused."""

    endpoint: str
    by: PersonActed

    async def execute(self, transaction: Transaction, holder: Holder) -> list[str]:  # noqa: ARG002 - see `Request`
        """See `Request`."""
        await record(transaction, self.by, 1)
        paused = set() if self.endpoint == ALL_ENDPOINTS else {*await noted(transaction, "paused", "[]")}
        return await _set_paused(transaction, paused - {self.endpoint})


KINDS: Final[dict[str, type[Request[Any]]]] = {
    "release": Release,
    "discard": Discard,
    "retry": Retry,
    "resend": Resend,
    "forget": Forget,
    "forget account": ForgetAccount,
    "pause": Pause,
    "resume": Resume,
}
"""All kinds, by the name in the table: there are no others."""


async def _set_paused(transaction: Transaction, paused: Collection[str]) -> list[str]:
    await transaction.run("set_about", name="paused", value=as_json(sorted(paused)))
    return sorted(paused)


async def _contents(
    transaction: Transaction, state: EntryState, entries: Collection[SeenEntry]
) -> dict[EntryId, Content]:
    """The contents of those entries that are in this state, and that nothing has replaced since they were read."""
    if not entries:
        return {}
    rows = await transaction.rows("contents_in_state", state=state, keys=sorted(entries))
    contents = {tuple(row[:3]): content_from(*row[3:]) for row in rows}
    return {of[:2]: content for of in entries if (content := contents.get(of)) is not None}


async def _snapshots(
    transaction: Transaction, ids: Collection[str], watches: Collection[str]
) -> dict[EntryId, tuple[Content | None, EntryState | None]]:
    """The last acknowledged states of these applications in these watches, each with its entry's state."""
    rows = await transaction.rows("snapshots", ids=sorted({*ids}), watches=sorted({*watches}))
    return {(row[0], row[1]): (content_from(*row[2:6]), row[6]) for row in rows}


def _of_its_account(content: Content, snapshot: Content | None) -> Content:
    """A discarded content as the state of the account that has the application: a deletion goes there."""
    return content if snapshot is None else content._replace(account=snapshot.account)


def parameters(watches: Iterable[str], chosen: Chosen) -> dict[str, Any]:
    """Of the statements that choose entries."""
    return {
        "watches": list(watches),
        "any_id": chosen.ids is None,
        "ids": list(chosen.ids or ()),
        "deleted": None if chosen.only is None else chosen.only == "deletions",
        "transition": chosen.transition,
        **_of_account(chosen.account),
        "limit": _NO_LIMIT if chosen.limit is None else chosen.limit,
    }


def _of_account(account: str | None) -> dict[str, Any]:
    """The mark that an account's metadata have; the default one's have none."""
    is_default = account == DEFAULT_ACCOUNT
    return {"mark": ANY_ACCOUNT if is_default else account and account_mark(account), "marked": not is_default}


def _line(  # noqa: PLR0917 - in the order of what is written
    at: int, of: EntryId, event: str, content: Content | None, by: PersonActed, was: Mapping[str, str] = NOTHING_MORE
) -> HistoryLine:
    actor = {"actor": fields_of(by.who)} if isinstance(by.who, Reason) else {}
    to = None if content is None else described(content)
    return HistoryLine(at, *of, event, {**was, "who": by.who, **actor, "to": to})


def _is_callable(content: Content) -> bool:
    """Whether it has a usable URL; otherwise discard the entry, or correct it in the ATS."""
    try:
        _ = content.endpoint
    except ValueError:
        return False
    return True


async def _revive(
    transaction: Transaction, chosen: Mapping[EntryId, Content], holder: Holder, event: str, by: PersonActed
) -> None:
    rows = [(*of, content.endpoint, holder.due_at) for of, content in sorted(chosen.items())]
    await transaction.write("revive", rows)
    history = [_line(holder.now, of, event, content, by) for of, content in chosen.items()]
    await add_history(transaction, history)
    await transaction.write("add_endpoint", _endpoints(chosen.values()))


async def _mend_fuses(transaction: Transaction, watch: str | None, now: int) -> None:
    """Note the decision in the blown fuses of these watches; those without a held entry are whole again."""
    decided = await watches_of(transaction, watch)
    for name, text in await transaction.rows("fuses"):
        fuse = fuse_from(text)
        if fuse.blown_at is not None and name in decided:
            is_left = (await transaction.rows("held_left", watch=name))[0][0]
            after = fuse._replace(decided_at=now) if is_left else Fuse(decided_at=now)
            await transaction.run("set_fuse", watch=name, fuse=fuse_text(after))
            if not is_left:
                await transaction.run("forget_fuses", watch=name)


def _endpoints(contents: Iterable[Content]) -> list[tuple[str]]:
    return [(endpoint,) for endpoint in sorted({content.endpoint for content in contents})]


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
