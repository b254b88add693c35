"""The SQLite store: each method of the protocol is one job in the store's thread."""

import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from cdc_sync.core.endpoint import Health
from cdc_sync.core.fuse import Fuse
from cdc_sync.core.outbox import Entry, EntryState, Known, Skip, Suspicion, Verified
from cdc_sync.core.rows import Key
from cdc_sync.core.rules import WatchRules
from cdc_sync.store.bitmaps import unmarked
from cdc_sync.store.clock import Clock
from cdc_sync.store.columns import health_from, json_list, key_text, known_from
from cdc_sync.store.for_people import counts_for_people, entry_for_people, records_for_people
from cdc_sync.store.protocol import (
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
    StoreGoneError,
    WatchCounts,
)
from cdc_sync.store.sqlite import delivering, operating, recording, reporting
from cdc_sync.store.sqlite.operating import Selection
from cdc_sync.store.sqlite.schema import connect, translate
from cdc_sync.store.sqlite.thread import SqliteThread

T = TypeVar("T")


class SqliteStore:
    """A `Store` in the file at `path`, which is made if it is missing.

    It may be opened several times (operator commands work beside the daemon); that only one daemon sends is
    `lock.StoreLock`'s business.

    Raises:
        StoreError: the file cannot be used; the message says why.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._path = path
        self.moves = 0
        self.clock: Clock
        self._files: dict[Path, tuple[int, int] | None] = {}
        self._gone: StoreGoneError | None = None
        self._thread = SqliteThread(
            lambda: self._connect(read_only=read_only), "BEGIN" if read_only else "BEGIN IMMEDIATE"
        )

    def _connect(self, *, read_only: bool) -> sqlite3.Connection:
        connection = connect(self._path, read_only=read_only)
        try:
            self.clock = operating.clock(connection, keep=not read_only)
        except sqlite3.Error as error:
            connection.close()
            raise StoreError(translate(self._path, error)) from error
        # Without a journal of its own, a reader has no file that is its.
        self._files = {} if read_only else _files_of(self._path)
        return connection

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._gone is not None:
            # What it knows counts no more: a change that is no news to it must stay in the log.
            raise self._gone
        try:
            return await self._thread.run(work)
        except sqlite3.Error as error:
            raise StoreError(translate(self._path, error)) from error

    async def close(self) -> None:
        """See `Store`."""
        await self._thread.close()

    async def bind(self, identity: str) -> None:
        """See `Store`."""

        def work(connection: sqlite3.Connection) -> str:
            row = connection.execute(operating.SQL["identity"]).fetchone()
            if row is None:
                connection.execute(operating.SQL["set_identity"], (identity,))
                return identity
            return str(row[0])

        bound = await self._run(work)
        if bound != identity:
            raise AnotherDatabaseError.between(str(self._path), bound, identity)

    async def identity(self) -> str | None:
        """See `Store`."""
        row = await self._run(lambda c: c.execute(operating.SQL["identity"]).fetchone())
        return None if row is None else str(row[0])

    async def hosts(self) -> str | None:
        """See `Store`."""
        row = await self._run(lambda c: c.execute(operating.SQL["hosts"]).fetchone())
        return None if row is None else str(row[0])

    async def set_hosts(self, hosts: str, instead_of: str | None) -> bool:
        """See `Store`."""
        parameters = {"hosts": hosts, "instead_of": instead_of}
        return await self._run(lambda c: c.execute(operating.SQL["replace_hosts"], parameters).rowcount == 1)

    async def rebind(self, identity: str, hosts: str, positions: Mapping[str, Mapping[str, str]]) -> None:
        """See `Store`."""
        rows = [(watch, name, value) for watch, of in positions.items() for name, value in of.items()]

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(operating.SQL["rebind"], (identity,))
            connection.execute(operating.SQL["set_hosts"], (hosts,))
            connection.executemany(recording.SQL["set_position"], rows)

        await self._run(work)

    async def take(self, watch: str, session: str = "", instead_of: Lease | None = None) -> Lease:  # noqa: ARG002
        """See `Store`. Nobody else can have it: one daemon has the file."""
        return Lease(mine=True)

    async def give_back(self, watch: str) -> None:
        """See `Store`."""

    async def positions(self, watch: str) -> dict[str, str]:
        """See `Store`."""
        return await self._run(lambda c: dict(c.execute(recording.SQL["positions"], (watch,)).fetchall()))

    async def known(self, watch: str, application_ids: Sequence[str]) -> dict[str, Known]:
        """See `Store`."""
        return await self._run(lambda c: recording.known(c, watch, list(application_ids)))

    async def owners(self, watch: str, keys: Iterable[Key]) -> dict[str, Known]:
        """See `Store`."""
        parameters = {"watch": watch, "keys": json_list(map(key_text, keys))}
        return await self._run(
            lambda c: {
                row[1]: known_from(row) for row in recording.rows_out(c.execute(recording.SQL["owners"], parameters))
            }
        )

    async def compare(self, watch: str, digests: str) -> list[int]:
        """See `Store`."""
        parameters = {"watch": watch, "digests": digests}
        numbers = await self._run(lambda c: str(c.execute(recording.SQL["compare"], parameters).fetchone()[0]))
        found: list[int] = json.loads(numbers)
        return found

    async def verify(self, watch: str, verified: Sequence[Verified]) -> None:
        """See `Store`."""
        await self._run(lambda c: recording.verify(c, watch, verified))

    async def unseen(self, watch: str, bitmap: bytes, first: int, last: int) -> list[str]:
        """See `Store`."""
        numbers = unmarked(bitmap, first, last)
        if not numbers:
            return []
        parameters = {"watch": watch, "numbers": json.dumps(numbers)}
        return await self._run(lambda c: [id_ for (id_,) in c.execute(recording.SQL["unseen"], parameters)])

    async def highest_number(self) -> int:
        """See `Store`."""
        return await self._run(lambda c: int(c.execute(reporting.SQL["highest_number"]).fetchone()[0]))

    async def record(self, rules: WatchRules, batch: Batch) -> list[Recorded]:
        """See `Store`."""
        batch = replace(batch, shift=self.clock.shift)
        news = await self._run(lambda c: recording.record(c, rules, batch))
        # Before whoever captured it takes it from the log: what is in no file must come again.
        await self.check_place()
        return news

    async def due_suspicions(self, watch: str, now: int, limit: int, *, horizon: int) -> list[Suspicion]:
        """See `Store`."""
        parameters = {"watch": watch, "now": now, "latest": now + horizon, "limit": limit}
        return await self._run(
            lambda c: [Suspicion(*row) for row in c.execute(recording.SQL["due_suspicions"], parameters)]
        )

    async def suspected(self, watch: str, application_ids: Sequence[str]) -> set[str]:
        """See `Store`."""
        parameters = {"watch": watch, "ids": json_list(application_ids)}
        return await self._run(lambda c: {id_ for (id_,) in c.execute(recording.SQL["suspected"], parameters)})

    async def next_suspicion(self, watch: str) -> int | None:
        """See `Store`."""
        return await self._run(lambda c: c.execute(recording.SQL["next_suspicion"], (watch,)).fetchone()[0])

    async def claim(
        self, now: int, horizon: int, wanted: Mapping[str, int], probing: Collection[str] = ()
    ) -> list[Entry]:
        """See `Store`."""
        await self.check_place()
        shift = self.clock.shift
        return await self._run(lambda c: delivering.claim(c, now, horizon, wanted, probing, shift=shift))

    async def finish(self, finished: Sequence[Finished], health: Mapping[str, Health]) -> None:
        """See `Store`."""
        shift = self.clock.shift
        await self._run(lambda c: delivering.finish(c, finished, health, shift=shift))

    def expect(self, longest_call: float) -> None:
        """See `Store`. Nobody else could claim anything meanwhile."""

    def holds(self, entry: Entry) -> bool:  # noqa: ARG002 - whatever was claimed
        """See `Store`. Nobody else can claim it: one daemon has the file."""
        return True

    async def check_place(self) -> None:
        """See `Store`."""
        for path, opened in self._files.items():
            if self._gone is None and _identity(path, opened) != opened:
                self._gone = StoreGoneError.from_under(str(self._path), str(path))
        if self._gone is not None:
            raise self._gone

    async def release_claims(self) -> None:
        """See `Store`."""
        await self._run(lambda c: c.execute(delivering.SQL["release_claims"]).rowcount)

    async def endpoints(self) -> dict[str, tuple[Health, int | None]]:
        """See `Store`."""

        def work(connection: sqlite3.Connection) -> dict[str, tuple[Health, int | None]]:
            rows = connection.execute(delivering.SQL["endpoints"])
            return {endpoint: (health_from(health), due_at) for endpoint, health, due_at in rows}

        return await self._run(work)

    async def fuses(self) -> dict[str, Fuse]:
        """See `Store`."""
        return await self._run(
            lambda c: {watch: Fuse(**json.loads(state)) for watch, state in c.execute(operating.SQL["fuses"])}
        )

    async def blow_fuse(self, watch: str, reason: str, now: int) -> None:
        """See `Store`."""
        await self._run(lambda c: operating.blow_fuse(c, watch, reason, now))

    async def release_held(self, watch: str | None, now: int, only: Only | None, limit: int | None) -> int:
        """See `Store`."""
        due_at, selection = self.clock.due(now), Selection("held", watch, None, only, limit)
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
        if message is None:
            await self._run(lambda c: c.execute(operating.SQL["clear_condition"], (name,)).rowcount)
        else:
            await self._run(lambda c: c.execute(operating.SQL["set_condition"], (name, message, now)).rowcount)

    async def conditions(self) -> list[Condition]:
        """See `Store`."""
        return await self._run(reporting.conditions)

    async def add_repairs(self, watch: str, causes: Mapping[str, int]) -> None:
        """See `Store`."""
        rows = [(watch, cause, number) for cause, number in causes.items()]
        await self._run(lambda c: c.executemany(operating.SQL["add_repairs"], rows).rowcount)

    async def repairs(self) -> dict[str, dict[str, int]]:
        """See `Store`."""
        return await self._run(reporting.repairs)

    async def prune(self, before: int, keep: int, limit: int) -> int:
        """See `Store`."""
        return await self._run(lambda c: operating.prune(c, before, keep, limit))


def _files_of(path: Path) -> dict[Path, tuple[int, int] | None]:
    """The store's file and those that SQLite keeps beside it while it is open, with what each is."""
    files = (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm"))
    return {file: _identity(file) for file in files}


def _identity(path: Path, otherwise: tuple[int, int] | None = None) -> tuple[int, int] | None:
    """Device and inode; None if there is no such file, `otherwise` if nobody can tell."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return otherwise
    return found.st_dev, found.st_ino
