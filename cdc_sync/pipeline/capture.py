"""What captures changes between sweeps: the interface, and what every kind of it works with.

A kind is one module: its class owns how changes are found, the jobs that takes, the positions that the store keeps for
it, how long a look may take to come, and what it says when the database lacks something. What it needs of the database
(columns, triggers, rights) its configuration says (`config.Capture.needs`), so that `check`, `sql install` and
`sql grants` know it. `pipeline.watch` has the list of kinds.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from cdc_sync.config import Capture as Configured
from cdc_sync.core.identifiers import QualifiedName
from cdc_sync.core.observations import SweepDone, TriggersFound, TriggersMissing
from cdc_sync.core.reasons import coded, joined
from cdc_sync.core.watermark import SnapshotReading
from cdc_sync.pipeline.database import nothing
from cdc_sync.pipeline.intake import Intake
from cdc_sync.source.facts import server_facts
from cdc_sync.source.recorders import tables_of, untriggered
from cdc_sync.source.triggers import Installation, Storage, installation, stored_in

Jobs = dict[str, Coroutine[Any, Any, None]]


class Capture(ABC):
    """Captures one watch's changes between sweeps.

    Attributes:
        void_elsewhere: positions that mean nothing once the store is given to another database, and what stands in
            their place then.
        sees_deletions: whether it notices that a row is gone. If not, that is the sweeps' part, and no repair.
        tables: the tables whose changes are noticed.
    """

    void_elsewhere: ClassVar[Mapping[str, str]] = {}
    sees_deletions: ClassVar[bool] = True

    def __init__(self, intake: Intake) -> None:
        self.intake, self.parts, self.pool = intake, intake.parts, intake.sessions.pool
        self.tables: Sequence[QualifiedName] = [intake.parts.watch.table]
        self._storage: Storage | None = None

    @classmethod
    @abstractmethod
    async def open(cls, intake: Intake) -> "Capture":
        """Make what captures the watch, as its database is now.

        Raises:
            SourceError: the database cannot be asked.
        """

    @staticmethod
    @abstractmethod
    def longest_silence(configured: Configured) -> float:
        """Seconds without a complete look at the database that are nothing unusual, as configured."""

    async def look(self) -> SnapshotReading | None:
        """What to remember of the database's transactions from before the baseline."""
        return None

    async def begin(self, look: SnapshotReading | None) -> None:  # noqa: B027 - most kinds are ready
        """Get ready, after the baseline; `look` is from before it.

        Raises:
            SourceError: the database cannot be asked.
            StoreError: a position cannot be kept.
        """

    @abstractmethod
    async def catch_up(self, progressed: Callable[[], None] = nothing) -> None:
        """Record every change that was committed before this call; `progressed` is told of each step.

        Raises:
            SourceError: the database cannot be read; nothing is lost.
            StoreError: what was read cannot be recorded; it comes again.
        """

    async def jobs(self, progressed: Callable[[], None]) -> Jobs:  # noqa: ARG002 - nothing is looked at
        """What has to run, for ever, for changes to be captured; `progressed` is told of each look."""
        return {"tables": self._watch_tables()}

    async def look_at_tables(self) -> None:
        """Ask for a sweep if, since the last look, something happened to the tables of which single rows do not tell.

        That is another set of partitions, a truncated one, or a policy less.

        Raises:
            SourceError: the catalog cannot be read.
            StoreError: the request cannot be kept.
        """
        storage, before = await stored_in(self.pool, self.tables), self._storage
        # Rows that were hidden were suspected, and their deletion held: seeing them again takes that back.
        if before is not None and (await self.intake.look_for_policies() or storage != before):
            await self.intake.request_sweeps(1)
            self.parts.want_sweep()
        self._storage = storage

    async def look_at_setup(self) -> None:  # noqa: B027 - most kinds depend on nothing
        """Look whether the database is set up as it was.

        Raises:
            ChangedError: it is not: begin again with what is now.
            SourceError: the catalog cannot be read.
        """

    async def _watch_tables(self) -> None:
        every = self.parts.watch.capture.drain_interval.total_seconds()
        while True:
            await asyncio.sleep(every)
            await self.look_at_tables()
            await self.look_at_setup()

    async def swept(self, done: SweepDone) -> None:  # noqa: B027 - most kinds miss nothing
        """Learn from what a sweep has found.

        Raises:
            SourceError: the database cannot be asked.
        """

    def tell_problems(self, meanwhile: str) -> None:  # noqa: B027 - most kinds lack nothing
        """Say what is missing, if anything is, and what finds changes `meanwhile`."""

    async def was_worked_before(self, *, alone: bool) -> bool:  # noqa: ARG002 - of whatever
        """Whether the database shows that an earlier daemon has captured the watch."""
        return False


class ChangedError(Exception):
    """The triggers were installed, removed or replaced, or the server's settings changed."""


class SweepOnlyCapture(Capture):
    """Captures nothing: sweeps find the changes of a watch whose triggers have no log.

    It notices when that changes.
    """

    def __init__(self, intake: Intake, installed: Installation) -> None:
        super().__init__(intake)
        self.installed = installed
        # What it began with: another watch may have found out meanwhile that it is not so any more.
        self.server = intake.sessions.server
        self.tables = tables_of(intake.parts.watch)

    @classmethod
    async def open(cls, intake: Intake) -> Capture:
        """See `Capture`."""
        return cls(intake, await look_for_triggers(intake))

    @staticmethod
    def longest_silence(configured: Configured) -> float:
        """See `Capture`."""
        return 2 * max(configured.drain_interval, configured.poll_interval).total_seconds()

    async def catch_up(self, progressed: Callable[[], None] = nothing) -> None:
        """Nothing to catch up with."""

    def tell_problems(self, meanwhile: str) -> None:
        """See `Capture`."""
        if not self.installed.problems:
            self.parts.observe(TriggersFound(self.parts.name))
            return
        reason = joined(self.installed.problems)
        remedy: str = coded("install", "Let the DBA run what `cdc-sync sql install` prints, or use capture.mode poll.")
        never = untriggered(self.intake.reader.mapping.facts.kind, self.server.version)
        if never is not None:
            reason, remedy = f"{self.parts.watch.table} {never.reason}", never.remedy
        message = coded(
            "triggers",
            "capture.mode is notify, but %(reason)s. %(reason_meanwhile)s %(reason_remedy)s",
            reason=reason,
            reason_meanwhile=meanwhile,
            reason_remedy=remedy,
        )
        self.parts.observe(TriggersMissing(self.parts.name, message))

    async def look_at_setup(self) -> None:
        """See `Capture`: other triggers, or settings by which the bell may be armed or not."""
        found = await look_for_triggers(self.intake)
        server = await self.pool.ask("asking how the server is set up", server_facts)
        if found != self.installed or server != self.server:
            self.intake.sessions.server = server
            raise ChangedError


async def look_for_triggers(intake: Intake) -> Installation:
    """What the watch's triggers are now.

    Raises:
        SourceError: the catalog cannot be read.
    """
    looking = partial(installation, name=intake.parts.name, watch=intake.parts.watch)
    return await intake.sessions.pool.ask("looking for the triggers", looking)
