"""The store as the sender sees it: claims of due entries, and what became of their calls.

A claim is durable before its call begins, and stands for an attempt to everybody else: what a crash leaves claimed is
taken for attempted (`expire`). What an attempt changes of its entry is written when it has ended; so what was claimed
and not begun is given back as it was.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, fields
from typing import Any

from cdc_sync.core.delivery import Done
from cdc_sync.core.endpoint import Health
from cdc_sync.core.outbox import Entry
from cdc_sync.core.plan import described
from cdc_sync.store.columns import as_json, entry_from, health_from, state_columns
from cdc_sync.store.deciding import Current, as_claimed, counted_calls, ended
from cdc_sync.store.driver import Driver, Transaction, Whose
from cdc_sync.store.protocol import Finished, HistoryEntry


class Delivery:
    """See the module's text. Every method but `holds` and `expect` may raise `StoreError`."""

    _driver: Driver

    async def claim(
        self, now: int, horizon: int, wanted: Mapping[str, int], probing: Collection[str] = ()
    ) -> list[Entry]:
        """Take due entries for sending, durably before anything is sent; each as it is when its call was made.

        The longest due come first. If one was due for long, its first attempt moves on: see `Entry`.

        Args:
            now: the time.
            horizon: a due time further than this many milliseconds ahead is a clock's mistake, and counts as due.
            wanted: how many at most, for each endpoint.
            probing: the endpoints whose call is to find out whether they work. There the least attempted come first,
                so a few at the head, whose calls fail alone, do not stand for all.
        """
        daemon = await self._driver.daemon()
        async with self._driver.claiming():
            entries = await self._driver.transact(
                lambda t: claim(t, self._driver, daemon, now, horizon, wanted, probing)
            )
            self._driver.claimed(entries, daemon)
        return entries

    async def unclaim(self, entries: Sequence[Entry]) -> None:
        """Give back what was claimed and whose call has not begun, as it was before; what is not ours is left alone."""
        claims = [(of, number) for of in map(_whose, entries) if (number := self._driver.claimant(of)) is not None]
        rows = sorted((*of, number) for of, number in claims)
        async with self._driver.ending([of for of, _ in claims]):
            await self._driver.transact(lambda t: t.write("unclaim", rows))

    async def complete(self, finished: Sequence[Finished], health: Mapping[str, Health]) -> None:
        """Write the ends of attempts and the endpoints' new states.

        An end whose claim is no longer ours decides nothing: another daemon has taken the entry, and has sent it since
        or will. Only the history has it.
        """
        shift = self._driver.clock.shift
        claims = {of: self._driver.claimant(of) for of in (_whose(end.entry) for end in finished)}
        async with self._driver.ending(claims):
            await self._driver.transact(lambda t: _complete(t, finished, health, claims, shift))

    def expect(self, longest_call: float) -> None:
        """The bytes of a call may leave this host for so many seconds from now on."""
        self._driver.expect(longest_call)

    def holds(self, entry: Entry) -> bool:
        """Whether a call for a claimed entry may begin: the claim outlasts any call. To be asked right before it."""
        return self._driver.holds(entry)

    async def check_place(self) -> None:
        """Find out whether what is written can be found again at the next start.

        Raises:
            StoreGoneError: it cannot: the store was deleted or replaced.
        """
        await self._driver.check_place()

    async def release_claims(self) -> None:
        """Take the claims of daemons that died for attempts whose end nobody knows, and free them."""
        await self._driver.release_claims()

    async def endpoints(self) -> dict[str, tuple[Health, int | None]]:
        """Every endpoint's health, and when its next entry is due."""
        rows = await self._driver.transact(lambda t: t.rows("endpoints"))
        return {endpoint: (health_from(health), due_at) for endpoint, health, due_at in rows}


def history_rows(events: Iterable[HistoryEntry]) -> list[tuple[int, str, str, str, str]]:
    """Lines of applications' histories, as rows."""
    return [(event.at, event.watch, event.application_id, event.event, as_json(event.detail)) for event in events]


async def claim(  # noqa: PLR0917 - those of `Delivery.claim`
    transaction: Transaction,
    driver: Driver,
    daemon: int,
    now: int,
    horizon: int,
    wanted: Mapping[str, int],
    probing: Collection[str],
) -> list[Entry]:
    """See `Delivery.claim`."""
    rows: list[tuple[Any, ...]] = []
    for endpoint, limit in wanted.items():
        first = "probe" if endpoint in probing else "due"
        found = await transaction.rows(first, endpoint=endpoint, now=now, limit=limit)
        if len(found) < limit:
            found += await transaction.rows(
                "due_by_a_wrong_clock", endpoint=endpoint, latest=now + horizon, limit=limit - len(found)
            )
        rows += [row for row in found if not driver.under_way((row[0], row[1]))]
    await transaction.write("claim", sorted((row[0], row[1], daemon) for row in rows))
    return [as_claimed(entry_from(row), now) for row in rows]


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
    events = [HistoryEntry(now + shift, watch, id_, "attempted", {"outcome": "unknown"}) for watch, id_ in claimed]
    await transaction.write("add_history", history_rows(events))


async def _complete(
    transaction: Transaction,
    finished: Sequence[Finished],
    health: Mapping[str, Health],
    claims: Mapping[Whose, int | None],
    shift: int,
) -> None:
    current: dict[Whose, tuple[int | None, Current]] = {}
    if claims:
        for watch, id_, claimed_by, revision, status, job_id, deleted, attempted, *rest in await transaction.rows(
            "current", keys=sorted(claims)
        ):
            entry = Current(revision, status, job_id, bool(deleted), bool(attempted), *rest)
            current[watch, id_] = claimed_by, entry
    acknowledged: list[tuple[object, ...]] = []
    removed: list[Whose] = []
    kept: list[tuple[object, ...]] = []
    events: list[HistoryEntry] = []
    made: list[Whose] = []
    for end in sorted(finished, key=lambda end: _whose(end.entry)):
        of = _whose(end.entry)
        claimed_by, entry_now = current.get(of, (None, None))
        if claimed_by is None or claimed_by != claims[of]:
            events.append(_too_late(end, shift))
            if entry_now is not None and not entry_now.attempted:
                made.append(of)  # the store had lost the claim, and the call was made
            continue
        after = ended(end, entry_now, shift)
        if after.acknowledged:
            acknowledged.append((*of, *state_columns(end.entry.content), after.event.at, False))
        if after.entry is None:
            removed.append(of)
        else:
            kept.append((*of, *astuple(after.entry)[_FIRST_OF_ATTEMPT:]))
        events.append(after.event)
    await transaction.write("mark_attempted", made)
    await transaction.write("remove", removed)
    await transaction.write("end_attempt", kept)
    await transaction.write("acknowledge", acknowledged)
    await transaction.write("add_history", history_rows(events))
    # In order, and last: everybody writes to these rows.
    await transaction.write("set_health", [(name, json.dumps(asdict(health[name]))) for name in sorted(health)])
    calls = counted_calls(finished, shift)
    await transaction.write("count_calls", [(*of, calls[of]) for of in sorted(calls)])


_FIRST_OF_ATTEMPT = [field.name for field in fields(Current)].index("attempted")
"""From here on a `Current` has the columns that `end_attempt` writes."""


def _too_late(end: Finished, shift: int) -> HistoryEntry:
    detail = {**end.reply, "attempt": end.entry.attempts, "to": described(end.entry.content), "claim_lost": True}
    if isinstance(end.fate, Done):
        detail["acknowledged"] = True  # no failure: HelloWork has it, and receives it once more
    return HistoryEntry(end.at + shift, end.entry.watch, end.entry.application_id, "answered", detail)


def _whose(entry: Entry) -> Whose:
    return entry.watch, entry.application_id
