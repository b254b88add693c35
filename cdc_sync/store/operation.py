"""The store as operators and the daemon's housekeeping see it: release, discard, retry, resend, and small notes."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from itertools import groupby
from typing import Any

from cdc_sync.core.content import Content, quoted
from cdc_sync.core.delivery import ALL_ENDPOINTS
from cdc_sync.core.diff import Fuse
from cdc_sync.core.observations import PersonActed
from cdc_sync.core.outbox import EntryState
from cdc_sync.core.plan import HistoryLine, described
from cdc_sync.core.status_url import endpoint_of
from cdc_sync.store.columns import as_json, content_from, fuse_from, state_columns
from cdc_sync.store.driver import Driver, Transaction, Whose
from cdc_sync.store.protocol import CALL_STEP, Condition, HeldGroup, Only

_NO_LIMIT = 1 << 40

_UNLOGGED = 1_000
"""How many actions are kept for the log of a daemon that does not run."""

EXAMPLES = 5
"""How many applications of each group of held entries are named."""


class Operation(Driver):
    """See the module's text. Every method may raise `StoreError`."""

    async def fuses(self) -> dict[str, Fuse]:
        """The state of every watch's fuse that ever counted anything."""
        rows = await self.ask("fuses")
        return {watch: fuse_from(fuse) for watch, fuse in rows}

    async def held_groups(
        self,
        watch: str | None,
        *,
        ids: Sequence[str] | None = None,
        only: Only | None = None,
        transition: str | None = None,
        limit: int | None = None,
    ) -> list[HeldGroup]:
        """What is held of a selection, by watch, the largest group first."""
        selection, shift = Selection("held", watch, ids, only, limit, transition), self.clock.shift

        async def work(transaction: Transaction) -> list[HeldGroup]:
            watches = [watch] if watch is not None else [row[0] for row in await transaction.rows("watches")]
            rows = await transaction.rows("held_groups", examples=EXAMPLES, **selection.parameters(watches))
            return [
                HeldGroup(
                    name, what, number, since + shift, "; ".join(sorted({*why})), tuple(row[-1] for row in of_group)
                )
                for (name, what, number, since, *why), of_group in groupby(rows, lambda row: row[:-1])
            ]

        return await self.transact(work)

    async def release_held(
        self,
        watch: str | None,
        now: int,
        only: Only | None,
        limit: int | None,
        *,
        ids: Sequence[str] | None = None,
        transition: str | None = None,
        who: str | None = None,
    ) -> list[tuple[str, str]]:
        """Let held entries be sent; the fuse is whole again once none is held. Returns (watch, application id)."""
        selection = Selection("held", watch, ids, only, limit, transition)
        due_at = self.clock.due(now)

        async def work(transaction: Transaction) -> list[Whose]:
            fuses = await _lock_watches(transaction, watch)
            chosen = await _select(transaction, selection, fuses)
            events = [_line(now, of, "released", content, who) for of, content in chosen]
            await _revive(transaction, chosen, due_at, events)
            await _mend_fuses(transaction, fuses, due_at)
            return [of for of, _ in chosen]

        return await self.transact(work)

    async def discard(
        self,
        state: EntryState,
        watch: str | None,
        ids: Sequence[str] | None,
        *,
        now: int,
        only: Only | None = None,
        transition: str | None = None,
        limit: int | None = None,
        who: str | None = None,
    ) -> list[tuple[str, str]]:
        """Take held or dead entries as acknowledged without a call, the oldest first, `limit` at most. `ids` None: all.

        Returns (watch, application id) of each.

        Left out are those of which a call with an earlier content is still under way: its answer comes first.
        """
        selection = Selection(state, watch, ids, only, limit, transition)

        async def work(transaction: Transaction) -> list[Whose]:
            fuses = await _lock_watches(transaction, watch)
            # An entry with a call under way stays: without it, nothing would keep a second call from overtaking it.
            chosen = await _select(transaction, selection, fuses, under_way=False)
            await transaction.write("remove", sorted(of for of, _ in chosen))
            await transaction.write(
                "acknowledge",
                [(*of, *state_columns(content), now, False) for of, content in sorted(chosen, key=_by_of)],
            )
            was = f'"was":"{state}",'
            await transaction.write(
                "add_history", [_line(now, of, "discarded", content, who, was) for of, content in chosen]
            )
            if state == "held":
                await _mend_fuses(transaction, fuses, self.clock.due(now))
            return [of for of, _ in chosen]

        return await self.transact(work)

    async def retry_dead(
        self, watch: str | None, ids: Sequence[str] | None, now: int, *, who: str | None = None
    ) -> list[tuple[str, str]]:
        """Make dead letters pending again. `ids` None: all. Returns (watch, application id)."""
        selection, due_at = Selection("dead", watch, ids), self.clock.due(now)

        async def work(transaction: Transaction) -> list[Whose]:
            watches = await _lock_watches(transaction, watch)
            chosen = [each for each in await _select(transaction, selection, watches) if _is_callable(each[1])]
            events = [_line(now, of, "retried", content, who) for of, content in chosen]
            await _revive(transaction, chosen, due_at, events)
            return [of for of, _ in chosen]

        return await self.transact(work)

    async def resend(
        self, watch: str | None, ids: Sequence[str], now: int, *, who: str | None = None
    ) -> list[tuple[str, str]]:
        """Enqueue the last acknowledged state once more. Returns (watch, application id) of those that it found."""
        due_at = self.clock.due(now)

        async def work(transaction: Transaction) -> list[Whose]:
            watches = sorted(await _lock_watches(transaction, watch))
            for name in watches:
                await transaction.run("lock_entries", watch=name, ids=list(ids))
            rows = await transaction.rows("to_resend", ids=list(ids), watches=watches)
            known = {(row[0], row[1]): (content_from(*row[2:6]), row[6]) for row in rows}
            # Something newer, or the same, is pending already: let it go out now.
            hastened = [of for of, (_, state) in known.items() if state == "pending"]
            again = {
                of: content
                for of, (content, state) in known.items()
                if state is None and content is not None and _is_callable(content)
            }
            await transaction.write("hasten", [(*of, due_at) for of in hastened])
            for of, content in again.items():
                endpoint = endpoint_of(content.url)
                row = (*of, *state_columns(content), "", "pending", due_at, due_at, None, endpoint)
                await transaction.write("enqueue", [row])
            found = [of for of in known if of in again or of in hastened]
            await transaction.write("add_history", [_line(now, of, "resend", known[of][0], who) for of in found])
            await transaction.write("add_endpoint", _endpoints(again.values()))
            return found

        return await self.transact(work)

    async def paused(self) -> frozenset[str]:
        """The endpoints to which an operator has paused sending; see `delivery.ALL_ENDPOINTS`."""
        return await self.transact(_paused)

    async def pause(self, endpoint: str) -> None:
        """Pause sending to an endpoint."""
        await self.transact(lambda t: _pause(t, paused={endpoint}))

    async def resume(self, endpoint: str) -> frozenset[str]:
        """End such a pause; that of all endpoints ends each. Returns what stays paused."""

        async def work(transaction: Transaction) -> frozenset[str]:
            resumed = {endpoint} if endpoint != ALL_ENDPOINTS else await _paused(transaction)
            await _pause(transaction, resumed=resumed)
            return await _paused(transaction)

        return await self.transact(work)

    async def record_action(self, acted: PersonActed) -> None:
        """Count what a person did, and keep it until a daemon takes it for its log; of unlogged ones the newest."""

        async def work(transaction: Transaction) -> None:
            actions = await _lock_actions(transaction)
            actions["counts"][acted.action] = actions["counts"].get(acted.action, 0) + 1
            actions["unlogged"] = [*actions["unlogged"], astuple(acted)][-_UNLOGGED:]
            await transaction.run("set_about", name="actions", value=as_json(actions))

        if acted.count:
            await self.transact(work)

    async def take_actions(self) -> list[PersonActed]:
        """What people did and no daemon has logged; whoever takes it logs it."""

        async def work(transaction: Transaction) -> list[PersonActed]:
            if not _actions(await transaction.rows("about", name="actions"))["unlogged"]:
                return []
            actions = await _lock_actions(transaction)
            found = [PersonActed(*each) for each in actions["unlogged"]]
            await transaction.run("set_about", name="actions", value=as_json({**actions, "unlogged": []}))
            return found

        return await self.transact(work)

    async def count_actions(self) -> dict[str, int]:
        """How often people did each thing, since the store was made."""
        counts: dict[str, int] = _actions(await self.ask("about", name="actions"))["counts"]
        return counts

    async def set_condition(self, name: str, message: str | None, now: int) -> None:
        """Note what is wrong, or with None that it no longer is."""
        daemon = await self.daemon()
        if message is None:
            await self.transact(lambda t: t.run("clear_condition", daemon=daemon, name=name))
        else:
            await self.transact(lambda t: t.run("set_condition", daemon=daemon, name=name, message=message, now=now))

    async def conditions(self) -> list[Condition]:
        """What is wrong now. Where several daemons see something wrong, it is told which."""
        rows = await self.ask("conditions")
        several = len({(host, process) for *_, host, process in rows}) > 1
        return [
            Condition(name, f"{host}, process {process}: {message}" if several else message, since)
            for name, message, since, host, process in rows
        ]

    async def add_repairs(self, watch: str, causes: Mapping[str, int]) -> None:
        """Count what a sweep repaired."""
        rows = [(watch, cause, number) for cause, number in sorted(causes.items())]
        await self.transact(lambda t: t.write("add_repairs", rows))

    async def repairs(self) -> dict[str, dict[str, int]]:
        """What sweeps have repaired, by watch and cause."""
        found: dict[str, dict[str, int]] = {}
        for watch, cause, number in await self.ask("repairs"):
            found.setdefault(watch, {})[cause] = number
        return found

    async def prune(self, before: int, keep: int, limit: int) -> int:
        """Forget call counts older than `before`, and up to `limit` events: older ones, and all but the newest `keep`.

        Returns how many of these. Events are numbered in order of time, so the oldest are the first.
        """

        async def work(transaction: Transaction) -> int:
            await transaction.run("prune_call_counts", until=before - CALL_STEP)
            return await transaction.count("prune", before=before, keep=keep, limit=limit)

        return await self.transact(work)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which outbox entries a person means; None means no restriction."""

    state: EntryState
    watch: str | None
    ids: Sequence[str] | None = None
    only: Only | None = None
    limit: int | None = None
    transition: str | None = None

    def parameters(self, watches: Collection[str]) -> dict[str, Any]:
        """Those of the statements that select."""
        return {
            "watches": list(watches),
            "any_id": self.ids is None,
            "ids": list(self.ids or ()),
            "deleted": None if self.only is None else self.only == "deletions",
            "transition": self.transition,
            "limit": _NO_LIMIT if self.limit is None else self.limit,
        }


async def _lock_watches(transaction: Transaction, watch: str | None) -> dict[str, Fuse]:
    """From here on nobody applies for these watches; only claims and ends come between. Returns their fuses."""
    rows = await transaction.rows("lock_watches", watch=watch)
    return {name: fuse_from(fuse) for name, fuse in rows}


async def _select(
    transaction: Transaction, selection: Selection, watches: Mapping[str, Fuse], *, under_way: bool = True
) -> list[tuple[Whose, Content]]:
    """Find entries, lock them in order, and leave out those that are no longer what was found."""
    found: list[Whose] = [
        (watch, id_)
        for watch, id_ in await transaction.rows(
            "in_state", state=selection.state, under_way=under_way, **selection.parameters(watches)
        )
    ]
    if not found:
        return []
    rows = await transaction.rows("contents_in_state", keys=sorted(found), state=selection.state, under_way=under_way)
    contents = {(row[0], row[1]): content_from(*row[2:]) for row in rows}
    return [(of, content) for of in found if (content := contents.get(of)) is not None]


def _line(  # noqa: PLR0917 - in the order of what is written
    at: int, of: Whose, event: str, content: Content | None, who: str | None, more: str = ""
) -> HistoryLine:
    more += "" if who is None else f'"who":{quoted(who)},'
    return HistoryLine(at, *of, event, f'{{{more}"to":{"null" if content is None else described(content)}}}')


def _is_callable(content: Content) -> bool:
    """An entry whose URL is no URL can only be discarded, or corrected in the ATS."""
    try:
        endpoint_of(content.url)
    except ValueError:
        return False
    return True


async def _revive(
    transaction: Transaction, chosen: Sequence[tuple[Whose, Content]], due_at: int, history: Sequence[HistoryLine]
) -> None:
    rows = [(*of, endpoint_of(content.url), due_at) for of, content in sorted(chosen, key=_by_of)]
    await transaction.write("revive", rows)
    await transaction.write("add_history", history)
    await transaction.write("add_endpoint", _endpoints(content for _, content in chosen))


async def _mend_fuses(transaction: Transaction, fuses: Mapping[str, Fuse], now: int) -> None:
    for watch, fuse in fuses.items():
        if fuse.blown_at is not None:
            is_left = (await transaction.rows("held_left", watch=watch))[0][0]
            after = fuse._replace(decided_at=now) if is_left else Fuse(decided_at=now)
            await transaction.run("set_fuse", watch=watch, fuse=as_json(after._asdict()))


def _endpoints(contents: Iterable[Content]) -> list[tuple[str]]:
    return [(endpoint,) for endpoint in sorted({endpoint_of(content.url) for content in contents})]


def _by_of(chosen: tuple[Whose, Content]) -> Whose:
    return chosen[0]


def _actions(rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
    return {"counts": {}, "unlogged": [], **(json.loads(rows[0][0]) if rows else {})}


async def _lock_actions(transaction: Transaction) -> dict[str, Any]:
    await transaction.run("set_about_first", name="actions", value="{}")
    return _actions(await transaction.rows("lock_about", name="actions"))


async def _paused(transaction: Transaction) -> frozenset[str]:
    rows = await transaction.rows("about", name="paused")
    return frozenset(json.loads(rows[0][0])) if rows else frozenset()


async def _pause(
    transaction: Transaction, *, paused: Collection[str] = frozenset(), resumed: Collection[str] = frozenset()
) -> None:
    # Two operators may pause at the same moment.
    await transaction.run("set_about_first", name="paused", value="[]")
    rows = await transaction.rows("lock_about", name="paused")
    after = sorted(frozenset(json.loads(rows[0][0])).union(paused).difference(resumed))
    await transaction.run("set_about", name="paused", value=as_json(after))
