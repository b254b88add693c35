"""The store for operators and the daemon's housekeeping: release, discard, retry, resend, and small notes.

A transaction over a mass change would block the daemon. So what a person does goes in steps, each a transaction. After
an interruption the same command does the rest.
"""

import json
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from itertools import groupby, islice
from typing import Any, TypedDict, TypeVar, Unpack

from cdc_sync.core.batch import HistoryLine, described
from cdc_sync.core.content import Content, quoted
from cdc_sync.core.diff import Fuse
from cdc_sync.core.events import PersonActed
from cdc_sync.core.failures import OperationError
from cdc_sync.core.outbox import EntryState
from cdc_sync.core.reasons import Reason, as_text, from_text, joined
from cdc_sync.core.replies import ALL_ENDPOINTS
from cdc_sync.core.status_url import endpoint_of
from cdc_sync.store.clock import Clock
from cdc_sync.store.driver import Driver, EntryId, Transaction, about, noted, watches_of
from cdc_sync.store.encoding import as_json, content_from, discarded_columns, fuse_from, fuse_text, state_columns
from cdc_sync.store.protocol import CALL_STEP, Condition, Groups, HeldGroup, Only

T = TypeVar("T")

_NO_LIMIT = 1 << 40

_UNLOGGED = 1_000
"""Actions kept for the log while no daemon runs."""

EXAMPLES = 5
"""Applications named of each group of held entries."""

STEP = 1_000
"""Most entries that a person's action changes in one transaction."""

_FORGOTTEN = "outbox", "suspicions", "positions", "repairs", "skipped", "snapshots", "history", "watch"
"""What `forget` removes of a watch, by the statements `forget_…`; its row keeps others from it, and goes last."""


class Selection(TypedDict, total=False):
    """Which outbox entries of a state a person means; None means no restriction.

    `limit` selects the oldest. `groups` selects held entries, and needs no limit. `entries` are exactly these.
    """

    entries: Sequence[EntryId] | None

    ids: Sequence[str] | None
    only: Only | None
    transition: str | None
    limit: int | None
    groups: Groups | None


@dataclass(frozen=True, slots=True)
class Moment:
    """When a person acts: people's time, and the due time of what is sent for it."""

    now: int
    due_at: int


def moment(clock: Clock, now: int) -> Moment:
    """People's `now` with its due time."""
    return Moment(now, clock.due(now))


Captured = Collection[str] | None
"""The watches that the leader captures; None where a command acts without a leader: then no call is under way."""


@dataclass
class Operation:
    """See the module's text."""

    driver: Driver

    async def fuses(self) -> dict[str, Fuse]:
        """The fuses that ever counted anything, by watch."""
        return {watch: fuse_from(fuse) for watch, fuse in await self.driver.ask("fuses")}

    async def held_groups(self, watch: str | Collection[str] | None, **selection: Unpack[Selection]) -> list[HeldGroup]:
        """The held entries of a selection, by watch, the largest group first."""
        shift = self.driver.clock.shift

        async def work(transaction: Transaction) -> list[HeldGroup]:
            chosen = _parameters(await watches_of(transaction, watch), selection)
            rows = await transaction.rows("held_groups", examples=EXAMPLES, **chosen)
            found = []
            for (name, what, number, since, *why), of_group in groupby(rows, lambda row: row[:-1]):
                reason = joined(sorted({from_text(each) or "" for each in why}))
                found.append(HeldGroup(name, what, number, since + shift, reason, tuple(row[-1] for row in of_group)))
            return found

        return await self.driver.transact(work)

    async def release_held(
        self, watch: str | None, now: int, *, by: PersonActed | None = None, **selection: Unpack[Selection]
    ) -> list[EntryId]:
        """Let held entries be sent; returns them. With none left, the fuse is whole again."""
        at = moment(self.driver.clock, now)
        return await in_steps(lambda part: self.driver.transact(lambda t: release(t, at, watch, part, by)), selection)

    async def discard(
        self,
        state: EntryState,
        watch: str | None,
        now: int,
        *,
        by: PersonActed | None = None,
        **selection: Unpack[Selection],
    ) -> list[EntryId]:
        """Take held or dead entries as acknowledged without a call; returns them."""
        at = moment(self.driver.clock, now)
        return await in_steps(
            lambda part: self.driver.transact(lambda t: discard(t, at, state, watch, part, by)), selection
        )

    async def dead_letters(self, watch: str | None, ids: Sequence[str] | None = None) -> list[EntryId]:
        """All dead letters, or those of these applications, the oldest first."""

        async def work(transaction: Transaction) -> list[EntryId]:
            which = _parameters(await watches_of(transaction, watch), {"ids": ids})
            rows = await transaction.rows("in_state", state="dead", **which)
            return [(name, id_) for name, id_ in rows]

        return await self.driver.transact(work)

    async def retry_dead(
        self, watch: str | None, now: int, *, by: PersonActed | None = None, ids: Sequence[str] | None = None
    ) -> list[EntryId]:
        """Make dead letters (`ids` None: all) pending again; returns them."""
        at, letters = moment(self.driver.clock, now), await self.dead_letters(watch, ids)
        return await for_some(lambda some: self.driver.transact(lambda t: retry(t, at, some, by)), letters)

    async def resend(
        self, watch: str | None, ids: Sequence[str], now: int, *, by: PersonActed | None = None
    ) -> list[EntryId]:
        """Enqueue the last acknowledged states again; returns the entries found."""
        at = moment(self.driver.clock, now)
        return await for_some(lambda some: self.driver.transact(lambda t: resend(t, at, watch, some, by)), ids)

    async def paused(self) -> frozenset[str]:
        """The endpoints that an operator has paused; see `ALL_ENDPOINTS`."""
        return frozenset(json.loads(await self.driver.note("paused") or "[]"))

    async def pause(self, endpoint: str) -> None:
        """Pause sending to an endpoint."""
        await self.driver.transact(lambda t: pause(t, endpoint))

    async def resume(self, endpoint: str) -> frozenset[str]:
        """End a pause, or each with `ALL_ENDPOINTS`; returns the remaining ones."""
        return await self.driver.transact(lambda t: resume(t, endpoint))

    async def record_action(self, acted: PersonActed) -> None:
        """Count a person's action, and keep it for a daemon's log."""
        await self.driver.transact(lambda t: record(t, acted, acted.count))

    async def take_actions(self) -> list[PersonActed]:
        """Remove and return the actions that no daemon has logged."""

        async def work(transaction: Transaction) -> list[PersonActed]:
            if not json.loads(await about(transaction, "actions") or _NO_ACTIONS)["unlogged"]:
                return []
            actions = await noted(transaction, "actions", _NO_ACTIONS)
            await transaction.run("set_about", name="actions", value=as_json({**actions, "unlogged": []}))
            return [PersonActed(*each) for each in actions["unlogged"]]

        return await self.driver.transact(work)

    async def count_actions(self) -> dict[str, int]:
        """How often people did each action."""
        actions = json.loads(await self.driver.note("actions") or _NO_ACTIONS)
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


async def in_steps(step: Callable[[Selection], Awaitable[list[EntryId]]], selection: Selection) -> list[EntryId]:
    """Take at least one step over a selection's parts: with a limit of 0 it mends fuses without held entries."""
    done, limit, groups = list[EntryId](), selection.get("limit"), selection.get("groups")
    if groups:
        each = Counter(groups).elements()
        while part := Counter(islice(each, STEP)):
            size = part.total() if len(part) == 1 else None
            done += await step({**selection, "groups": part, "limit": size})
        return done
    while True:
        size = STEP if limit is None else min(STEP, limit - len(done))
        found = await step({**selection, "limit": size})
        done += found
        if len(found) < size or len(done) == limit:
            return done


async def for_some(step: Callable[[list[T]], Awaitable[list[EntryId]]], of: Sequence[T]) -> list[EntryId]:
    """Take a step for some of these after the other."""
    done = list[EntryId]()
    for first in range(0, len(of), STEP):
        done += await step(list(of[first : first + STEP]))
    return done


# The steps: each is, or is part of, one transaction.


async def release(
    transaction: Transaction, at: Moment, watch: str | None, selection: Selection, by: PersonActed | None
) -> list[EntryId]:
    """See `Operation.release_held`."""
    fuses, chosen = await _select(transaction, "held", watch, selection)
    await _revive(transaction, chosen, at, [_line(at.now, of, "released", chosen[of], by) for of in chosen])
    await _mend_fuses(transaction, fuses, at.due_at)
    await record(transaction, by, len(chosen))
    return list(chosen)


async def discard(  # noqa: PLR0917 - which entries, and who decides when
    transaction: Transaction,
    at: Moment,
    state: EntryState,
    watch: str | None,
    selection: Selection,
    by: PersonActed | None,
) -> list[EntryId]:
    """See `Operation.discard`."""
    fuses, chosen = await _select(transaction, state, watch, selection)
    acknowledged = [(*of, *discarded_columns(content), at.now, False) for of, content in sorted(chosen.items())]
    await transaction.write("remove", sorted(chosen))
    await transaction.write("acknowledge", acknowledged)
    was = f'"was":"{state}",'
    history = [_line(at.now, of, "discarded", content, by, was) for of, content in chosen.items()]
    await transaction.write("add_history", history)
    if state == "held":
        await _mend_fuses(transaction, fuses, at.due_at)
    await record(transaction, by, len(chosen))
    return list(chosen)


async def retry(
    transaction: Transaction, at: Moment, entries: Sequence[EntryId], by: PersonActed | None
) -> list[EntryId]:
    """See `Operation.retry_dead`."""
    _, found = await _select(transaction, "dead", None, {"entries": entries})
    chosen = {of: content for of, content in found.items() if _is_callable(content)}
    await _revive(transaction, chosen, at, [_line(at.now, of, "retried", chosen[of], by) for of in chosen])
    await record(transaction, by, len(chosen))
    return list(chosen)


async def resend(
    transaction: Transaction, at: Moment, watch: str | None, ids: Sequence[str], by: PersonActed | None
) -> list[EntryId]:
    """See `Operation.resend`."""
    watches = sorted(await _fuses_of(transaction, watch))
    rows = await transaction.rows("to_resend", ids=list(ids), watches=watches)
    known = {(row[0], row[1]): (content_from(*row[2:6]), row[6]) for row in rows}
    # The same or a newer state is pending: send it now.
    hastened = [of for of, (_, state) in known.items() if state == "pending"]
    again = {
        of: content
        for of, (content, state) in known.items()
        if state is None and content is not None and _is_callable(content)
    }
    await transaction.write("hasten", [(*of, at.due_at) for of in hastened])
    rest = "", "pending", at.due_at, at.due_at, None
    rows = [(*of, *state_columns(each), *rest, endpoint_of(each.url)) for of, each in again.items()]
    await transaction.write("enqueue", rows)
    found = [of for of in known if of in again or of in hastened]
    await transaction.write("add_history", [_line(at.now, of, "resend", known[of][0], by) for of in found])
    await transaction.write("add_endpoint", _endpoints(again.values()))
    await record(transaction, by, len(found))
    return found


async def forget(transaction: Transaction, watch: str, captured: Captured, by: PersonActed) -> bool:
    """Take the first step to forget a watch; returns whether there was anything.

    It leaves no entry of the watch. The steps after it are `forget_rest`.

    Raises:
        OperationError: the leader captures the watch.
    """
    is_known = bool(await transaction.rows("fuse", watch=watch))
    ((is_left,),) = await transaction.rows("left_of_watch", watch=watch)
    await forget_rest(transaction, watch, captured)
    is_found = is_known or bool(is_left)
    await record(transaction, by, int(is_found))
    return is_found


async def forget_rest(transaction: Transaction, watch: str, captured: Captured) -> bool:
    """Take another step; returns whether more are to be taken.

    Raises:
        OperationError: the leader captures the watch.
    """
    if captured is not None and watch in captured:
        raise OperationError(
            f"a daemon works the watch {watch}: take it out of that daemon's configuration, and have it reload"
        )
    for what in _FORGOTTEN:
        await transaction.run(f"forget_{what}", watch=watch, limit=STEP)
    ((is_more,),) = await transaction.rows("left_of_watch", watch=watch)
    return bool(is_more)


async def pause(transaction: Transaction, endpoint: str) -> frozenset[str]:
    """Pause sending to an endpoint; returns all that are paused."""
    return await _set_paused(transaction, lambda paused: paused | {endpoint})


async def resume(transaction: Transaction, endpoint: str) -> frozenset[str]:
    """See `Operation.resume`."""
    every = endpoint == ALL_ENDPOINTS
    return await _set_paused(transaction, lambda paused: frozenset() if every else paused - {endpoint})


async def _set_paused(transaction: Transaction, change: Callable[[frozenset[str]], frozenset[str]]) -> frozenset[str]:
    paused = change(frozenset(await noted(transaction, "paused", "[]")))
    await transaction.run("set_about", name="paused", value=as_json(sorted(paused)))
    return paused


async def _fuses_of(transaction: Transaction, watch: str | None) -> dict[str, Fuse]:
    """The fuses of watches."""
    names = [None] if watch is None else await watches_of(transaction, watch)
    rows = [row for name in names for row in await transaction.rows("fuses_of", watch=name)]
    return {name: fuse_from(fuse) for name, fuse in rows}


async def _select(
    transaction: Transaction, state: EntryState, watch: str | None, selection: Selection
) -> tuple[dict[str, Fuse], dict[EntryId, Content]]:
    """The watches' fuses, and the entries' contents."""
    fuses = await _fuses_of(transaction, watch)
    which = {"state": state, **_parameters(fuses, selection)}
    found: list[EntryId]
    if entries := selection.get("entries"):
        found = list(entries)
    elif groups := selection.get("groups"):
        left, found = Counter(groups), []
        for name, id_, transition in await transaction.rows("in_groups", groups=list(groups), **which):
            left[name, transition] -= 1
            found += [(name, id_)] * (left[name, transition] >= 0)
    else:
        found = [(name, id_) for name, id_ in await transaction.rows("in_state", **which)]
    rows = await transaction.rows("contents_in_state", keys=sorted(found), **which) if found else []
    contents = {(row[0], row[1]): content_from(*row[2:]) for row in rows}
    return fuses, {(name, id_): content for name, id_ in found if (content := contents.get((name, id_))) is not None}


def _parameters(watches: Iterable[str], selection: Selection) -> dict[str, Any]:
    ids, only, limit = selection.get("ids"), selection.get("only"), selection.get("limit")
    return {
        "watches": list(watches),
        "any_id": ids is None,
        "ids": list(ids or ()),
        "deleted": None if only is None else only == "deletions",
        "transition": selection.get("transition"),
        "limit": _NO_LIMIT if limit is None else limit,
    }


def _line(  # noqa: PLR0917 - in the order of what is written
    at: int, of: EntryId, event: str, content: Content | None, by: PersonActed | None, more: str = ""
) -> HistoryLine:
    if by is not None:
        more += f'"who":{quoted(by.who)},'
        more += f'"actor":{as_text(by.who)},' if isinstance(by.who, Reason) else ""
    return HistoryLine(at, *of, event, f'{{{more}"to":{"null" if content is None else described(content)}}}')


def _is_callable(content: Content) -> bool:
    """Whether it has a usable URL; otherwise discard the entry, or correct it in the ATS."""
    try:
        endpoint_of(content.url)
    except ValueError:
        return False
    return True


async def _revive(
    transaction: Transaction, chosen: Mapping[EntryId, Content], at: Moment, history: Sequence[HistoryLine]
) -> None:
    rows = [(*of, endpoint_of(content.url), at.due_at) for of, content in sorted(chosen.items())]
    await transaction.write("revive", rows)
    await transaction.write("add_history", history)
    await transaction.write("add_endpoint", _endpoints(chosen.values()))


async def _mend_fuses(transaction: Transaction, fuses: Mapping[str, Fuse], now: int) -> None:
    for watch, fuse in fuses.items():
        if fuse.blown_at is not None:
            is_left = (await transaction.rows("held_left", watch=watch))[0][0]
            after = fuse._replace(decided_at=now) if is_left else Fuse(decided_at=now)
            await transaction.run("set_fuse", watch=watch, fuse=fuse_text(after))


def _endpoints(contents: Iterable[Content]) -> list[tuple[str]]:
    return [(endpoint,) for endpoint in sorted({endpoint_of(content.url) for content in contents})]


_NO_ACTIONS = '{"counts":{},"unlogged":[]}'


async def record(transaction: Transaction, by: PersonActed | None, number: int) -> None:
    """Record how many entries a person's action affected; its steps count as one action."""
    if by is None or not number:
        return
    actions, action = await noted(transaction, "actions", _NO_ACTIONS), list(astuple(replace(by, count=0)))
    unlogged = [PersonActed(*each) for each in actions["unlogged"]]
    if actions.get("last") != action:
        actions["counts"][by.action] = actions["counts"].get(by.action, 0) + 1
    elif unlogged and list(astuple(replace(unlogged[-1], count=0))) == action:
        number += unlogged.pop().count
    unlogged.append(replace(by, count=number))
    actions |= {"unlogged": [astuple(each) for each in unlogged[-_UNLOGGED:]], "last": action}
    await transaction.run("set_about", name="actions", value=as_json(actions))
