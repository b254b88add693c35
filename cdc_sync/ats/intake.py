"""One watch's way from its database into the store: from keys, or rows just read, to one applied batch."""

import hashlib
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TypeVar

from cdc_sync import __version__
from cdc_sync.ats.applying import Applier
from cdc_sync.ats.changelog import latest
from cdc_sync.ats.database import Sessions, WatchParts
from cdc_sync.ats.deletions import Deletions
from cdc_sync.ats.lookout import Watched
from cdc_sync.ats.mapping import Mapping as TableMapping
from cdc_sync.ats.reading import Read, Reader
from cdc_sync.ats.recorders import relations_of
from cdc_sync.ats.tenant_table import POSITION as TABLE
from cdc_sync.core.batch import ApplyResult, different
from cdc_sync.core.events import ChangesRead
from cdc_sync.core.outbox import Known
from cdc_sync.core.rows import Key, Observation, Origin, WatchRules, interpret

Found = TypeVar("Found", bound=Read)

REQUESTS = "sweeps-asked-for"


class Intake:
    """Reads one watch's rows, and applies them.

    Attributes:
        place: saves capture positions only.
        lock: held from the reading of rows until they are applied; every method but `read` takes it.
        requests: sweeps requested since the last complete one began, for changes that no event names (a TRUNCATE,
            another partition, a row of a table that any application may depend on). Meanwhile a difference does not
            prove that the capture missed something.
        watched: the lookout's part.
        seen: its last examined state.
        shape_of_digests: what a row's digest depends on beside the data: see `shape`.

    Raises:
        SourceError: by every method: rows cannot be read; some parts of large ones may be applied.
        StoreError: by every method: the outcome cannot be saved.
    """

    def __init__(self, parts: WatchParts, sessions: Sessions, mapping: TableMapping) -> None:
        self.parts, self.sessions = parts, sessions
        self.rules, self.store, self.observe, self.clock = parts.rules, parts.store, parts.observe, parts.clock
        self.reader = Reader(sessions.pool, mapping)
        name, watch = parts.name, parts.watch
        self.watched = Watched(name, relations_of(name, watch) if watch.capture.needs.log else [watch.table])
        self.seen = self.watched.state
        self.applier = Applier(parts, self.reader, self.watched)
        self.deletions = Deletions(self.applier)
        self.lock, self.place = self.applier.lock, self.applier.place
        self.requests = 0
        # Another version may interpret rows differently.
        self.shape_of_digests = f"{__version__} {shape(self.reader.shape, parts.rules)}"

    async def load(self) -> None:
        """Load the results of an earlier run."""
        positions = await self.store.capture.positions(self.rules.watch)
        await self.applier.load(positions)
        self.requests = int(positions.get(REQUESTS, "0"))
        await self.place(await self.applier.table.recognise(positions.get(TABLE), self._is_empty))

    async def _is_empty(self) -> bool:
        return not (await self.reader.page(None, 1)).rows

    async def look_for_policies(self, *, first: bool = False) -> bool:
        """Check whether row-level security may hide rows; report a change, or with `first` the present state.

        Returns whether some policy no longer hides rows.
        """
        async with self.lock:
            before = self.applier.hidden_by
            self.applier.see_hiding(await self.reader.hidden_by(), anyhow=first)
            return bool(before - self.applier.hidden_by)

    async def keys(self, times: Mapping[Key, int], origin: Origin) -> list[ApplyResult]:
        """Read the rows of these keys and apply them; `times` has when each may have changed."""
        async with self.lock:
            results: list[ApplyResult] = []
            read_as = await self.reader.as_read(times)
            times = latest((read_as.get(key, key), at) for key, at in times.items()) if read_as else times
            async for read, answered in self.reader.parts_by_key(times):
                results += await self.read(read, {key: times[key] for key in answered}, origin)
            return results

    async def read(self, read: Read, times: Mapping[Key, int], origin: Origin) -> Sequence[ApplyResult]:
        """Apply what was read by the keys of `times`, under `lock`; a key without a row is gone."""
        found = {row.key for row in read.rows}
        gone = {key: at for key, at in times.items() if key not in found}
        if not read.rows and not gone:
            return ()
        self.observe(ChangesRead(self.rules.watch, origin, len(read.rows) + len(gone)))
        observations = [interpret(row, self.rules, times.get(row.key, read.at)) for row in read.rows]
        return (await self.applier.apply(origin, observations=observations, gone=gone)).results

    async def rows(self, read: Callable[[], Awaitable[Found]], origin: Origin) -> Found:
        """Read rows that changed no later than their reading, apply them, and report only news."""
        async with self.lock:
            found = await read()
            applied = await self.applier.apply(origin, observations=self.interpreted(found))
            if applied.written or applied.unresolved:
                self.observe(ChangesRead(self.rules.watch, origin, len(found.rows)))
            return found

    async def adopt(
        self, observations: Sequence[Observation], positions: Mapping[str, str], *, rows_are_new: bool
    ) -> Sequence[ApplyResult]:
        """Apply a page of the baseline, with its position."""
        async with self.lock:
            self.observe(ChangesRead(self.rules.watch, "baseline", len(observations)))
            applied = await self.applier.apply(
                "baseline",
                observations=observations,
                unseen=self.rules.baseline,
                positions=positions,
                rows_are_new=rows_are_new,
            )
            return applied.results

    async def forget_skips(self, keys: Iterable[Key], at: int) -> None:
        """Forget unreportable rows that a sweep no longer met."""
        async with self.lock:
            await self.applier.apply("sweep", gone=dict.fromkeys(keys, at))

    async def compared(self) -> None:
        """A sweep has compared every row."""
        self.applier.swept_at = self.clock()
        self.applier.table.compared()
        await self.place(await self.applier.table.accepted())

    async def request_sweeps(self, number: int) -> None:
        """Count requested sweeps, durably; a negative number removes those that a finished sweep has answered.

        Call this before the reason is forgotten and the sweep begins.
        """
        self.requests = max(self.requests + number, 0)
        await self.place({REQUESTS: str(self.requests)})

    def different(self, rows: Sequence[Observation], known: Mapping[str, Known]) -> set[Key]:
        """See `core.batch.different`."""
        return different(self.rules, self.applier.batch("sweep", observations=rows), known)

    def interpreted(self, read: Read) -> list[Observation]:
        """A page's rows; none changed later than it was read."""
        return [interpret(row, self.rules, read.at) for row in read.rows]


def shape(statement: str, rules: WatchRules) -> str:
    """A digest of what a comparison depends on beside the data: table, key, mapping, rules."""
    # As a list: the fields' order is that of the row's values.
    extra = [{"name": name, "only_for": statuses} for name, statuses in rules.extra.items()]
    # Further accounts change no row that could be reported. Sets have no order of their own.
    text = json.dumps(asdict(rules) | {"extra": extra, "accounts": None}, sort_keys=True, default=sorted)
    return hashlib.sha256(f"{statement}\0{text}".encode()).hexdigest()
