"""What captures changes between sweeps: the interface, and what its kinds share.

A kind is one module, with its jobs and its positions in the store. Its configuration names what it needs of the
database (`config.Capture.needs`). `ats.beginning` lists the kinds.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from cdc_sync.config import Capture as Configured
from cdc_sync.event_loop import Work

from .intake import Intake

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
        """Make a watch's capture."""

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

    def report_problems(self) -> None:  # noqa: B027 - most kinds lack nothing
        """Report what is missing, if anything."""

    async def was_worked_before(self) -> bool:
        """Whether the database shows that an earlier daemon captured the watch."""
        return False


class ChangedError(Exception):
    """The triggers or the server's settings have changed: begin again."""
