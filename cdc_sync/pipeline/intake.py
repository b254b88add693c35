"""From keys, or rows just read, to one applied batch. The only place that writes observations.

What a row means is decided once, in the store's transaction (`core.plan`). An application of which one row alone cannot
tell comes back as unresolved: all rows that carry its id are read, and what they say together is applied in a second
transaction. So the slow path costs two transactions, and the common one costs one.

While row-level security may hide rows, no deletion is believed: it is held for a person (`source.row_security`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from cdc_sync.core import plan
from cdc_sync.core.diff import Adopt, Cancel, Queue, Unseen
from cdc_sync.core.failures import StoreError
from cdc_sync.core.observations import ChangesRead, Decided, Observe, Outcome, RowsHidden, RowSkipped, RowsVisible
from cdc_sync.core.outbox import NOTHING, EntryState, Known, Offer, Skip, Suspicion
from cdc_sync.core.plan import ApplyResult, Batch, Resolved, is_nameless
from cdc_sync.core.rows import Key, Observation, Origin, Row, Unreportable, by_application, current, interpret
from cdc_sync.core.rules import WatchRules
from cdc_sync.pipeline.requests import SweepRequests
from cdc_sync.source import row_security
from cdc_sync.source.changelog import Changes, latest
from cdc_sync.source.reading import Read, Reader
from cdc_sync.source.replica_guard import POSITION as REPLICA
from cdc_sync.source.row_security import Hiding
from cdc_sync.store.protocol import Applied
from cdc_sync.store.store import Store

T = TypeVar("T")


class Unwritten:
    """What the store would not write, and has not written since.

    Args:
        over: called when it has written the last of it.
    """

    def __init__(self, over: Callable[[], None] = lambda: None) -> None:
        self.names: set[str] = set()
        self._over = over

    def took(self, names: Collection[str]) -> None:
        """The store has written these."""
        self.names.difference_update(names)
        if not self.names:
            self._over()


class Delivery(Protocol):
    """The sender's part in an apply; see `delivery.sender.Sender`."""

    def offer(self, watch: str, application_ids: Collection[str]) -> Offer:
        """Withdraw the entries of these applications that have not begun, and say what may be claimed."""

    def settle(self, offered: Offer, watch: str, applied: Applied | None) -> None:
        """Take what the apply has claimed, and what it has left as it was; None if it failed."""


class NoDelivery:
    """Nothing is sent while this process captures."""

    def offer(self, watch: str, application_ids: Collection[str]) -> Offer:  # noqa: ARG002 - of whatever
        """See `Delivery`."""
        return NOTHING

    def settle(self, offered: Offer, watch: str, applied: Applied | None) -> None:
        """See `Delivery`."""


_REMEMBERED_SKIPS = 100_000
_QUEUED: Mapping[EntryState, Outcome] = {"pending": "queued", "held": "held", "dead": "dead"}


class Intake:
    """One watch's way into the store.

    Args:
        rules: the watch's rules.
        reader: reads its table.
        store: where it goes.
        observe: told of what was news.
        clock: our clock, milliseconds since the epoch.
        delivery: the sender.
        unwritten: what the store would not write.

    Attributes:
        lock: held from the reading of rows until they are applied; every method but `changes` takes it.
    """

    def __init__(
        self,
        rules: WatchRules,
        reader: Reader,
        store: Store,
        *,
        observe: Observe,
        clock: Callable[[], int],
        delivery: Delivery,
        unwritten: Unwritten | None = None,
    ) -> None:
        self.rules = rules
        self.reader = reader
        self.store = store
        self.observe = observe
        self.clock = clock
        self.suspected = asyncio.Event()
        self.requests = SweepRequests(self.place)
        # Rows that cannot be reported, as recorded: said once, not at each reading.
        self.skipped: dict[Key, str] = {}
        # Whose policies may hide rows from us, as far as is known.
        self._hidden_by: frozenset[Hiding] = frozenset()
        # How far the server was that was read, as the store keeps it for this watch.
        self._replica = ""
        self._delivery = delivery
        self._unwritten = unwritten or Unwritten()
        # Of two readings of one row the later one must win: they are read and applied one after the other.
        self.lock = asyncio.Lock()

    async def load(self) -> None:
        """Take up what an earlier run recorded."""
        skips = await self.store.skipped(self.rules.watch, _REMEMBERED_SKIPS)
        self.skipped = {skip.key: skip.reason or "" for skip in skips}
        self.reader.unreadable.expect(self.skipped)
        positions = await self.store.positions(self.rules.watch)
        self.requests.load(positions)
        # Once more: another daemon may have recorded news until this one took the watch.
        self._replica = positions.get(REPLICA, "")
        self.reader.guard.load(self._replica)

    async def look_for_policies(self, *, first: bool = False) -> bool:
        """Find out whether row-level security may hide rows, and say so if that is news, or with `first` at any rate.

        Returns whether policies that hid rows do so no longer.
        """
        async with self.lock:
            before, self._hidden_by = self._hidden_by, await self.reader.hidden_by()
            if first or self._hidden_by != before:
                self._tell_hidden()
            return bool(before - self._hidden_by)

    async def changes(self, changes: Changes) -> None:
        """Apply what changes of the log say, which were read under `lock`.

        Raises:
            SourceError: the rows cannot be read. Of large rows, which come in parts, some may be recorded by then.
            StoreError: the outcome cannot be recorded.
        """
        if changes.rows is not None:
            await self._read(changes.rows, changes.times, changes.times, "notify")
        elif changes.times:
            read_as = await self.reader.as_read(changes.times)
            times = latest((read_as.get(key, key), at) for key, at in changes.times.items())
            await self._keys(times, "notify")

    async def keys(self, times: Mapping[Key, int], origin: Origin) -> list[ApplyResult]:
        """Read the rows of these keys and apply what they say; `times` tells when each may have changed.

        Raises:
            SourceError: the rows cannot be read. Of large rows, which come in parts, some may be recorded by then.
            StoreError: the outcome cannot be recorded.
        """
        async with self.lock:
            return await self._keys(times, origin)

    async def _keys(self, times: Mapping[Key, int], origin: Origin) -> list[ApplyResult]:
        results: list[ApplyResult] = []
        async for read, keys in self.reader.parts_by_key(times):
            results += await self._read(read, keys, times, origin)
        return results

    async def _read(
        self, read: Read, keys: Collection[Key], times: Mapping[Key, int], origin: Origin
    ) -> Sequence[ApplyResult]:
        """Apply what was read by some keys; those that no row has are gone."""
        found = {row.key for row in read.rows}
        gone = {key: times[key] for key in keys if key not in found}
        if not read.rows and not gone:
            return ()
        self.observe(ChangesRead(self.rules.watch, origin, len(read.rows) + len(gone)))
        observations = [interpret(row, self.rules, times.get(row.key, read.at)) for row in read.rows]
        return (await self._apply(origin, observations, gone)).results

    async def rows(self, read: Callable[[], Awaitable[Read]], origin: Origin) -> Read:
        """Read rows, which did not change later than they are read, and apply what they say.

        The same rows are read again and again, so only what is news is observed.
        """
        async with self.lock:
            found = await read()
            applied = await self._apply(origin, self.interpreted(found))
            if applied.written or applied.unresolved:
                self.observe(ChangesRead(self.rules.watch, origin, len(found.rows)))
            return found

    async def adopt(self, observations: Sequence[Observation], positions: Mapping[str, str]) -> list[ApplyResult]:
        """Apply a page of the baseline together with the position that it reaches."""
        async with self.lock:
            self.observe(ChangesRead(self.rules.watch, "baseline", len(observations)))
            applied = await self._apply("baseline", observations, unseen=self.rules.baseline, positions=positions)
            return list(applied.results)

    async def forget_skips(self, keys: Iterable[Key], at: int) -> None:
        """Rows that could not be reported and that a sweep did not meet any more."""
        async with self.lock:
            await self._apply("sweep", gone=dict.fromkeys(keys, at))

    async def suspect(self, application_ids: Iterable[str], at: int, origin: Origin) -> int:
        """Applications whose row a sweep did not meet: a fresh read after the grace will tell.

        Returns how many of them were not suspected yet, nor known to be gone by now.
        """
        async with self.lock:
            applied = await self._apply(origin, resolved=[Resolved(id_, at, None) for id_ in application_ids])
            return len(applied.suspected)

    async def place(self, positions: Mapping[str, str]) -> None:
        """Save capture positions alone."""
        async with self.lock:
            await self._apply("poll", positions=positions)

    async def confirm(self, suspicions: Sequence[Suspicion]) -> list[ApplyResult]:
        """Answer suspicions with a fresh read of all rows that carry the applications' ids."""
        async with self.lock:
            resolved = await self._resolve({each.application_id: each.at for each in suspicions})
            missing = [each.application_id for each in resolved if each.canonical is None]
            left = await self._without_id(missing) if missing else {}
            resolved = [replace(each, canonical=left.get(each.application_id, each.canonical)) for each in resolved]
            return list((await self._apply("deletion", resolved=resolved)).results)

    def different(self, rows: Sequence[Observation], known: Mapping[str, Known]) -> set[Key]:
        """The rows that are to be looked at again, where so much is known; see `core.plan.different`."""
        return plan.different(self.rules, self._batch("sweep", rows), known)

    async def write(self, what: Collection[str], writing: Awaitable[T]) -> T:
        """Have something written, and say whether it was; `what` names it, so that it is known when it comes again.

        Raises:
            StoreError: it could not be written.
        """
        try:
            kept = await writing
        except StoreError:
            self._unwritten.names.update(what)
            raise
        if self._unwritten.names:
            self._unwritten.took(what)
        return kept

    def interpreted(self, read: Read) -> list[Observation]:
        """What the rows of a page say, which did not change later than they were read."""
        return [interpret(row, self.rules, read.at) for row in read.rows]

    async def _resolve(self, unresolved: Mapping[str, int]) -> list[Resolved]:
        """Read all rows that carry these applications' ids now; with each id, when it seems to have changed."""
        read = await self.reader.by_application(unresolved)
        self._doubt(read)
        found = by_application(read.rows, unresolved)
        return [resolved(id_, at, found.get(id_, ()), self.rules) for id_, at in unresolved.items()]

    async def _without_id(self, application_ids: Sequence[str]) -> dict[str, Observation]:
        """Applications that no row carries: their last rows, where those are there and have no usable id."""
        known = await self.store.known(self.rules.watch, application_ids)
        read = await self.reader.by_key({before.key for before in known.values()}, doubting=True)
        self._doubt(read)
        rows = {row.key: left for row in read.rows if (left := _without_id(row, self.rules)) is not None}
        return {id_: rows[before.key] for id_, before in known.items() if before.key in rows}

    def _doubt(self, read: Read) -> None:
        """Take what may have hidden rows from a read into account, and keep it until `look_for_policies`."""
        if not read.hidden_by <= self._hidden_by:
            self._hidden_by |= read.hidden_by
            self._tell_hidden()

    def _tell_hidden(self) -> None:
        if not self._hidden_by:
            self.observe(RowsVisible(self.rules.watch))
            return
        self.observe(RowsHidden(self.rules.watch, row_security.warning(self._hidden_by)))

    def _batch(
        self,
        origin: Origin,
        observations: Sequence[Observation] = (),
        gone: Mapping[Key, int] | None = None,
        *,
        resolved: Sequence[Resolved] = (),
        unseen: Unseen | None = None,
        positions: Mapping[str, str] | None = None,
    ) -> Batch:
        guard = self.reader.guard
        rows = [*observations, *(each.canonical for each in resolved if each.canonical is not None)]
        keys = (*(row.key for row in rows), *(gone or ())) if self.skipped else ()
        return Batch(
            origin=origin,
            now=self.clock(),
            unseen=unseen or self.rules.first_status,
            observations=observations,
            gone=gone or {},
            resolved=resolved,
            skipped={key: self.skipped[key] for key in keys if key in self.skipped},
            positions=positions or {},
            # With the news: after a restart no server is read that does not show them.
            replica={} if guard.text in ("", self._replica) else {REPLICA: guard.text},
            doubt=row_security.described(self._hidden_by) if self._hidden_by else None,
        )

    async def _apply(
        self,
        origin: Origin,
        observations: Sequence[Observation] = (),
        gone: Mapping[Key, int] | None = None,
        *,
        resolved: Sequence[Resolved] = (),
        unseen: Unseen | None = None,
        positions: Mapping[str, str] | None = None,
    ) -> Applied:
        """Apply what was found; if all rows of some applications have to be read first, that too.

        Raises:
            SourceError: those rows cannot be read; the rest is recorded, without the positions.
            StoreError: it cannot be recorded.
        """
        batch = self._batch(origin, observations, gone, resolved=resolved, unseen=unseen, positions=positions)
        if not (observations or gone or resolved or positions):
            return Applied()
        first = await _undisturbed(self._step(batch))
        if not first.unresolved:
            return first
        resolved = await self._resolve(first.unresolved)
        rest = self._batch(origin, resolved=resolved, unseen=unseen, positions=positions)
        second = await _undisturbed(self._step(rest))
        return replace(first, results=[*first.results, *second.results], written=first.written or second.written)

    async def _step(self, batch: Batch) -> Applied:
        """Have one batch applied, and say what came of it; not to be cancelled."""
        watch, origin = self.rules.watch, batch.origin
        offer, applied = self._delivery.offer(watch, batch.application_ids), None
        try:
            applied = await self.store.apply(self.rules, batch, offer)
        except StoreError:
            self._unwritten.names.update(_named_by(batch))
            raise
        finally:
            # Whatever becomes of this task: what the store has claimed is the sender's.
            self._delivery.settle(offer, watch, applied)
        if applied.written:  # what is no news says nothing of whether the store can be written
            self._replica = batch.replica.get(REPLICA, self._replica)
            if self._unwritten.names:
                self._unwritten.took(_named_by(batch))
        if applied.suspected:
            self.suspected.set()
        if applied.skips:
            self._note_skips(applied.skips)
        for result in applied.results:
            match result.decision:
                case Queue():
                    outcome = _QUEUED[result.state or "pending"]
                case Cancel():
                    outcome = "cancelled"
                case Adopt() if origin != "baseline":
                    outcome = "adopted"
                case _:
                    continue  # what the baseline adopts is told as a number, not one by one
            self.observe(Decided(self.rules.watch, result.application_id, origin, outcome, result.reason))
        return applied

    def _note_skips(self, skips: Iterable[Skip]) -> None:
        for skip in skips:
            if skip.reason is None:
                self.skipped.pop(skip.key, None)
            else:
                self.skipped[skip.key] = skip.reason
                key = "/".join(skip.key)
                self.observe(RowSkipped(self.rules.watch, key, skip.application_id, skip.reason))


async def _undisturbed(step: Coroutine[Any, Any, Applied]) -> Applied:
    """Let a step end whatever becomes of this task: what is read after it is applied after it."""
    stepping = asyncio.create_task(step, name="apply")
    try:
        return await asyncio.shield(stepping)
    except asyncio.CancelledError:
        # However often this task is cancelled meanwhile.
        while not stepping.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([stepping])
        raise


def resolved(application_id: str, changed_at: int, rows: Sequence[Row], rules: WatchRules) -> Resolved:
    """What all rows of an application say together."""
    best = current(rows)
    canonical = None if best is None else interpret(best, rules, changed_at)
    return Resolved(application_id, changed_at, canonical, frozenset(row.key for row in rows))


def _without_id(row: Row, rules: WatchRules) -> Observation | None:
    """A row that carries no usable id, or may carry any; None if it carries one."""
    if row.unreadable is not None:
        return Unreportable(None, row.key, row.unreadable, unreadable=True)
    observation = interpret(row, rules, 0)
    return observation if is_nameless(observation) else None


def _named_by(batch: Batch) -> set[str]:
    """The applications and rows of a batch; its positions, if it is about none."""
    rows = (*(row.key for row in batch.observations if row.application_id is None), *batch.gone)
    return {*batch.application_ids, *map("/".join, rows)} or set(batch.positions)
