"""The proof of `source.changelog`, tried over every interleaving on a real server: a change is drained, or it rings.

A writer's steps (begin with a snapshot, write, commit) are put between the daemon's statements in every order, from
every state in which a daemon may find the bell. The daemon is the real one, stopped before each of its statements.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations, count

import pytest
from support.applications import insert
from support.rig import OpenRig, Rig
from support.sessions import Ats, OpenSession, run

from cdc_sync.pipeline.notify import NotifyCapture
from cdc_sync.source import changelog
from cdc_sync.source.changelog import LEASE, Bell, Bells
from cdc_sync.source.connection import Pool
from cdc_sync.source.lookout import Look, Lookout

BEGIN = "BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM public.applications"
WRITE = "UPDATE public.applications SET status = '{status}'"
WRITERS = {
    "plain": (BEGIN, WRITE, "COMMIT"),
    "after a savepoint that was rolled back": (
        BEGIN + "; SAVEPOINT one; " + WRITE + "; ROLLBACK TO one",
        WRITE,
        "COMMIT",
    ),
    "in a savepoint": (BEGIN + "; SAVEPOINT one", WRITE + "; RELEASE one", "COMMIT"),
}
"""What writers do, each step in one go."""

LEVELS = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]

FOUND = {
    "disarmed": "0",  # the daemon before died awake, or ended
    "armed": "extract(epoch FROM clock_timestamp())::bigint + 30",  # it died asleep
    "run out": "extract(epoch FROM clock_timestamp())::bigint - 1",  # it died long ago
}
"""What the bell may hold when a daemon starts, or goes on after it stalled."""


@dataclass
class Steps:
    """Stops the daemon before each of its statements."""

    _may_go_on: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    _stopped: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    async def before_a_statement(self) -> None:
        self._stopped.release()
        await self._may_go_on.acquire()

    async def reached(self) -> None:
        """Wait until it is stopped, for the first time or anew."""
        await self._stopped.acquire()

    def let_go(self) -> None:
        self._may_go_on.release()


class SteppedBells(Bells):
    """The bells; whoever uses them is stopped before each statement."""

    steps: Steps
    fenced = True

    async def update(self, bells: Collection[Bell]) -> None:
        if not bells:
            return
        await self.steps.before_a_statement()
        await super().update(bells)
        for bell in [] if self.fenced else bells:
            bell.fence = None


class SteppedLookout(Lookout):
    """The look at the whole log, likewise."""

    steps: Steps

    async def _look(self) -> Look:
        await self.steps.before_a_statement()
        return await super()._look()


class SteppedCapture(NotifyCapture):
    """The capture, likewise."""

    steps: Steps

    async def step(self, *, keep_pace: bool = False) -> bool:
        await self.steps.before_a_statement()
        return await super().step(keep_pace=keep_pace)


@dataclass
class Stage:
    """A watch, its daemon and a writer."""

    rig: Rig
    ats: Ats
    writer: Ats
    listener: Ats
    fenced: bool = True
    gate: Steps = field(default_factory=Steps)
    numbers: Iterator[int] = field(default_factory=count)

    async def play(self, found: str, steps: Sequence[str], level: str, order: Sequence[int], *, stalls: bool) -> bool:
        """Run the writer's steps at the given places among the daemon's; returns whether the change was found."""
        status = f"S{next(self.numbers)}"
        self._is_rung()  # whatever came before
        self.gate = gate = Steps()
        clock = [0.0]
        doorbell = await self._daemon(clock)
        if stalls:
            # It sleeps, stalls past its lease, and goes on with a renewal.
            await self._until_asleep(doorbell)
            clock[0] += LEASE
        run(self.ats, "SELECT setval('cdc_sync.bell_applications', {found})", found=found)
        writing = iter(steps)
        turning = asyncio.create_task(_turns(doorbell, renews=stalls))
        try:
            await gate.reached()
            for place in range(order[-1] + 1):
                if place in order:
                    run(self.writer, next(writing), level=level, status=status)
                elif not turning.done():
                    gate.let_go()
                    await _either(gate.reached(), turning)
            while not turning.done():
                gate.let_go()
                await _either(gate.reached(), turning)
        finally:
            turning.cancel()
            await asyncio.gather(turning, return_exceptions=True)
        if self._is_rung():
            await self.rig.drain.catch_up()
        return any(entry.content.status == status for entry in await self.rig.entries())

    async def _daemon(self, clock: list[float]) -> NotifyCapture:
        sessions = self.rig.intake.sessions
        capture = SteppedCapture(self.rig.intake, self.rig.drain.installed, lambda: clock[0])
        capture.lookout = lookout = SteppedLookout(sessions.pool, sessions.server)
        lookout.bells = bells = SteppedBells(sessions.pool)
        capture.steps = bells.steps = lookout.steps = self.gate
        bells.fenced = self.fenced
        # Nobody else looks.
        sessions.lookout.leave(capture.watched)
        await lookout.join(capture.watched)
        return capture

    async def _until_asleep(self, doorbell: NotifyCapture) -> None:
        turning = asyncio.create_task(_turns(doorbell))
        await self.gate.reached()
        while not turning.done():
            self.gate.let_go()
            await _either(self.gate.reached(), turning)
        await turning

    def _is_rung(self) -> bool:
        """Whether a notification came; all of them, since a waking daemon drains once more."""
        self.listener.execute("SELECT")
        return bool(list(self.listener.notifies(timeout=0)))


async def _turns(doorbell: NotifyCapture, *, renews: bool = False) -> None:
    """One turn, or a renewal; then looks, and what they wake it for, until it sleeps."""
    if renews:
        await doorbell.lookout.renew()
    else:
        await doorbell.turn()
    while not doorbell.bell.is_heard:
        await doorbell.lookout.look()
        if doorbell.rung.is_set():
            await doorbell.turn()


async def _either(first: Awaitable[None], second: asyncio.Task[None]) -> None:
    waiting = asyncio.ensure_future(first)
    await asyncio.wait([waiting, second], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


@pytest.fixture
async def stage(
    ats: Ats, open_session: OpenSession, open_rig: OpenRig, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Stage]:
    insert(ats, 1, "a1")
    listener = open_session()
    listener.execute("LISTEN cdc_sync")
    take_id = changelog.take_id
    async with open_rig() as rig:
        await rig.adopt()
        stage = Stage(rig, ats, open_session(), listener)

        async def stepped_take_id(pool: Pool) -> int:
            await stage.gate.before_a_statement()
            return await take_id(pool)

        monkeypatch.setattr(changelog, "take_id", stepped_take_id)
        yield stage


ORDERS = tuple(combinations(range(8), 3))
"""Places of a writer's three steps among five of the daemon: read, arm, take an id, look at the log, read from it.

Where the fence is not passed at the first look, more of them follow when the writer has ended.
"""


async def lost(stage: Stage, found: str, writer: str, level: str, *, stalls: bool = False) -> list[tuple[int, ...]]:
    """The orders in which the change was neither drained nor rung for."""
    return [
        order for order in ORDERS if not await stage.play(FOUND[found], WRITERS[writer], level, order, stalls=stalls)
    ]


EACH_PAIR = [
    (found, level, list(WRITERS)[(place + other) % 3])
    for place, found in enumerate(FOUND)
    for other, level in enumerate(LEVELS)
]
"""Of all 27 combinations those 9 in which each two of these meet once."""


@pytest.mark.parametrize(("found", "level", "writer"), EACH_PAIR)
async def test_from_a_start(stage: Stage, found: str, level: str, writer: str) -> None:
    assert await lost(stage, found, writer, level) == []


@pytest.mark.parametrize(
    ("found", "level"),
    [("run out", "READ COMMITTED"), ("disarmed", "REPEATABLE READ"), ("run out", "SERIALIZABLE")],
)
async def test_from_a_stall_past_the_lease(stage: Stage, found: str, level: str) -> None:
    """As when the machine was suspended; or another daemon's last wish, to disarm, came late."""
    assert await lost(stage, found, "plain", level, stalls=True) == []


async def test_without_the_fence_some_lose_the_change(stage: Stage) -> None:
    """So the tests above could fail."""
    stage.fenced = False

    assert await lost(stage, "disarmed", "plain", "READ COMMITTED") != []
