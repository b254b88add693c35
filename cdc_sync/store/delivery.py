"""The store as the sender sees it: claims of due entries, and what became of their calls.

A claim is durable before its call begins, and stands for an attempt to everybody else: what a crash leaves claimed is
taken for attempted (`expire`). What an attempt changes of its entry is written when it has ended; so what was claimed
and not begun is given back as it was.
"""

import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import partial
from itertools import zip_longest
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any

from cdc_sync.core.content import quoted
from cdc_sync.core.delivery import HEALTHY, Again, Done, Finished, Health, credentials_of, endpoint_name
from cdc_sync.core.diff import Fuse
from cdc_sync.core.outbox import Entry, Lane
from cdc_sync.core.plan import HistoryLine, described
from cdc_sync.core.reasons import Reason, as_text, in_json
from cdc_sync.store.columns import as_json, entry_from, fuse_from, health_from, state_columns
from cdc_sync.store.driver import ALONE, Driver, Transaction, Whose, locked
from cdc_sync.store.protocol import CALL_STEP

if TYPE_CHECKING:
    from cdc_sync.store.postgres.claims import Claims


class Delivery(Driver):
    """See the module's text. Every method but `holds` may raise `StoreError`."""

    async def claim(
        self, now: int, horizon: int, wanted: Mapping[Lane, int], probing: Collection[Lane] = ()
    ) -> list[Entry]:
        """Take due entries for sending, durably before anything is sent; each as it is when its call was made.

        The longest due of each lane come first, and of several lanes one after the other. If one was due for long, its
        first attempt moves on: see `Entry`.

        Args:
            now: the time.
            horizon: a due time further than this many milliseconds ahead is a clock's mistake, and counts as due.
            wanted: how many at most, for each lane.
            probing: the lanes whose call is to find out whether their endpoint works. There the least attempted come
                first, so a few at the head, whose calls fail alone, do not stand for all.
        """
        claims = self.claims
        wanted = {lane: most for lane, most in wanted.items() if lane[1] not in self.withheld}
        async with claims.claiming() if claims is not None else nullcontext(ALONE) as daemon:
            entries = await self.separately(lambda t: claim(t, claims, daemon, now, horizon, wanted, probing))
            if claims is not None:
                claims.add(entries, daemon)
        return entries

    async def unclaim(self, entries: Sequence[Entry]) -> None:
        """Give back what was claimed and whose call has not begun, as it was before; what is not ours is left alone."""
        claims, all_of = self.claims, [(entry.watch, entry.application_id) for entry in entries]
        numbers = dict.fromkeys(all_of, ALONE) if claims is None else claims.claimants(all_of)
        rows = sorted((*of, number) for of, number in numbers.items() if number is not None)
        async with nullcontext() if claims is None else claims.ending([(watch, id_) for watch, id_, _ in rows]):
            await self.separately(lambda t: t.write("unclaim", rows))

    async def complete(self, finished: Sequence[Finished], health: Mapping[str, Health]) -> None:
        """Write the ends of attempts and the endpoints' new states.

        An end whose claim is no longer ours decides nothing: another daemon has taken the entry, and has sent it since
        or will. Only the history has it.
        """
        claims, of = self.claims, list(map(_whose, finished))
        numbers = dict.fromkeys(of, ALONE) if claims is None else claims.claimants(of)
        shift = self.clock.shift
        work = partial(
            _complete, finished=finished, health=health, claims=numbers, shift=shift, all_listed=claims is not None
        )
        async with nullcontext() if claims is None else claims.ending(of):
            await self.transact(work)

    def holds(self, entry: Entry) -> bool:
        """Whether a call for a claimed entry may begin: the claim outlasts any call. To be asked right before it."""
        claims = self.claims
        return claims is None or claims.holds(entry)

    async def look(self) -> tuple[dict[str, Health], dict[Lane, int]]:
        """Every endpoint's health, and when the next entry of each lane is due that has one and is not withheld."""

        async def work(transaction: Transaction) -> tuple[dict[str, Health], dict[Lane, int]]:
            healths = {name: health_from(text) for name, text in await transaction.rows("endpoints")}
            rows = await transaction.rows("lanes")
            lanes = {(origin, watch): due_at for origin, watch, due_at in rows if watch not in self.withheld}
            return healths, lanes

        return await self.separately(work)

    async def endpoints(self) -> dict[str, tuple[Health, int | None]]:
        """Every endpoint's health, and when its next entry is due that is not withheld."""
        (healths, lanes), owners = await self.look(), await self.credentials()
        due: dict[str, int | None] = {}
        for (origin, watch), due_at in lanes.items():
            name = endpoint_name(origin, owners.get(watch))
            earlier = due.get(name)
            due[name] = due_at if earlier is None else min(earlier, due_at)
        return {name: (healths.get(name, HEALTHY), due.get(name)) for name in healths | due}

    async def credentials(self) -> dict[str, str]:
        """Whose own credentials the calls of a watch get, by watch; those that all watches share are left out.

        As the daemon noted it that was configured last. A name, and nothing of what is secret.
        """
        return dict(json.loads(await self.note("credentials") or "{}"))

    async def has_endpoint(self, name: str) -> bool:
        """Whether an endpoint is known by this name, or something may be sent to it with a watch's own credentials."""
        known, owner = await self.endpoints(), credentials_of(name)
        if name in known or owner is None:
            return name in known
        return name.removesuffix(f" [{owner}]") in known and owner in (await self.credentials()).values()

    async def note_credentials(self, owners: Mapping[str, str], configured: Collection[str]) -> None:
        """Note what `credentials` returns.

        A watch that had its own, and is no longer among those configured, keeps them for itself until it is forgotten.
        What an operator has paused stays paused, by the name that the endpoint has now. Endpoints of which nobody has
        the credentials any more are forgotten.
        """
        before = await self.credentials()
        if gone := before.keys() - configured:
            gone &= {name for (name,) in await self.ask("watches")}
        now = {watch: watch for watch in gone} | {**owners}
        left = {None, *now.values()}
        # Also if nothing changes: a call that was under way at the last change may have written its health since.
        forgotten = [(name,) for name, _ in await self.ask("endpoints") if credentials_of(name) not in left]
        if now == before and not forgotten:
            return

        async def work(transaction: Transaction) -> None:
            paused = await locked(transaction, "paused", "[]")
            await transaction.run("set_about", name="paused", value=as_json(_renamed(paused, before, now)))
            await transaction.run("set_about", name="credentials", value=as_json(now))
            await transaction.write("forget_endpoint", forgotten)

        await self.transact(work)


def _renamed(paused: Collection[str], before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The paused endpoints, and the names that they have now for the watches whose calls were paused."""
    found = set(paused)
    for name in paused:
        if owner := credentials_of(name):
            origin = name.removesuffix(f" [{owner}]")
            owners = {now[watch] for watch, of in before.items() if of == owner and watch in now}
            found |= {endpoint_name(origin, each) for each in owners}
    return sorted(found)


_Row = tuple[Any, ...]

_WRITTEN: Mapping[type, Callable[[Any], str]] = {str: quoted, int: str, float: str}
"""How most values of a reply are written in JSON, without an encoder."""

_DUE = itemgetter(10)
_whose: Callable[[Finished], Whose] = attrgetter("entry.watch", "entry.application_id")


async def claim(  # noqa: PLR0917 - those of `Delivery.claim`
    transaction: Transaction,
    claims: "Claims | None",
    daemon: int,
    now: int,
    horizon: int,
    wanted: Mapping[Lane, int],
    probing: Collection[Lane],
) -> list[Entry]:
    """See `Delivery.claim`."""
    found: list[list[_Row]] = []
    if claims is None:
        for lane, limit in wanted.items():
            origin, watch = lane
            parameters = {"now": now, "latest": now + horizon, "probing": lane in probing, "limit": limit}
            found.append(await transaction.rows("due", endpoint=origin, watch=watch, **parameters))
    elif wanted:
        found = await _due_in_shared(transaction, claims, daemon, now, horizon, wanted, probing)
    for of_lane in found:
        of_lane.sort(key=_DUE)
    rows = found[0] if len(found) == 1 else [row for turn in zip_longest(*found) for row in turn if row is not None]
    if claims is None:
        await transaction.write("claim", sorted([(row[0], row[1], daemon) for row in rows]))
    # A shared store has claimed them by the same statement.
    elif held := [row for row in rows if (row[0], row[1]) in claims.under_way]:
        await transaction.write("unclaim", sorted([(row[0], row[1], daemon) for row in held]))
        rows = [row for row in rows if row not in held]
    return [entry_from(row, claimed_at=now) for row in rows]


async def _due_in_shared(  # noqa: PLR0917 - those of `Delivery.claim`
    transaction: Transaction,
    claims: "Claims",
    daemon: int,
    now: int,
    horizon: int,
    wanted: Mapping[Lane, int],
    probing: Collection[Lane],
) -> list[list[_Row]]:
    """Claim what is due of each lane of a shared store: all of them by one statement, as each takes a round trip."""

    async def claimed(limits: Mapping[Lane, int], sinces: Mapping[Lane, int]) -> None:
        rows = await transaction.rows(
            "due",
            endpoints=[origin for origin, _ in limits],
            watches=[watch for _, watch in limits],
            limits=list(limits.values()),
            sinces=[sinces.get(lane, 0) for lane in limits],
            probing=[lane in probing for lane in limits],
            now=now,
            latest=now + horizon,
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
    """Take all claims of a daemon for attempts whose end nobody knows, and free them.

    Args:
        transaction: in which.
        daemon: whose; it makes calls no more.
        now: the store's clock.
        shift: what is added to it for people.
    """
    claimed = await transaction.rows("expired", daemon=daemon)
    if not claimed:
        return
    await transaction.run("expire_claims", daemon=daemon, now=now)
    detail = as_json({"outcome": "unknown"})
    history = [HistoryLine(now + shift, watch, id_, "attempted", detail) for watch, id_ in claimed]
    await transaction.write("add_history", history)


async def mend(transaction: Transaction, watch: str, fuse: Fuse) -> None:
    """The fuse is whole again if it holds nothing any more: nothing is left for a person to decide."""
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
    claims: Mapping[Whose, int | None],
    shift: int,
    *,
    all_listed: bool,
) -> None:
    finished = sorted(finished, key=_whose)
    current = await _current(transaction, finished, claims, all_listed=all_listed)
    acknowledged: list[tuple[object, ...]] = []
    kept: list[tuple[object, ...]] = []
    removed, made = list[Whose](), list[Whose]()
    history: list[HistoryLine] = []
    calls: Counter[tuple[int, str]] = Counter()
    for end in finished:
        entry, at, reply, more = end.entry, end.at + shift, end.reply, ""
        content, of = entry.content, _whose(end)
        calls[at - at % CALL_STEP, end.fate.outcome] += 1
        claimed_by, revision, status, job_id, deleted, *attempt = current[of]
        says_the_same = content.status == status and content.job_id == job_id and content.deleted == bool(deleted)
        if claimed_by is None or claimed_by != claims[of]:
            event, more = "answered", ',"claim_lost":true'
            if isinstance(end.fate, Done):
                more += ',"acknowledged":true'  # no failure: HelloWork has it, and receives it once more
            if attempt and not attempt[0]:
                made.append(of)  # the store had lost the claim, and the call was made
        elif isinstance(end.fate, Done):
            event = "acknowledged"
            acknowledged.append((*of, *state_columns(content), at, False))
            if says_the_same:
                # Also if it was put there while the call was under way: to A while B is sent, and to B again.
                removed.append(of)
            else:
                # What is pending now was enqueued while the call was under way: it was never sent, and of what was
                # unsure HelloWork has acknowledged the last.
                kept.append((*of, False, *attempt[1:]))
        elif revision != entry.revision or not says_the_same:
            # A newer content is pending in its place: it stays due as it is, and is marked as attempted. A store that
            # failed over to a server that was behind may number another content like this one.
            event, more = "answered", ',"replaced":true'
            kept.append((*of, True, *attempt[1:]))
        elif isinstance(end.fate, Again):
            again = end.fate
            event, more = "answered", f',"again_at":{again.due_at + shift}'
            since = None if again.anew else entry.first_attempt_at, again.not_found_since
            kept.append((*of, True, entry.attempts, attempt[2], again.due_at, *since, as_text(reply.get("reason"))))
        else:
            event, reason = "dead-lettered", end.fate.reason
            reply = {**reply, "reason": reason}
            first, not_found = entry.first_attempt_at, entry.not_found_since
            kept.append((*of, True, entry.attempts, "dead", attempt[3], first, not_found, as_text(reason)))
        said = [
            # A success needs no French.
            f"{in_json(told)},"
            if isinstance(told, Reason) and event != "acknowledged"
            else f'"{name}":{_WRITTEN.get(type(told), as_json)(told)},'
            for name, told in reply.items()
        ]
        detail = f'{{{"".join(said)}"attempt":{entry.attempts},"to":{described(content)}{more}}}'
        history.append(HistoryLine(at, *of, event, detail))
    await transaction.write("mark_attempted", made)
    await transaction.write("remove", removed)
    await transaction.write("end_attempt", kept)
    await transaction.write("acknowledge", acknowledged)
    await transaction.write("add_history", history)
    # In order, and last: everybody writes to these rows.
    await transaction.write("set_health", [(name, _health_text(health[name])) for name in sorted(health)])
    await transaction.write("count_calls", [(*of, calls[of]) for of in sorted(calls)])
    if watches := {of[0] for of in removed if current[of][_STATE] == "held"}:
        await _mend_if_free(transaction, watches)


def _health_text(health: Health) -> str:
    return json.dumps(asdict(replace(health, reason=as_text(health.reason))))


async def _current(
    transaction: Transaction, finished: Sequence[Finished], claims: Mapping[Whose, int | None], *, all_listed: bool
) -> dict[Whose, Sequence[Any]]:
    """The entries whose calls have ended, as they are now, by what the statement `current` has behind whose it is.

    Unless it lists all of them, those that it leaves out are as their calls found them, and were a success.
    """
    ends = [(*_whose(end), end.entry.revision, isinstance(end.fate, Done)) for end in finished]
    current: dict[Whose, Sequence[Any]] = dict.fromkeys(map(_whose, finished), _NO_ENTRY)
    if not all_listed:
        for end in finished:
            of, entry, (status, job_id, deleted, *_) = _whose(end), end.entry, end.entry.content
            current[of] = (claims[of], entry.revision, status, job_id, deleted, True, entry.attempts, entry.state)
    if ends:
        current |= {(row[0], row[1]): row[2:] for row in await transaction.rows("current", ends=ends)}
    return current


async def _mend_if_free(transaction: Transaction, watches: Collection[str]) -> None:
    for watch in watches:
        # Whoever has locked the watch may wait for us; the next batch mends the fuse then.
        for _, fuse in await transaction.rows("lock_watch_if_free", watch=watch):
            await mend(transaction, watch, fuse_from(fuse))


_STATE = 7
"""The place of an entry's state in what the statement `current` tells of it, behind whose it is."""

_NO_ENTRY = (None, 0, "", "", False)
"""What the statement `current` would tell of an entry that is not there, as far as it is asked."""
