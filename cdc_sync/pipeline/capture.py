"""What captures changes between sweeps: the interface, and what every kind of it works with.

A kind is one module: its class owns how changes are found, the jobs that takes, the positions that the store keeps for
it, how long a look may take to come, and what it says when the database lacks something. What it needs of the database
(columns, triggers, rights) its configuration says (`config.Capture.needs`), so that `check`, `sql install` and
`sql grants` know it. `pipeline.watch` has the list of kinds.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, ClassVar

from cdc_sync.config import Capture as Configured
from cdc_sync.core.events import SweepDone, TriggersFound, TriggersMissing
from cdc_sync.core.reasons import coded, joined
from cdc_sync.core.watermark import SnapshotReading
from cdc_sync.pipeline.database import nothing
from cdc_sync.pipeline.intake import Intake
from cdc_sync.source.recorders import untriggered
from cdc_sync.source.triggers import Installation, installation

Jobs = dict[str, Coroutine[Any, Any, None]]


class Capture(ABC):
    """Captures one watch's changes between sweeps.

    Attributes:
        void_elsewhere: positions that mean nothing once the store is given to another database, and what stands in
            their place then.
        sees_deletions: whether it notices that a row is gone. If not, that is the sweeps' part, and no repair.
    """

    void_elsewhere: ClassVar[Mapping[str, str]] = {}
    sees_deletions: ClassVar[bool] = True

    def __init__(self, intake: Intake) -> None:
        self.intake, self.parts, self.pool = intake, intake.parts, intake.sessions.pool
        self.watched, self.lookout = intake.watched, intake.sessions.lookout
        # What it began with: another watch may have found out meanwhile that it is not so any more.
        self._setup, self.server = intake.seen.setup, intake.sessions.server

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
        """Ask for a sweep if something happened to the tables of which single rows do not tell.

        That is another set of partitions, a truncated one, or a policy less.

        Raises:
            SourceError: the catalog cannot be read.
            StoreError: the request cannot be kept.
        """
        before, now = self.intake.seen, self.watched.state
        looks_for_policies = self.watched.doubts or now.policies != before.policies
        # Rows that were hidden were suspected, and their deletion held: seeing them again takes that back.
        if (looks_for_policies and await self.intake.look_for_policies()) or now.storage != before.storage:
            await self.intake.request_sweeps(1)
            self.parts.want_sweep()
        self.intake.seen = now

    async def look_at_setup(self) -> None:  # noqa: B027 - most kinds depend on nothing
        """Look whether the database is set up as it was.

        Raises:
            ChangedError: it is not: begin again with what is now.
            SourceError: the catalog cannot be read.
        """

    async def _watch_tables(self) -> None:
        # What failed while the baseline was made is tried again, and fails again if it still does.
        self.watched.error, looked_at = None, (self._setup, self.server)
        while True:
            await self.watched.has_changed()
            await self.look_at_tables()
            now = self.watched.state.setup, self.lookout.server
            if now != looked_at:
                await self.look_at_setup()
                looked_at = now

    async def swept(self, done: SweepDone) -> None:  # noqa: B027 - most kinds miss nothing
        """Learn from what a sweep has found.

        Raises:
            SourceError: the database cannot be asked.
        """

    def tell_problems(self, meanwhile: str) -> None:  # noqa: B027 - most kinds lack nothing
        """Say what is missing, if anything is, and what finds changes `meanwhile`."""

    async def was_worked_before(self) -> bool:
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
        if self.lookout.server != self.server or await look_for_triggers(self.intake) != self.installed:
            raise ChangedError


async def look_for_triggers(intake: Intake) -> Installation:
    """What the watch's triggers are now.

    Raises:
        SourceError: the catalog cannot be read.
    """
    looking = partial(installation, name=intake.parts.name, watch=intake.parts.watch)
    return await intake.sessions.pool.ask("looking for the triggers", looking)
