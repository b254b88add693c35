"""The store behind its protocol: each method is one transaction on a connection of a small pool."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Self, TypeVar

import psycopg
from psycopg import errors
from psycopg_pool import AsyncConnectionPool

from cdc_sync.config.dsn import shown
from cdc_sync.config.sessions import POOL_SIZE
from cdc_sync.core.endpoint import Health
from cdc_sync.core.fuse import Fuse
from cdc_sync.core.identifiers import QualifiedName
from cdc_sync.core.outbox import Entry, EntryState, Known, Skip, Suspicion, Verified
from cdc_sync.core.rows import Key
from cdc_sync.core.rules import WatchRules
from cdc_sync.store.bitmaps import unmarked
from cdc_sync.store.clock import Clock, uptime
from cdc_sync.store.columns import health_from, key_text, known_from
from cdc_sync.store.for_people import counts_for_people, entry_for_people, records_for_people
from cdc_sync.store.postgres import delivering, operating, recording, reporting
from cdc_sync.store.postgres.connecting import configure, conninfo, prepare, translate
from cdc_sync.store.postgres.delivering import Taking
from cdc_sync.store.postgres.living import BEAT, Living, living
from cdc_sync.store.postgres.operating import Selection
from cdc_sync.store.postgres.recording import fuse_from
from cdc_sync.store.postgres.rows import Connection, Whose, as_json, pipelined, text, texts, write
from cdc_sync.store.protocol import (
    CALL_STEP,
    AnotherDatabaseError,
    Batch,
    CallCounts,
    Condition,
    Event,
    Finished,
    Lease,
    Only,
    Record,
    Recorded,
    StoreError,
    WatchCounts,
)

T = TypeVar("T")


_ANSWERS_WITHIN = 30.0
"""Seconds within which a step is done; a page of a baseline takes a moment."""

_RENEWS_WITHIN = 5.0
_CONNECTS_WITHIN = 5.0
_ENDS_WITHIN = 2.0

_TRIES = 5
"""How often a step is begun anew after PostgreSQL found that it waits in a circle."""


_GIVEN_BACK = 0
"""No daemon's number: nothing is recorded for a watch that was taken once, and is not any more."""


class PostgresStore:
    """A `Store` in the schema `cdc_sync` of a database; made by `open`.

    It may be opened by several daemons, and by operator commands beside them. A daemon is whoever claims, releases
    claims or notes conditions: it then holds a lease until it is closed.
    """

    def __init__(self, dsn: str, longest_call: float, pool: "AsyncConnectionPool[Connection]") -> None:
        self._dsn = dsn
        self._pool = pool
        self._living = Living(partial(self._within, _RENEWS_WITHIN), longest_call)
        self._leases: dict[str, int] = {}
        """The number of this daemon when it took each watch; `_GIVEN_BACK` afterwards."""
        self._claims: dict[Whose, int] = {}
        """Claims that were handed out and have not ended, with the number of this daemon at that time."""
        self._under_way: dict[Whose, Entry] = {}
        """The same, as they were claimed."""
        self._ending: set[Whose] = set()
        """Those whose end is being written."""
        self._claimed_again: set[Whose] = set()
        """Those whose claim the store had lost: their calls may go on, and none may begin."""
        self._unsure = False
        """Whether the store may have other claims of ours than we know of."""
        self._claiming = asyncio.Lock()
        self._server: str | None = None
        self.moves = 0
        self.clock: Clock
        self._beating: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls, dsn: str, *, longest_call: float = 10.0, read_only: bool = False, tables: Iterable[QualifiedName] = ()
    ) -> Self:
        """Open the store, and bring its schema up to date unless it is only read.

        Args:
            dsn: the database, in whatever form libpq takes.
            longest_call: seconds in which the bytes of a call may leave this host, at most.
            read_only: refuse to write.
            tables: those that are watched in the same database, whose owners' `pg_dump` reads a store made here.

        Raises:
            StoreError: it cannot be used; the message says why.
        """
        await prepare(dsn, read_only=read_only, tables=tables)
        pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            conninfo(dsn),
            kwargs={"autocommit": True, "prepare_threshold": None},
            min_size=1,
            max_size=POOL_SIZE,
            open=False,
            timeout=_CONNECTS_WITHIN,
            reconnect_timeout=_CONNECTS_WITHIN,
            configure=partial(configure, read_only=read_only),
        )
        await pool.open()
        store = cls(dsn, longest_call, pool)
        try:
            await store._begin_clock()
        except BaseException:
            await store.close()
            raise
        return store

    async def _run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        return await self._within(_ANSWERS_WITHIN, work)

    async def _within(self, seconds: float, work: Callable[[Connection], Awaitable[T]]) -> T:
        for attempt in range(_TRIES):
            try:
                async with (
                    asyncio.timeout(seconds),
                    self._pool.connection() as connection,
                    pipelined(connection),
                    connection.transaction(),
                ):
                    return await work(connection)
            except (errors.DeadlockDetected, errors.SerializationFailure) as error:
                if attempt == _TRIES - 1:
                    raise StoreError(translate(self._dsn, error)) from error
            except TimeoutError as error:
                raise StoreError(
                    f"The store in {shown(self._dsn)} cannot be used: it has not answered within {seconds:.0f} s. It "
                    f"is tried again; nothing is sent that could not be recorded."
                ) from error
            except psycopg.Error as error:
                # After a restart of the server the pool's other connections are dead too: not one failure for each.
                with suppress(psycopg.Error):
                    await self._pool.check()
                # The next one may be to another server, which does not know all that this one knew.
                self._unsure = True
                self._living.doubt()
                raise StoreError(translate(self._dsn, error)) from error
        raise AssertionError("unreachable")

    async def _rows(self, statement: bytes, **parameters: Any) -> list[tuple[Any, ...]]:
        return await self._run(lambda c: _rows_of(c, statement, parameters))

    async def _do(self, statement: bytes, **parameters: Any) -> None:
        async def work(connection: Connection) -> None:
            await connection.execute(statement, parameters)

        await self._run(work)

    async def close(self) -> None:
        """See `Store`."""
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.wait([self._beating])
            self._beating = None
            # Without it the claims wait for the lease to lapse; nothing is lost.
            with suppress(StoreError, TimeoutError):
                async with asyncio.timeout(_ENDS_WITHIN):
                    await self._living.end()
        await self._pool.close(timeout=_ENDS_WITHIN)

    async def _number(self) -> int:
        """This daemon's number, kept alive from now on."""
        number = await self._living.ensure()
        if self._beating is None:
            self._beating = asyncio.create_task(self._beat(), name="store: lease")
        return number

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT)
            # Whoever claims next says what is wrong; until it is renewed nothing is sent.
            with suppress(StoreError):
                await self._living.renew()
                await self._living.bury_dead()
                await self._compare_clock()
                await self._reconcile()

    async def _begin_clock(self) -> None:
        before = uptime()
        ((store, ahead, self._server),) = await self._rows(operating.SQL["clock"])
        after = uptime()
        newest = await self._rows(operating.SQL["newest_event"])
        # As it was for whoever wrote it: people read the store's clock.
        reading = max([store, *(at for (at,) in newest)]) + (ahead or 0)
        self.clock = Clock(reading - after, ahead or 0)
        self.clock.compare(store, ahead or 0, before, after)

    async def _compare_clock(self) -> None:
        """Compare our clock with the store's, and raise the offset if the store's went back."""
        before = uptime()
        ((store, ahead, server),) = await self._within(
            _RENEWS_WITHIN, lambda c: _rows_of(c, operating.SQL["clock"], {})
        )
        if server != self._server:
            self._server, self._unsure, self.moves = server, True, self.moves + 1
        missing = self.clock.compare(store, ahead or 0, before, uptime())
        if missing:
            raised = {"ahead": (ahead or 0) + missing, "was": ahead}
            await self._within(_RENEWS_WITHIN, lambda c: _rows_of(c, operating.SQL["raise_clock"], raised))

    async def living(self) -> list[tuple[str, int]]:
        """The daemons that live: host and process id, the oldest first."""
        return await self._run(living)

    async def bind(self, identity: str) -> None:
        """See `Store`."""
        await self._do(operating.SQL["set_identity"], identity=identity)
        ((bound,),) = await self._rows(operating.SQL["identity"])
        if bound != identity:
            raise AnotherDatabaseError.between(f"in {shown(self._dsn)}", bound, identity)

    async def identity(self) -> str | None:
        """See `Store`."""
        rows = await self._rows(operating.SQL["identity"])
        return str(rows[0][0]) if rows else None

    async def hosts(self) -> str | None:
        """See `Store`."""
        rows = await self._rows(operating.SQL["hosts"])
        return str(rows[0][0]) if rows else None

    async def set_hosts(self, hosts: str, instead_of: str | None) -> bool:
        """See `Store`."""
        return bool(await self._rows(operating.SQL["replace_hosts"], hosts=hosts, instead_of=instead_of))

    async def rebind(self, identity: str, hosts: str, positions: Mapping[str, Mapping[str, str]]) -> None:
        """See `Store`."""

        async def work(connection: Connection) -> None:
            await connection.execute(operating.SQL["rebind"], {"identity": identity})
            await connection.execute(operating.SQL["set_hosts"], {"hosts": hosts})
            for watch, of in sorted(positions.items()):
                rows = [{"name": name, "value": text(value)} for name, value in of.items()]
                await write(connection, recording.SQL["set_position"], rows, watch=watch)

        await self._run(work)

    async def take(self, watch: str, session: str = "", instead_of: Lease | None = None) -> Lease:
        """See `Store`."""
        number = await self._number()
        lease = await self._run(lambda c: recording.take(c, watch, number, session, instead_of))
        self._leases[watch] = number if lease.mine else _GIVEN_BACK
        return lease

    async def give_back(self, watch: str) -> None:
        """See `Store`."""
        number, self._leases[watch] = self._leases.get(watch, _GIVEN_BACK), _GIVEN_BACK
        await self._do(recording.SQL["give_lease_back"], watch=watch, daemon=number)

    async def positions(self, watch: str) -> dict[str, str]:
        """See `Store`."""
        return dict(await self._rows(recording.SQL["positions"], watch=watch))

    async def known(self, watch: str, application_ids: Sequence[str]) -> dict[str, Known]:
        """See `Store`."""
        rows = await self._rows(recording.SQL["known"], watch=watch, ids=texts(application_ids))
        return {row[1]: known_from(row) for row in rows}

    async def owners(self, watch: str, keys: Iterable[Key]) -> dict[str, Known]:
        """See `Store`."""
        rows = await self._rows(recording.SQL["owners"], watch=watch, keys=texts(map(key_text, keys)))
        return {row[1]: known_from(row) for row in rows}

    async def compare(self, watch: str, digests: str) -> list[int]:
        """See `Store`."""
        ((numbers,),) = await self._rows(recording.SQL["compare"], watch=watch, digests=digests)
        found: list[int] = json.loads(numbers or "[]")
        return found

    async def verify(self, watch: str, verified: Sequence[Verified]) -> None:
        """See `Store`."""
        await self._run(lambda c: recording.verify(c, watch, verified))

    async def unseen(self, watch: str, bitmap: bytes, first: int, last: int) -> list[str]:
        """See `Store`."""
        numbers = unmarked(bitmap, first, last)
        if not numbers:
            return []
        rows = await self._rows(recording.SQL["unseen"], watch=watch, numbers=numbers)
        return [application_id for (application_id,) in rows]

    async def highest_number(self) -> int:
        """See `Store`."""
        return int((await self._rows(reporting.SQL["highest_number"]))[0][0])

    async def record(self, rules: WatchRules, batch: Batch) -> list[Recorded]:
        """See `Store`."""
        batch = replace(batch, shift=self.clock.shift)
        return await self._run(lambda c: recording.record(c, rules, batch, self._leases.get(rules.watch)))

    async def due_suspicions(self, watch: str, now: int, limit: int, *, horizon: int) -> list[Suspicion]:
        """See `Store`."""
        parameters = {"watch": watch, "now": now, "latest": now + horizon, "limit": limit}
        rows = await self._rows(recording.SQL["due_suspicions"], **parameters)
        return [Suspicion(*row) for row in rows]

    async def suspected(self, watch: str, application_ids: Sequence[str]) -> set[str]:
        """See `Store`."""
        rows = await self._rows(recording.SQL["suspected"], watch=watch, ids=texts(application_ids))
        return {application_id for (application_id,) in rows}

    async def next_suspicion(self, watch: str) -> int | None:
        """See `Store`."""
        ((due_at,),) = await self._rows(recording.SQL["next_suspicion"], watch=watch)
        return None if due_at is None else int(due_at)

    async def claim(
        self, now: int, horizon: int, wanted: Mapping[str, int], probing: Collection[str] = ()
    ) -> list[Entry]:
        """See `Store`."""
        async with self._claiming:
            return await self._claim(now, horizon, wanted, probing)

    async def _claim(self, now: int, horizon: int, wanted: Mapping[str, int], probing: Collection[str]) -> list[Entry]:
        number = await self._number()
        unsure, again = self._unsure, list[Whose]()

        async def work(connection: Connection) -> list[Entry]:
            nonlocal again
            if unsure:
                again = await delivering.reconcile(connection, number, self._claims, self._going_on)
            taking = Taking(number, now, self.clock.shift, horizon, self._claims)
            return await delivering.claim(connection, taking, wanted, probing)

        try:
            entries = await self._run(work)
        except BaseException:
            # It may have been written all the same; then those claims are ours, and nobody knows of them.
            self._unsure = True
            raise
        if unsure:
            self._reconciled(number, again)
        for entry in entries:
            whose = (entry.watch, entry.application_id)
            self._claims[whose], self._under_way[whose] = number, entry
        return entries

    @property
    def _going_on(self) -> list[Entry]:
        """What is under way and is not about to end."""
        return [entry for whose, entry in self._under_way.items() if whose not in self._ending]

    async def _reconcile(self) -> None:
        """Make the store's claims of ours those that we know of, unless the claim under way does it."""
        if self._claiming.locked():
            self._unsure = True
            return
        async with self._claiming:
            number = await self._living.ensure()
            again = await self._within(
                _RENEWS_WITHIN, lambda c: delivering.reconcile(c, number, self._claims, self._going_on)
            )
            self._reconciled(number, again)

    def _reconciled(self, number: int, again: Iterable[Whose]) -> None:
        self._unsure = False
        for whose in again:
            if whose in self._claims:
                self._claims[whose] = number
                self._claimed_again.add(whose)
            else:
                self._unsure = True  # its end was written at the same moment, and nobody knows of this claim

    def expect(self, longest_call: float) -> None:
        """See `Store`."""
        self._living.expect(longest_call)

    def holds(self, entry: Entry) -> bool:
        """See `Store`."""
        claimed = self._claims.get((entry.watch, entry.application_id))
        if claimed is None or (entry.watch, entry.application_id) in self._claimed_again:
            return False
        return claimed == self._living.number and self._living.holds

    async def finish(self, finished: Sequence[Finished], health: Mapping[str, Health]) -> None:
        """See `Store`."""
        shift = self.clock.shift
        ending = {(end.entry.watch, end.entry.application_id) for end in finished}
        self._ending |= ending
        try:
            await self._run(lambda c: delivering.finish(c, finished, health, self._claims, shift=shift))
            for whose in ending:
                self._claims.pop(whose, None)
                self._under_way.pop(whose, None)
            self._claimed_again -= ending
        finally:
            self._ending -= ending

    async def check_place(self) -> None:
        """See `Store`. A server that has lost its tables says so."""

    async def release_claims(self) -> None:
        """See `Store`. Those of daemons that ended in order at once, of others when it is certain."""
        await self._number()
        await self._living.bury_dead()

    async def endpoints(self) -> dict[str, tuple[Health, int | None]]:
        """See `Store`."""
        rows = await self._rows(delivering.SQL["endpoints"])
        return {endpoint: (health_from(health), due_at) for endpoint, health, due_at in rows}

    async def fuses(self) -> dict[str, Fuse]:
        """See `Store`."""
        return {watch: fuse_from(fuse) for watch, fuse in await self._rows(operating.SQL["fuses"])}

    async def blow_fuse(self, watch: str, reason: str, now: int) -> None:
        """See `Store`."""
        await self._run(lambda c: recording.blow_fuse(c, watch, reason, now))

    async def release_held(self, watch: str | None, now: int, only: Only | None, limit: int | None) -> int:
        """See `Store`."""
        selection = Selection("held", watch, None, only, limit)
        due_at = self.clock.due(now)
        return await self._run(lambda c: operating.release_held(c, selection, now, due_at))

    async def discard(
        self,
        state: EntryState,
        watch: str | None,
        ids: Sequence[str] | None,
        *,
        now: int,
        only: Only | None = None,
        limit: int | None = None,
    ) -> list[tuple[str, str]]:
        """See `Store`."""
        return await self._run(lambda c: operating.discard(c, Selection(state, watch, ids, only, limit), now))

    async def retry_dead(self, watch: str | None, ids: Sequence[str] | None, now: int) -> list[tuple[str, str]]:
        """See `Store`."""
        due_at = self.clock.due(now)
        return await self._run(lambda c: operating.retry_dead(c, Selection("dead", watch, ids), now, due_at))

    async def resend(self, watch: str | None, ids: Sequence[str], now: int) -> list[tuple[str, str]]:
        """See `Store`."""
        due_at = self.clock.due(now)
        return await self._run(lambda c: operating.resend(c, watch, ids, now, due_at))

    async def entries(self, state: EntryState, watch: str | None, limit: int) -> list[Entry]:
        """See `Store`."""
        found = await self._run(lambda c: reporting.entries(c, state, watch, limit))
        shift = self.clock.shift
        return [entry_for_people(entry, shift) for entry in found]

    async def counts(self) -> dict[str, WatchCounts]:
        """See `Store`."""
        return counts_for_people(await self._run(reporting.counts), self.clock.shift)

    async def skipped(self, watch: str, limit: int) -> list[Skip]:
        """See `Store`."""
        return await self._run(lambda c: reporting.skipped(c, watch, limit))

    async def records(self, application_id: str, watch: str | None) -> list[Record]:
        """See `Store`."""
        found = await self._run(lambda c: reporting.records(c, application_id, watch))
        return records_for_people(found, self.clock.shift)

    async def story(self, application_id: str, watch: str | None, limit: int) -> list[Event]:
        """See `Store`."""
        return await self._run(lambda c: reporting.story(c, application_id, watch, limit))

    async def recent(self, limit: int) -> list[Event]:
        """See `Store`."""
        return await self._run(lambda c: reporting.recent(c, limit))

    async def recent_ends(self, limit: int, *, failed: bool) -> list[Event]:
        """See `Store`."""
        return await self._run(lambda c: reporting.recent_ends(c, limit, failed=failed))

    async def call_counts(self, since: int) -> list[CallCounts]:
        """See `Store`."""
        return await self._run(lambda c: reporting.call_counts(c, since))

    async def set_condition(self, name: str, message: str | None, now: int) -> None:
        """See `Store`."""
        number = await self._number()
        if message is None:
            await self._do(operating.SQL["clear_condition"], daemon=number, name=name)
        else:
            await self._do(operating.SQL["set_condition"], daemon=number, name=name, message=text(message), now=now)

    async def conditions(self) -> list[Condition]:
        """See `Store`."""
        return await self._run(reporting.conditions)

    async def add_repairs(self, watch: str, causes: Mapping[str, int]) -> None:
        """See `Store`."""
        rows = as_json({"cause": cause, "count": number} for cause, number in sorted(causes.items()))
        await self._do(operating.SQL["add_repairs"], watch=watch, rows=rows)

    async def repairs(self) -> dict[str, dict[str, int]]:
        """See `Store`."""
        return await self._run(reporting.repairs)

    async def prune(self, before: int, keep: int, limit: int) -> int:
        """See `Store`."""
        await self._do(operating.SQL["prune_call_counts"], until=before - CALL_STEP)
        ((pruned,),) = await self._rows(operating.SQL["prune"], before=before, keep=keep, limit=limit)
        return int(pruned)


async def _rows_of(connection: Connection, statement: bytes, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    return await (await connection.execute(statement, parameters)).fetchall()
