"""One watch's pipeline on a real database and a real store, worked by hand: a test takes every step itself."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeAlias, TypeVar

from cdc_sync.ats.beginning import KINDS, BaselinePosition, adopt, connect
from cdc_sync.ats.database import Database
from cdc_sync.ats.deletions import Deletions
from cdc_sync.ats.errors import SourceError
from cdc_sync.ats.intake import Capture, Intake, Steps, WatchParts
from cdc_sync.ats.notify import NotifyCapture
from cdc_sync.ats.poll import PollCapture
from cdc_sync.ats.rows_elsewhere import OtherWatches
from cdc_sync.ats.sweep import Sweep
from cdc_sync.config import Config
from cdc_sync.config.models import watch_rules
from cdc_sync.core.content import Content
from cdc_sync.core.events import Emit, Event, SweepDone
from cdc_sync.core.outbox import Entry, EntryState
from cdc_sync.store import Store
from cdc_sync.store.sqlite.driver import SqliteDriver
from support.builders import WATCH
from support.store_steps import acknowledge, begin_calls

Said = TypeVar("Said", bound=Event)
Call: TypeAlias = tuple[str, str, str]
"""An application's id, and the status and the job that HelloWork is told."""


STEPS = Steps()


def nothing() -> None:
    """Whom progress does not interest."""


class Clock:
    """Our clock, which a test may set forward."""

    def __init__(self) -> None:
        self._ahead = 0

    def __call__(self) -> int:
        return time.time_ns() // 10**6 + self._ahead

    def forward(self, milliseconds: int) -> None:
        self._ahead += milliseconds


class CatchesUp(Protocol):
    """What a sweep asks of a capture."""

    async def catch_up(self) -> None:
        """Record every change that was committed before this call."""


class Nothing:
    """What captures nothing: all is left to the sweep."""

    async def catch_up(self) -> None:
        """Nothing to catch up with."""


@dataclass(slots=True)
class Rig:
    """A watch that is connected.

    Attributes:
        intake: the watch's, as the daemon makes it.
        capture: what captures its changes.
        deletions: its suspected ones.
        clock: our clock.
        said: everything that was observed.
        wishes: how often a sweep was wanted.
    """

    intake: Intake
    capture: Capture
    deletions: Deletions
    clock: Clock
    said: list[Event]
    wishes: Counter[str]

    @property
    def sweeps_wanted(self) -> int:
        return self.wishes["sweep"]

    @property
    def drain(self) -> NotifyCapture:
        assert isinstance(self.capture, NotifyCapture)
        return self.capture

    @property
    def steps(self) -> Steps:
        return self.intake.parts.steps

    @property
    def store(self) -> Store:
        return self.intake.parts.store

    @property
    def trigger_problems(self) -> tuple[str, ...]:
        assert isinstance(self.capture, NotifyCapture)
        return self.capture.installed.problems

    async def adopt(self) -> BaselinePosition:
        """The baseline, or the rest of it."""
        return await adopt(self.capture)

    async def look_closer(self) -> None:
        """What the daemon does of itself, some seconds later."""
        await self.capture.lookout.find_states([self.capture.watched])
        await self.capture.look_closer()

    async def poll(self) -> PollCapture:
        """The capture of poll mode, ready to poll."""
        assert isinstance(self.capture, PollCapture)
        await self.capture.begin()
        return self.capture

    async def sweep(self, fast: CatchesUp | None = None) -> SweepDone:
        """One sweep; the capture catches up unless another one is given."""
        sweep = Sweep(self.capture)
        if fast is not None:
            sweep.catch_up = fast.catch_up
        return await sweep.run()

    async def pass_grace(self) -> int:
        """Let the deletion grace pass and answer what is suspected; returns how many suspicions that were."""
        self.clock.forward(self.intake.rules.deletion_grace + 1)
        return await self.deletions.confirm_due()

    async def entries(self, state: EntryState = "pending") -> list[Entry]:
        return await self.store.report.entries(state, WATCH, 10_000)

    async def deliver(self) -> list[Call]:
        """Let HelloWork hear, and acknowledge, all that is due; returns it, sorted."""
        entries = await begin_calls(self.store, self.clock(), limit=10_000)
        await acknowledge(self.store, *entries, at=self.clock())
        return sorted((entry.application_id, *_told(entry.content)) for entry in entries)

    async def calls(self) -> list[Call]:
        """What HelloWork hears of all that was committed before."""
        await self.capture.catch_up()
        return await self.deliver()

    async def later_calls(self) -> list[Call]:
        """What it hears once the deletion grace has passed."""
        await self.pass_grace()
        return await self.deliver()

    async def told(self, *ids: str) -> dict[str, tuple[str, str]]:
        """What HelloWork knows, or is taken to know: status and job by application."""
        known = await self.store.capture.known(WATCH, ids)
        return {id_: _told(before.snapshot) for id_, before in known.items() if before.snapshot is not None}

    def heard(self, kind: type[Said]) -> list[Said]:
        return [observation for observation in self.said if isinstance(observation, kind)]


OpenRig: TypeAlias = Callable[..., AbstractAsyncContextManager[Rig]]
"""Connects the test's watch, configured as told, after its baseline; again for what a restart finds."""


def _told(content: Content) -> tuple[str, str]:
    return content.status, content.job_id


def parts_of(config: Config, store: Store, observe: Emit, clock: Clock, steps: Steps = STEPS) -> WatchParts:
    return WatchParts(
        name=WATCH,
        watch=config.watches[WATCH],
        rules=watch_rules(config, WATCH),
        database=Database(config, "", store),
        others=OtherWatches(config.with_watches({}), store),
        observe=observe,
        clock=clock,
        steps=steps,
    )


@asynccontextmanager
async def rig(config: Config, folder: Path, steps: Steps = STEPS) -> AsyncIterator[Rig]:
    """Connect the configuration's only watch, with the store in `folder`; again for what a restart finds."""
    clock, said, wishes = Clock(), list[Event](), Counter[str]()
    store = Store(SqliteDriver(folder / "state.db"))
    parts = parts_of(config, store, said.append, clock, steps)
    parts = replace(parts, want_sweep=lambda: wishes.update(sweep=1))
    try:
        async with AsyncExitStack() as stack:
            intake = await _connected(stack, parts)
            capture = await KINDS[parts.watch.capture.mode].open(intake)
            yield Rig(intake, capture, Deletions(intake), clock, said, wishes)
    finally:
        await store.driver.close()


async def _connected(stack: AsyncExitStack, parts: WatchParts) -> Intake:
    """Connect as the daemon does after a restart: the server may take a moment to see that the last session ended."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return await stack.enter_async_context(connect(parts))
        except SourceError as error:
            if not error.message.startswith("Another cdc-sync works the watch") or time.monotonic() > deadline:
                raise
        await asyncio.sleep(0.01)
