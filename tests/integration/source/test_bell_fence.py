"""The proof of `source.bell`, tried over every interleaving: no change is neither drained nor rung for."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import permutations

import pytest
from psycopg_pool import AsyncConnectionPool
from support.builders import WATCH
from support.sessions import Ats, OpenSession, one, rows, run
from support.watched import a_config, install_triggers

from cdc_sync.core.rows import Key
from cdc_sync.source.bell import LEASE, Bell
from cdc_sync.source.changelog import ChangeLog
from cdc_sync.source.connection import Connection, pooled
from cdc_sync.source.errors import SourceError

LEVELS = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]
STEPS = [
    "BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM public.applications",  # takes the snapshot
    "UPDATE public.applications SET status = status || '.' WHERE id = {key}",
    "COMMIT",
]
"""Of a writer."""


@pytest.fixture
async def pool(database: str, ats: Ats) -> AsyncIterator[AsyncConnectionPool[Connection]]:
    install_triggers(ats, a_config())
    ats.execute("INSERT INTO public.applications (id, status) VALUES (1, 'new'), (2, 'new')")
    ats.execute("DELETE FROM cdc_sync.changes")
    async with pooled(database) as pool:
        yield pool


class Writer:
    """A transaction of the ATS that changes one row, step by step."""

    def __init__(self, session: Ats, key: str, level: str) -> None:
        self.key: Key = (key,)
        self._session = session
        self._parts = {"level": level, "key": key}
        self._steps = iter(STEPS)

    def step(self) -> None:
        run(self._session, next(self._steps), **self._parts)


@dataclass
class Daemon:
    """What `daemon.watching.keep_armed` and the drain do, step by step."""

    bell: Bell
    log: ChangeLog
    listener: Ats
    fenced: bool = True
    fence: int | None = None
    asleep: bool = False
    met: list[Key] = field(default_factory=list)

    async def arm(self) -> None:
        self.fence = await self.bell.arm()
        self.listener.execute("SELECT")
        list(self.listener.notifies(timeout=0))  # until it sleeps nothing depends on them

    async def turn(self) -> None:
        """Look at the fence and drain; sleep when the fence is past."""
        if self.fence is None or self.asleep:
            return
        quiet = not self.fenced or await self.bell.is_quiet(self.fence)
        await self.drain()
        self.asleep = quiet

    async def drain(self) -> None:
        async with self.log.batch(100) as changes:
            self.met += [hint.key for hint in changes.hints]

    async def wake_if_rung(self) -> None:
        self.listener.execute("SELECT")
        if list(self.listener.notifies(timeout=0)):
            await self.drain()


async def play(daemon: Daemon, writers: list[Writer], order: tuple[int, ...], arm_at: int) -> list[Key]:
    """Run the writers' steps in an order, arm before step number `arm_at`; returns the keys that nobody heard of."""
    for number, writer in enumerate(order):
        if number == arm_at:
            await daemon.arm()
        await daemon.turn()
        writers[writer].step()
    if arm_at == len(order):
        await daemon.arm()
    while not daemon.asleep:
        await daemon.turn()
    await daemon.wake_if_rung()
    return [writer.key for writer in writers if writer.key not in daemon.met]


def a_daemon(pool: AsyncConnectionPool[Connection], open_session: OpenSession, *, fenced: bool = True) -> Daemon:
    listener = open_session()
    listener.execute("LISTEN cdc_sync")
    return Daemon(Bell(pool, WATCH), ChangeLog(pool, WATCH), listener, fenced)


class TestInterleavings:
    @pytest.mark.parametrize("level", LEVELS)
    async def test_of_one_writer(
        self, pool: AsyncConnectionPool[Connection], open_session: OpenSession, level: str
    ) -> None:
        session = open_session()
        for arm_at in range(len(STEPS) + 1):
            daemon = a_daemon(pool, open_session)
            await daemon.bell.disarm()

            assert await play(daemon, [Writer(session, "1", level)], (0,) * len(STEPS), arm_at) == [], (
                f"armed at {arm_at}"
            )

    @pytest.mark.parametrize("levels", [("READ COMMITTED", "READ COMMITTED"), ("SERIALIZABLE", "REPEATABLE READ")])
    async def test_of_two_writers(
        self, pool: AsyncConnectionPool[Connection], open_session: OpenSession, levels: tuple[str, str]
    ) -> None:
        sessions = [open_session(), open_session()]
        daemon = a_daemon(pool, open_session)
        for order in sorted(set(permutations((0, 1) * len(STEPS)))):
            for arm_at in range(2 * len(STEPS) + 1):
                await daemon.bell.disarm()
                daemon.fence, daemon.asleep, daemon.met = None, False, []
                writers = [Writer(*parts) for parts in zip(sessions, "12", levels, strict=True)]

                assert await play(daemon, writers, order, arm_at) == [], f"{order}, armed at {arm_at}"

    @pytest.mark.parametrize("level", LEVELS)
    async def test_without_the_fence_one_of_them_loses_a_change(
        self, pool: AsyncConnectionPool[Connection], open_session: OpenSession, level: str
    ) -> None:
        """So the tests above could fail."""
        session = open_session()
        lost: list[int] = []
        for arm_at in range(len(STEPS) + 1):
            daemon = a_daemon(pool, open_session, fenced=False)
            await daemon.bell.disarm()
            if await play(daemon, [Writer(session, "1", level)], (0,) * len(STEPS), arm_at):
                lost.append(arm_at)

        assert lost == [2], "armed between the write and the commit"


class TestLease:
    async def test_is_by_the_databases_clock(self, pool: AsyncConnectionPool[Connection], ats: Ats) -> None:
        bell = Bell(pool, WATCH)
        left = "SELECT last_value - extract(epoch FROM clock_timestamp()) FROM cdc_sync.bell_applications"

        await bell.arm()
        assert LEASE - 2 < one(ats, left) < LEASE + 1

        await bell.disarm()
        assert rows(ats, "SELECT last_value FROM cdc_sync.bell_applications") == [(0,)]

    async def test_takes_an_id_that_is_above_all_that_write(
        self, pool: AsyncConnectionPool[Connection], other: Ats
    ) -> None:
        bell = Bell(pool, WATCH)
        other.execute("BEGIN")
        writing = one(other, "SELECT txid_current()")

        taken = await bell.arm()

        assert taken is not None
        assert taken > writing
        assert not await bell.is_quiet(taken)
        other.execute("ROLLBACK")

    @pytest.mark.parametrize("step", ["arm", "disarm"])
    async def test_a_bell_that_is_not_installed(self, pool: AsyncConnectionPool[Connection], step: str) -> None:
        with pytest.raises(SourceError, match='bell_nothing" does not exist') as raised:
            await getattr(Bell(pool, "nothing"), step)()

        assert "`cdc-sync sql install`" in str(raised.value)
