"""One watch's way from its database into the store: from keys, or rows just read, to one applied batch.

The store's transaction decides what a row means (`core.plan`). If one row cannot decide, all rows of its application
are read and applied in a second transaction.

A kind of capture is one module, with its jobs and its positions in the store. Its configuration names what it needs of
the database (`config.Capture.needs_log`). `ats.beginning` lists the kinds.
"""

import asyncio
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import ClassVar, NamedTuple

from cdc_sync import __version__
from cdc_sync.config import Capture as Configured
from cdc_sync.config import Watch
from cdc_sync.core import events
from cdc_sync.core.batch import NO_CALLS, Applied, Batch, BesideApply, Resolved
from cdc_sync.core.diff import Decision, Enqueue
from cdc_sync.core.outbox import EntryState
from cdc_sync.core.reasons import Reason
from cdc_sync.core.rows import Key, Observation, Origin, Reportable, WatchRules, by_application, interpret
from cdc_sync.core.watch_names import template_of
from cdc_sync.core.zone import Dated, EventDates
from cdc_sync.event_loop import Work
from cdc_sync.store import Store
from cdc_sync.store.capture import FROM_DATABASE

from .connection import REPLICA
from .database import Database, Sessions
from .errors import reason, source_error
from .facts import TableFacts
from .lookout import Watched
from .mapping import Statements
from .reading import Hiding, Read, Reader, reason_of, warning_of
from .rows_elsewhere import OtherWatches, resolved
from .triggers import relations_of

_REMEMBERED_SKIPS = 100_000
_CHANGES = frozenset({"notify", "poll", "sweep"})
_QUEUED: Mapping[EntryState, events.Outcome] = {"pending": "queued", "held": "held", "dead": "dead"}
_OUTCOMES: Mapping[Decision, events.Outcome] = {"cancel": "cancelled", "adopt": "adopted"}

MOST_CAPTURED = 20_000
"""The number of names from which `Intake.captured_meanwhile` is incomplete."""

TABLE = "table"
"""The position with the table's oid."""

FORGOTTEN = ""
"""The position after `adopt-database`: the next table is an unknown one."""


class Steps(NamedTuple):
    """How much a watch does at once, and how often, in seconds.

    `give_back_every` and `place_every` are at least so long.

    Attributes:
        adopted: rows of the baseline.
        drained: changes of the log.
        give_back_every: tries to shorten the change log's file: each takes a short lock, which a standby replays.
        polled: rows of a poll.
        look_every: looks at the server's transactions, and moves of a poll's watermark: each takes a transaction id.
        place_every: saves of a poll's watermark: a restart reads again from there.
        compared: rows that a sweep compares: one store statement of some 10 ms, which may delay the capture.
        read: rows that a sweep reads, at most: Python gives little of their memory back.
        searched: record numbers examined for unmet records.
        confirmed: suspected deletions.
    """

    adopted: int = 500
    drained: int = 1_000
    give_back_every: float = 60.0
    polled: int = 500
    look_every: float = 15.0
    place_every: float = 300.0
    compared: int = 5_000
    read: int = 500
    searched: int = 20_000
    confirmed: int = 200


@dataclass(frozen=True, slots=True)
class WatchParts:
    """What a watch works with, beside its database's sessions.

    Attributes:
        rules: the core's form of the watch's configuration.
        clock: this daemon's, in milliseconds since the epoch.
        beside_apply: the sender.
        event_dates: how those of the last changed rows fit.
    """

    name: str
    watch: Watch
    rules: WatchRules
    database: Database
    others: OtherWatches
    observe: events.Emit
    clock: Callable[[], int]
    beside_apply: BesideApply = NO_CALLS
    event_dates: EventDates = field(default_factory=EventDates)
    want_sweep: Callable[[], None] = lambda: None
    dry_run: bool = False
    steps: Steps = field(default_factory=Steps)

    @property
    def store(self) -> Store:
        """The database's store."""
        return self.database.store


class WatchedTable:
    """One watch's table, and whether it is the one from before, by its oid.

    Schemas are renamed, dropped and restored, so a tenant's name may lead to another table. Rows that are missing there
    prove nothing:

    - It is another tenant's table: two schemas' names were exchanged, say. The watch waits.
    - It is unknown: it was restored, or recreated. A sweep compares it, and the deletions that are found until they are
      answered are held for a person. Only then it is the tenant's table: a crash repeats all of it.

    A dump that is restored gives tables other oids. A failover to a standby, a restored disk and pg_upgrade keep them
    (src/bin/pg_upgrade/pg_upgrade.c: "We control all assignments of pg_class.oid").

    Attributes:
        doubt: why deletions are held; None if the table is known.
        is_compared: whether a sweep has compared every row.
    """

    def __init__(self, parts: WatchParts, facts: TableFacts) -> None:
        self.doubt: Reason | None = None
        self._parts, self._facts = parts, facts
        self.is_compared = False

    async def recognise(self, before: str | None) -> Mapping[str, str]:
        """Compare with the oid of an earlier run; returns the position to write at once.

        Raises:
            SourceError: it is another watch's table.
        """
        parts, facts = self._parts, self._facts
        now = str(facts.oid)
        if before == now:
            return {}
        if before is None or not await parts.store.report.known_of(parts.name):
            return {TABLE: now}
        if (other := await self._other_watch()) is not None:
            raise source_error("table-of-another", table=facts.qualified, watch=other)
        self.doubt = reason("table-unknown", table=facts.qualified)
        parts.observe(events.TableReplaced(parts.name, str(facts.qualified)))
        return {}

    async def _other_watch(self) -> str | None:
        """The watch of the same template that was captured from this table; other templates may share it."""
        parts, template = self._parts, template_of(self._parts.name)
        for watch, of in (await parts.store.report.positions_of_all(TABLE, FROM_DATABASE)).items():
            is_here = of.get(TABLE) == str(self._facts.oid) and of.get(FROM_DATABASE, "") == parts.database.name
            if is_here and watch != parts.name and template_of(watch) == template:
                return watch
        return None

    async def accepted(self) -> Mapping[str, str]:
        """The position to write once a sweep has compared an unknown table, and its deletions are answered."""
        if self.doubt is None or not self.is_compared:
            return {}
        if await self._parts.store.capture.next_suspicion(self._parts.name) is not None:
            return {}
        self.doubt = None
        return {TABLE: str(self._facts.oid)}


class Intake:
    """Reads one watch's rows, applies them, and reports the results.

    Attributes:
        name: the watch's.
        lock: held from the reading of rows until they are applied; `keys`, `place` and `look_for_policies` take it.
        requests: sweeps requested since the last complete one began, for changes that no event names (a TRUNCATE,
            another partition, a row of a table that any application may depend on). Meanwhile a difference does not
            prove that the capture missed something.
        watched: the lookout's part.
        seen: its last examined state.
        shape_of_digests: what a row's digest depends on beside the data: see `shape`.
        captured_meanwhile: keys and applications that others than the sweep have applied since it began with a page,
            up to `MOST_CAPTURED`, then not all of them; None if no sweep runs.
        suspected: set when a deletion is suspected.
        unreported: applications without a row here, of which another watch has one that causes no call: each sweep
            suspects their deletion again.
        skipped: unreportable rows in the store: each is reported once.
        table: whether the table is the one from before.
        hidden_by: the policies of row-level security that may hide rows.
        swept_at: when the last sweep ended, in milliseconds since the epoch; 0 before the first one.

    Raises:
        SourceError: by every method: rows cannot be read; some parts of large ones may be applied.
        StoreError: by every method: the outcome cannot be saved.
    """

    def __init__(self, parts: WatchParts, sessions: Sessions, mapping: Statements) -> None:
        self.parts, self.sessions = parts, sessions
        self.rules, self.store, self.observe, self.clock = parts.rules, parts.store, parts.observe, parts.clock
        self.reader = Reader(sessions.pool, mapping)
        self.name, watch = parts.name, parts.watch
        needed = relations_of(self.name, watch) if watch.capture.needs_log else [watch.table]
        self.watched = Watched(self.name, needed)
        self.seen = self.watched.state
        self.lock = asyncio.Lock()
        self.requests = 0
        # Another version may interpret rows differently.
        self.shape_of_digests = f"{__version__} {shape(self.reader.mapping.by_keys.following.rows, parts.rules)}"
        self.captured_meanwhile: set[Key | str] | None = None
        self.suspected = asyncio.Event()
        self.unreported: set[str] = set()
        self.skipped: dict[Key, str] = {}
        self.table = WatchedTable(parts, mapping.facts)
        self.hidden_by: frozenset[Hiding] = frozenset()
        self.swept_at = 0

    async def load(self) -> None:
        """Look at the tables, and load the results of an earlier run."""
        await self.sessions.lookout.join(self.watched)
        # Every later look is at least as recent.
        self.seen = self.watched.state
        positions = await self.store.capture.positions(self.name)
        skips = await self.store.report.skipped([self.name], _REMEMBERED_SKIPS)
        self.skipped = {skip.key: skip.reason or "" for _, skip in skips}
        await self.place(await self.table.recognise(positions.get(TABLE)))
        self.see_hiding(await self.reader.hidden_by(), always=True)

    async def look_for_policies(self) -> bool:
        """Check whether row-level security may hide rows; returns whether some policy no longer does."""
        async with self.lock:
            before = self.hidden_by
            self.see_hiding(await self.reader.hidden_by())
            return bool(before - self.hidden_by)

    def see_hiding(self, hidden_by: frozenset[Hiding], *, always: bool = False) -> None:
        """Note which policies may hide rows; report news, or `always`."""
        if always or hidden_by != self.hidden_by:
            self.hidden_by, self.watched.rechecks = hidden_by, bool(hidden_by)
            if hidden_by:
                self.observe(events.RowsHidden(self.name, warning_of(hidden_by)))
            else:
                self.observe(events.RowsVisible(self.name))

    def doubt(self, hidden_by: frozenset[Hiding]) -> str | None:
        """Why deletions are held; `hidden_by` may hide rows."""
        return reason_of(hidden_by) if hidden_by else self.table.doubt

    async def keys(self, times: Mapping[Key, int], origin: Origin) -> list[Applied]:
        """Read the rows of these keys and apply them, in parts; a key without a row is gone.

        `times` has when each may have changed.
        """
        async with self.lock:
            applied: list[Applied] = []
            async for read, answered in self.reader.parts_by_key(times):
                found = {row.key for row in read.rows}
                gone = {key: times[key] for key in answered if key not in found}
                self.observe(events.ChangesRead(self.name, origin, len(found) + len(gone)))
                observations = [interpret(row, self.rules, times.get(row.key, read.at)) for row in read.rows]
                applied.append(await self.apply(self.batch(origin)._replace(observations=observations, gone=gone)))
            return applied

    async def compared(self) -> None:
        """A sweep has compared every row."""
        self.swept_at = self.clock()
        self.table.is_compared = True
        await self.place(await self.table.accepted())

    async def place(self, positions: Mapping[str, str]) -> None:
        """Save capture positions only."""
        if not positions:
            return
        async with self.lock:
            batch = self.batch("poll")._replace(positions=positions)  # without rows, no origin matters
            await self.store.capture.apply(self.rules, batch, self.parts.beside_apply)

    def request_sweep(self) -> None:
        """Ask for a sweep that finds changes which no event names. A start sweeps anyway."""
        self.requests += 1
        self.parts.want_sweep()

    def interpreted(self, read: Read) -> list[Observation]:
        """A page's rows; none changed later than it was read."""
        return [interpret(row, self.rules, read.at) for row in read.rows]

    def batch(self, origin: Origin) -> Batch:
        """A batch of no rows yet, to be applied now."""
        parts, position = self.parts, self.reader.pool.guard.text
        return Batch(
            origin,
            parts.clock(),
            self.rules.baseline if origin == "baseline" else self.rules.first_status,
            skipped=self.skipped,
            # With the news: after a restart, no server without them is read.
            replica={REPLICA: position} if position else {},
            doubt=self.doubt(self.hidden_by),
            others=parts.others.of(self.name),
            unreported=self.unreported,
        )

    async def apply(self, batch: Batch) -> Applied:
        """Apply a batch, and in a second step, with the positions, applications whose rows must all be read first.

        If the second reading fails, the first step stays applied, without the positions.
        """
        applied = await self._apply_once(batch)
        resolved: list[Resolved] = []
        if applied.unresolved:
            resolved = await self.resolve(applied.unresolved)
            rest = self.batch(batch.origin)._replace(resolved=resolved, positions=batch.positions)
            second = await self._apply_once(rest)
            applied = applied._replace(
                results=[*applied.results, *second.results],
                suspected=applied.suspected | second.suspected,
                written=applied.written or second.written,
            )
        # Not before: a sweep's page that begins meanwhile must find them too.
        captured = None if batch.origin == "sweep" else self.captured_meanwhile
        if captured is not None and len(captured) < MOST_CAPTURED:
            captured.update(batch.gone, batch.application_ids, (row.key for row in batch.observations))
            captured.update(key for each in (*batch.resolved, *resolved) for key in each.keys)
        return applied

    async def _apply_once(self, batch: Batch) -> Applied:
        """Apply one step, and report its results."""
        if not (batch.observations or batch.gone or batch.resolved or batch.positions):
            return Applied()
        applied = await self.store.capture.apply(self.rules, batch, self.parts.beside_apply)
        if applied.suspected:
            self.suspected.set()
        self.parts.others.look(applied.heirs)
        self._report(applied, batch.origin)
        if self.parts.watch.columns.event_date is not None and batch.origin in _CHANGES:
            self._see_dates(batch, applied)
        return applied

    async def resolve(self, unresolved: Mapping[str, int]) -> list[Resolved]:
        """Read all rows of these applications; each id comes with the time of its change."""
        read = await self.reader.by_application(unresolved)
        self.see_hiding(self.hidden_by | read.hidden_by)
        found = by_application(read.rows, unresolved)
        return [resolved(id_, at, found.get(id_, ()), self.rules) for id_, at in unresolved.items()]

    def _see_dates(self, batch: Batch, applied: Applied) -> None:
        """Compare the event dates of changed rows with the changes; report news."""
        changed = {each.application_id for each in applied.results if isinstance(each.decision, Enqueue)}
        observed = (*batch.observations, *(each.canonical for each in batch.resolved))
        rows = [each for each in observed if isinstance(each, Reportable) and each.application_id in changed]
        # The first sweep finds what changed at any time before.
        since = {row.key: self.swept_at if batch.origin == "sweep" else row.changed_at for row in rows}
        dated = [Dated(row.key, row.content.event_date, since[row.key], row.changed_at) for row in rows]
        dates, name = self.parts.event_dates, self.name
        if dates.see(dated):
            self.observe(events.ZoneDoubted(name, dates.reason) if dates.hours else events.ZoneTrusted(name))

    def _report(self, applied: Applied, origin: Origin) -> None:
        for skip in applied.skips:
            if skip.reason is None:
                self.skipped.pop(skip.key, None)
            else:
                self.skipped[skip.key] = skip.reason
                self.observe(events.RowSkipped(self.name, "/".join(skip.key), skip.application_id, skip.reason))
        for result in applied.results:
            decision = result.decision
            outcome = _QUEUED[result.state or "pending"] if isinstance(decision, Enqueue) else _OUTCOMES[decision]
            # The baseline reports a number of adoptions.
            if outcome != "adopted" or origin != "baseline":
                self.observe(events.Decided(self.name, result.application_id, origin, outcome, result.reason))


def shape(statement: str, rules: WatchRules) -> str:
    """A digest of what a comparison depends on beside the data: table, key, mapping, rules."""
    # As a list: the fields' order is that of the row's values.
    extra = [{"name": name, "only_for": statuses} for name, statuses in rules.extra.items()]
    # Further accounts change no row that could be reported. Sets have no order of their own.
    text = json.dumps(asdict(rules) | {"extra": extra, "accounts": None}, sort_keys=True, default=sorted)
    return hashlib.sha256(f"{statement}\0{text}".encode()).hexdigest()


Jobs = dict[str, Callable[[], Work]]
"""Endless work, by name: functions, so that none is left unstarted when another cannot get ready."""


class Capture(ABC):
    """Captures one watch's changes between sweeps.

    Attributes:
        sees_deletions: if not, a deletion that a sweep finds is no repair.

    Raises:
        SourceError: by every method: the database cannot be queried; nothing is lost.
        StoreError: by every method: the outcome cannot be saved; changes are read again.
    """

    sees_deletions: ClassVar[bool] = True

    def __init__(self, intake: Intake) -> None:
        self.intake, self.parts, self.pool = intake, intake.parts, intake.sessions.pool
        self.name, self.observe = intake.name, intake.observe
        self.watched, self.lookout = intake.watched, intake.sessions.lookout
        # Another watch may refresh the shared facts meanwhile.
        self.server = self.lookout.server

    @classmethod
    @abstractmethod
    async def open(cls, intake: Intake) -> "Capture":
        """Make a watch's capture, and report what it lacks."""

    @staticmethod
    @abstractmethod
    def longest_silence(configured: Configured) -> float:
        """Seconds that may normally pass without a complete look at the database."""

    async def begin(self) -> None:  # noqa: B027 - most kinds are ready
        """Get ready after the baseline."""

    @abstractmethod
    async def catch_up(self) -> None:
        """Apply every change committed before this call; a dry run reads the change log no further than one batch."""

    async def jobs(self) -> Jobs:
        """The endless jobs."""
        return {"tables": self._watch_tables}

    async def look_closer(self) -> None:
        """Look at what the lookout reported, and request a sweep for what no row and no log entry may show.

        That is a TRUNCATE, another partition, triggers that were off meanwhile, a log that was replaced. After policies
        have gone, the sweep meets the rows that they hid, and cancels their suspected and held deletions.
        """
        state, server = self.watched.state, self.lookout.server
        is_new = state != self.intake.seen
        shows_more = (is_new or self.watched.rechecks) and await self.intake.look_for_policies()
        if is_new or shows_more:
            self.intake.request_sweep()
        self.intake.seen = state
        if is_new or server != self.server:
            await self.look_at_setup()

    async def look_at_setup(self) -> None:  # noqa: B027 - most kinds depend on nothing
        """Raise `ChangedError` if the database is set up otherwise than at the start."""

    async def _watch_tables(self) -> None:
        # A failure from the baseline is repeated by the next look if it lasts.
        self.watched.error = None
        while True:
            await self.watched.changed.wait()
            self.watched.changed.clear()
            if self.watched.error is not None:
                raise self.watched.error
            await self.look_closer()

    async def was_worked_before(self) -> bool:
        """Whether the database shows that an earlier daemon captured the watch."""
        return False


class ChangedError(Exception):
    """The triggers or the server's settings have changed: begin again."""
