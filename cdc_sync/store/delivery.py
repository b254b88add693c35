"""The store for the sender: claims of due entries, and the results of their calls.

A claim is durable before its call begins. To others, and after a crash (`expire`), it counts as an attempt. An attempt
changes its entry only at its end, so an unstarted entry is given back unchanged.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import partial
from itertools import zip_longest
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any

from cdc_sync.core.batch import HistoryLine, described
from cdc_sync.core.content import quoted
from cdc_sync.core.diff import Fuse
from cdc_sync.core.outbox import Entry, Lane, Offer
from cdc_sync.core.reasons import Reason, as_text, in_json
from cdc_sync.core.replies import HEALTHY, Acked, Finished, Health, Retry, credentials_of, endpoint_name
from cdc_sync.store.driver import ALONE, Driver, EntryId, Transaction, locked
from cdc_sync.store.encoding import as_json, entry_from, fuse_from, health_from, state_columns
from cdc_sync.store.protocol import CALL_STEP

if TYPE_CHECKING:
    from cdc_sync.store.postgres.claims import Claims


class Delivery(Driver):
    """See the module's text. Every method but `holds` may raise `StoreError`."""

    async def claim(
        self, now: int, horizon: int, wanted: Mapping[Lane, int], probing: Collection[Lane] = ()
    ) -> list[Entry]:
        """Claim due entries, durably; returns each as it is once its call is made.

        The lanes take turns, each with its longest due entries first.

        Args:
            now: by `clock`.
            horizon: milliseconds; a due time further ahead comes from a wrong clock, and counts as due.
            wanted: how many of each lane, at most.
            probing: lanes whose call tests their endpoint: least attempted entries first (decision 16).
        """
        claims = self.claims
        wanted = {lane: most for lane, most in wanted.items() if lane[1] not in self.withheld}
        offer = Offer(wanted=wanted, probing=frozenset(probing), horizon=horizon)
        async with claims.claiming() if claims is not None else nullcontext(ALONE) as daemon:
            entries = await self.transact(lambda t: claim(t, claims, daemon, now, offer))
            if claims is not None:
                if any((entry.watch, entry.application_id) in claims.under_way for entry in entries):
                    entries = await self.transact(lambda t: give_held_back(t, claims, entries, daemon))
                claims.add(entries, daemon)
        return entries

    async def unclaim(self, entries: Sequence[Entry]) -> None:
        """Give back claimed, unstarted entries unchanged; entries that are not ours stay."""
        claims, all_of = self.claims, [(entry.watch, entry.application_id) for entry in entries]
        numbers = dict.fromkeys(all_of, ALONE) if claims is None else claims.claimants(all_of)
        rows = sorted((*of, number) for of, number in numbers.items() if number is not None)

        async def work(transaction: Transaction) -> None:
            if claims is not None:
                await lock_claims(transaction, rows)
            await transaction.write("unclaim", rows)

        async with nullcontext() if claims is None else claims.ending([(watch, id_) for watch, id_, _ in rows]):
            await self.transact(work)

    async def complete(self, finished: Sequence[Finished], health: Mapping[str, Health]) -> None:
        """Write the ends of attempts and the endpoints' new states.

        An end under a lost claim changes only the history (decision 12).
        """
        claims, of = self.claims, list(map(_id_of, finished))
        numbers = dict.fromkeys(of, ALONE) if claims is None else claims.claimants(of)
        shift = self.clock.shift
        work = partial(
            _complete, finished=finished, health=health, claims=numbers, shift=shift, all_listed=claims is not None
        )
        async with nullcontext() if claims is None else claims.ending(of):
            await self.transact(work)

    def holds(self, entry: Entry) -> bool:
        """Whether the claim outlasts a call that begins now: ask right before the call."""
        claims = self.claims
        return claims is None or claims.holds(entry)

    async def look(self) -> tuple[dict[str, Health], dict[Lane, int]]:
        """Every endpoint's health, and the lanes' next due times without withheld watches."""

        async def work(transaction: Transaction) -> tuple[dict[str, Health], dict[Lane, int]]:
            healths = {name: health_from(text) for name, text in await transaction.rows("endpoints")}
            rows = await transaction.rows("lanes")
            lanes = {(origin, watch): due_at for origin, watch, due_at in rows if watch not in self.withheld}
            return healths, lanes

        return await self.transact(work)

    async def endpoints(self) -> dict[str, tuple[Health, int | None]]:
        """Every endpoint's health, and its next due time."""
        (healths, lanes), owners = await self.look(), await self.credentials()
        due: dict[str, int | None] = {}
        for (origin, watch), due_at in lanes.items():
            name = endpoint_name(origin, owners.get(watch))
            earlier = due.get(name)
            due[name] = due_at if earlier is None else min(earlier, due_at)
        return {name: (healths.get(name, HEALTHY), due.get(name)) for name in healths | due}

    async def credentials(self) -> dict[str, str]:
        """The owner's name for each watch with own credentials, by the last configured daemon."""
        return dict(json.loads(await self.note("credentials") or "{}"))

    async def has_endpoint(self, name: str) -> bool:
        """Whether an endpoint is known, or may be called with a watch's own credentials."""
        known, owner = await self.endpoints(), credentials_of(name)
        if name in known or owner is None:
            return name in known
        return name.removesuffix(f" [{owner}]") in known and owner in (await self.credentials()).values()

    async def note_credentials(self, owners: Mapping[str, str], configured: Collection[str]) -> None:
        """Record what `credentials` returns.

        A watch that is no longer configured keeps its own credentials until `forget`. A paused endpoint stays so under
        its new name, and an endpoint keeps its health. Endpoints with credentials of no watch are removed.
        """
        before = await self.credentials()
        if gone := before.keys() - configured:
            gone &= {name for (name,) in await self.ask("watches")}
        now = {watch: watch for watch in gone} | {**owners}
        left = {None, *now.values()}

        async def work(transaction: Transaction) -> None:
            healths = dict(await transaction.rows("endpoints"))
            # Older calls may have written their endpoints' health since the last change.
            forgotten = sorted((name,) for name in healths if credentials_of(name) not in left)
            if now == before and not forgotten:
                return
            paused = await locked(transaction, "paused", "[]")
            await transaction.run("set_about", name="paused", value=as_json(_renamed(paused, before, now)))
            await transaction.run("set_about", name="credentials", value=as_json(now))
            await transaction.write("set_health", _followers(healths, before, owners))
            await transaction.write("forget_endpoint", forgotten)

        await self.transact(work)


def _renamed(paused: Collection[str], before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The paused endpoints, with the present names for their watches' calls."""
    found = set(paused)
    for name in paused:
        if owner := credentials_of(name):
            origin = name.removesuffix(f" [{owner}]")
            owners = {now[watch] for watch, of in before.items() if of == owner and watch in now}
            found |= {endpoint_name(origin, each) for each in owners}
    return sorted(found)


def _followers(
    healths: Mapping[str, str], before: Mapping[str, str], owners: Mapping[str, str]
) -> list[tuple[str, str]]:
    """The new endpoints of watches with a renamed owner of their credentials, each with the former one's health."""
    present, former_owners, found = set(owners.values()), set(before.values()), dict[str, str]()
    of_owner: defaultdict[str | None, list[str]] = defaultdict(list)
    for name in healths:
        of_owner[credentials_of(name)].append(name)
    for watch, owner in sorted(owners.items()):
        former = before.get(watch)
        # An owner that has had credentials before has an endpoint of its own already.
        if former is None or former in present or owner in former_owners:
            continue
        for name in of_owner[former]:
            found.setdefault(endpoint_name(name.removesuffix(f" [{former}]"), owner), healths[name])
    return sorted((name, health) for name, health in found.items() if name not in healths)


_Row = tuple[Any, ...]

_WRITTEN: Mapping[type, Callable[[Any], str]] = {str: quoted, int: str, float: str}
"""Writers of most of a reply's values as JSON."""

_DUE = itemgetter(10)
_id_of: Callable[[Finished], EntryId] = attrgetter("entry.watch", "entry.application_id")


async def claim(transaction: Transaction, claims: "Claims | None", daemon: int, now: int, offer: Offer) -> list[Entry]:
    """Claim what the offer wants; see `Delivery.claim`."""
    found: list[list[_Row]] = []
    if claims is None:
        for lane, limit in offer.wanted.items():
            origin, watch = lane
            parameters = {"now": now, "latest": now + offer.horizon, "probing": lane in offer.probing, "limit": limit}
            found.append(await transaction.rows("due", endpoint=origin, watch=watch, **parameters))
    elif offer.wanted:
        found = await _due_in_shared(transaction, claims, daemon, now, offer)
    for of_lane in found:
        of_lane.sort(key=_DUE)
    rows = found[0] if len(found) == 1 else [row for turn in zip_longest(*found) for row in turn if row is not None]
    if claims is None:
        await transaction.write("claim", sorted([(row[0], row[1], daemon) for row in rows]))
    # A shared store claims by the same statement.
    return [entry_from(row, claimed_at=now) for row in rows]


async def give_held_back(
    transaction: Transaction, claims: "Claims", entries: Sequence[Entry], daemon: int
) -> list[Entry]:
    """Give claims back whose applications this daemon holds already; returns the others."""
    held = [entry for entry in entries if (entry.watch, entry.application_id) in claims.under_way]
    rows = sorted((entry.watch, entry.application_id, daemon) for entry in held)
    await lock_claims(transaction, rows)
    await transaction.write("unclaim", rows)
    return [entry for entry in entries if entry not in held]


async def lock_claims(transaction: Transaction, rows: Sequence[tuple[str, str, int]]) -> None:
    """Wait for these entries' locks: a statement that was given up may arrive after a later claim (decision 12)."""
    if rows:
        await transaction.rows("current", ends=rows)


async def _due_in_shared(
    transaction: Transaction, claims: "Claims", daemon: int, now: int, offer: Offer
) -> list[list[_Row]]:
    """Claim each lane's due entries of a shared store, by one statement: each takes a round trip."""
    wanted, probing = offer.wanted, offer.probing

    async def claimed(limits: Mapping[Lane, int], sinces: Mapping[Lane, int]) -> None:
        rows = await transaction.rows(
            "due",
            endpoints=[origin for origin, _ in limits],
            watches=[watch for _, watch in limits],
            limits=list(limits.values()),
            sinces=[sinces.get(lane, 0) for lane in limits],
            probing=[lane in probing for lane in limits],
            now=now,
            latest=now + offer.horizon,
            daemon=daemon,
        )
        for *row, origin in rows:
            found[origin, row[0]].append(tuple(row))

    found: dict[Lane, list[_Row]] = {lane: [] for lane in wanted}
    sinces = {lane: claims.since(lane, now) for lane in wanted if lane not in probing}
    await claimed(wanted, sinces)
    missing = {lane: limit - len(found[lane]) for lane, limit in wanted.items() if sinces.get(lane)}
    if missing := {lane: number for lane, number in missing.items() if number}:
        await claimed(missing, {})
    for lane, limit in wanted.items():
        is_full = found[lane] and len(found[lane]) == limit
        claims.passed(lane, min(max(map(_DUE, found[lane])), now) if is_full else None)
    return list(found.values())


async def expire(transaction: Transaction, daemon: int, now: int, shift: int) -> None:
    """Free the claims of a daemon that makes no more calls, as attempts with an unknown end.

    `now` is the store's clock; `shift` converts it for people.
    """
    claimed = await transaction.rows("expired", daemon=daemon)
    if not claimed:
        return
    await transaction.run("expire_claims", daemon=daemon, now=now)
    detail = as_json({"outcome": "unknown"})
    history = [HistoryLine(now + shift, watch, id_, "attempted", detail) for watch, id_ in claimed]
    await transaction.write("add_history", history)


async def mend(transaction: Transaction, watch: str, fuse: Fuse) -> None:
    """Make the fuse whole again if no entry is held."""
    if fuse.blown_at is None or fuse.holds_all:
        return
    ((left,),) = await transaction.rows("held_left", watch=watch)
    if not left:
        whole = fuse._replace(blown_at=None, reason=None)
        await transaction.run("set_fuse", watch=watch, fuse=as_json(whole._asdict()))


async def _complete(
    transaction: Transaction,
    finished: Sequence[Finished],
    health: Mapping[str, Health],
    claims: Mapping[EntryId, int | None],
    shift: int,
    *,
    all_listed: bool,
) -> None:
    finished = sorted(finished, key=_id_of)
    current = await _current(transaction, finished, claims, all_listed=all_listed)
    acknowledged: list[tuple[object, ...]] = []
    kept: list[tuple[object, ...]] = []
    removed, made = list[EntryId](), list[EntryId]()
    history: list[HistoryLine] = []
    calls: Counter[tuple[int, str]] = Counter()
    for end in finished:
        entry, at, reply, more = end.entry, end.at + shift, end.reply, ""
        content, of = entry.content, _id_of(end)
        calls[at - at % CALL_STEP, end.result.outcome] += 1
        claimed_by, revision, status, job_id, deleted, *attempt = current[of]
        is_same_state = content.status == status and content.job_id == job_id and content.deleted == bool(deleted)
        if claimed_by is None or claimed_by != claims[of]:
            event, more = "answered", ',"claim_lost":true'
            if isinstance(end.result, Acked):
                more += ',"acknowledged":true'  # no failure, though HelloWork will receive it again
            if attempt and not attempt[0]:
                made.append(of)  # the store had lost the claim
        elif isinstance(end.result, Acked):
            event = "acknowledged"
            acknowledged.append((*of, *state_columns(content), at, False))
            if is_same_state:
                # Even if it was enqueued again during the call (to A, and back to B).
                removed.append(of)
            else:
                # It was enqueued during the call, and never sent. Of the states sent before, HelloWork has acknowledged
                # the last: none is uncertain.
                kept.append((*of, False, *attempt[1:]))
        elif revision != entry.revision or not is_same_state:
            # A newer content has replaced it, and counts as attempted. After a failover to a server that was behind, it
            # may have the same revision.
            event, more = "answered", ',"replaced":true'
            kept.append((*of, True, *attempt[1:]))
        elif isinstance(end.result, Retry):
            again = end.result
            event, more = "answered", f',"again_at":{again.due_at + shift}'
            since = None if again.restarts else entry.first_attempt_at, again.not_found_since
            kept.append((*of, True, entry.attempts, attempt[2], again.due_at, *since, as_text(reply.get("reason"))))
        else:
            event, reason = "dead-lettered", end.result.reason
            reply = {**reply, "reason": reason}
            first, not_found = entry.first_attempt_at, entry.not_found_since
            kept.append((*of, True, entry.attempts, "dead", attempt[3], first, not_found, as_text(reason)))
        parts = [
            # A success needs no French.
            f"{in_json(value)},"
            if isinstance(value, Reason) and event != "acknowledged"
            else f'"{name}":{_WRITTEN.get(type(value), as_json)(value)},'
            for name, value in reply.items()
        ]
        detail = f'{{{"".join(parts)}"attempt":{entry.attempts},"to":{described(content)}{more}}}'
        history.append(HistoryLine(at, *of, event, detail))
    await transaction.write("mark_attempted", made)
    await transaction.write("remove", removed)
    await transaction.write("end_attempt", kept)
    await transaction.write("acknowledge", acknowledged)
    await transaction.write("add_history", history)
    # In order, and last: all daemons write to these rows.
    await transaction.write("set_health", [(name, _health_text(health[name])) for name in sorted(health)])
    await transaction.write("count_calls", [(*of, calls[of]) for of in sorted(calls)])
    if watches := {of[0] for of in removed if current[of][_STATE] == "held"}:
        await _mend_if_free(transaction, watches)


def _health_text(health: Health) -> str:
    return json.dumps(asdict(replace(health, reason=as_text(health.reason))))


async def _current(
    transaction: Transaction, finished: Sequence[Finished], claims: Mapping[EntryId, int | None], *, all_listed: bool
) -> dict[EntryId, Sequence[Any]]:
    """The present entries of ended calls, as the columns of `current` after the id.

    Unless that lists all, an entry that it leaves out is unchanged since its claim, and its call was a success.
    """
    ends = [(*_id_of(end), end.entry.revision, isinstance(end.result, Acked)) for end in finished]
    current: dict[EntryId, Sequence[Any]] = dict.fromkeys(map(_id_of, finished), _NO_ENTRY)
    if not all_listed:
        for end in finished:
            of, entry, (status, job_id, deleted, *_) = _id_of(end), end.entry, end.entry.content
            current[of] = (claims[of], entry.revision, status, job_id, deleted, True, entry.attempts, entry.state)
    if ends:
        current |= {(row[0], row[1]): row[2:] for row in await transaction.rows("current", ends=ends)}
    return current


async def _mend_if_free(transaction: Transaction, watches: Collection[str]) -> None:
    for watch in watches:
        # Its holder may be waiting for us; then the next batch mends the fuse.
        for _, fuse in await transaction.rows("lock_watch_if_free", watch=watch):
            await mend(transaction, watch, fuse_from(fuse))


_STATE = 7
"""The place of an entry's state among `_current`'s values."""

_NO_ENTRY = (None, 0, "", "", False)
"""The first of `_current`'s values for a missing entry."""
