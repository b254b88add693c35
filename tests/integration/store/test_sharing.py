"""Several daemons on one store: who may take a watch, who has to give one back, and what it costs to wait."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack

import psycopg
import pytest
from support.eventually import eventually
from support.store_backends import PostgresBackend

from cdc_sync.store.postgres import PostgresStore, claims, sharing
from cdc_sync.store.protocol import Lease

WATCHES = [f"w{number}" for number in range(4)]
SOON = 30.0

pytestmark = pytest.mark.timeout(120)


class Daemon:
    """As the store sees it: its watches take their turns, or wait for them, and capture until they are told."""

    def __init__(self, store: PostgresStore) -> None:
        self.store = store
        self.able = True
        self.captures: set[str] = set()
        self.taken: list[str] = []
        self._tasks: list[asyncio.Task[None]] = []

    def work(self, *watches: str) -> None:
        self._tasks += [asyncio.create_task(self._work(watch)) for watch in watches]

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _work(self, watch: str) -> None:
        try:
            await self._take_turns(watch)
        finally:
            self.store.withdraw(watch)

    async def _take_turns(self, watch: str) -> None:
        while True:
            lease: Lease | None = await self.store.take(watch, f"session of {id(self)}")
            if lease is not None and lease.mine:
                await self._capture(watch)
                continue
            while lease is not None:
                lease = await self.store.stand_by(watch, lease, 3600.0, lambda: self.able)
            if not self.able:
                self.store.withdraw(watch)
                await asyncio.sleep(0.1)

    async def _capture(self, watch: str) -> None:
        told = asyncio.Event()
        self.captures.add(watch)
        self.taken.append(watch)
        try:
            with self.store.capturing(watch, told.set):
                await told.wait()
        finally:
            self.captures.remove(watch)
            await self.store.give_back(watch)


@pytest.fixture
def dsn(store_database: str) -> str:
    return PostgresBackend(store_database).dsn


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "_REBALANCED_EVERY", 0.5)


@pytest.fixture
def dba(dsn: str) -> Iterator["psycopg.Connection[tuple[object, ...]]"]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


Join = Callable[..., Awaitable[Daemon]]


@pytest.fixture
async def join(dsn: str) -> AsyncIterator[Join]:
    async with AsyncExitStack() as opened:

        async def begin(*watches: str) -> Daemon:
            store = await PostgresStore.open(dsn, longest_call=1.0)
            opened.push_async_callback(store.close)
            await store.release_claims()
            daemon = Daemon(store)
            daemon.work(*watches)
            opened.push_async_callback(daemon.end)
            return daemon

        yield begin


def waits_for(daemon: Daemon) -> frozenset[str] | None:
    """What others know that it waits for."""
    published = daemon.store._sharing._published
    return None if published is None else published[1]


async def shared_out(*daemons: Daemon, total: int = len(WATCHES)) -> None:
    share = total // len(daemons)
    await eventually(
        lambda: all(len(daemon.captures) == share for daemon in daemons), f"{share} watches each", within=SOON
    )


async def test_one_that_is_alone_takes_all(join: Join) -> None:
    first = await join(*WATCHES)

    await shared_out(first)


@pytest.mark.usefixtures("hurried")
async def test_one_that_joins_gets_its_share_and_each_watch_moves_once(join: Join) -> None:
    first = await join(*WATCHES)
    await shared_out(first)

    second = await join(*WATCHES)
    await shared_out(first, second)

    assert sorted(second.taken) == ["w0", "w1"]
    assert len(first.taken) == len(WATCHES), "it took nothing a second time"


@pytest.mark.usefixtures("hurried")
async def test_what_one_that_leaves_had_is_taken_at_once(join: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = await join(*WATCHES), await join(*WATCHES)
    await shared_out(first, second)
    monkeypatch.setattr(sharing, "LOOK_EVERY", 3600.0)
    monkeypatch.setattr(sharing, "BEAT", 3600.0)
    await eventually(lambda: first.store.is_woken and second.store.is_woken, "both to listen", within=SOON)

    await second.end()

    await shared_out(first)


async def test_one_that_does_not_reach_its_database_any_more_gets_nothing(join: Join) -> None:
    first = await join(*WATCHES)
    await shared_out(first)
    first.store._sharing._rebalance_from = math.inf
    second = await join(*WATCHES)
    await eventually(lambda: waits_for(second) == frozenset(WATCHES), "the second to wait", within=SOON)

    second.able = False
    second.store._sharing.look()
    await eventually(lambda: not waits_for(second), "the second to wait no more", within=SOON)
    first.store._sharing._rebalance_from = -math.inf
    first.store._sharing.look()
    await asyncio.sleep(1)

    assert (len(first.captures), len(second.taken)) == (len(WATCHES), 0)


@pytest.mark.usefixtures("hurried")
async def test_what_is_not_taken_goes_back_and_stays(join: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one says that it waits, and takes nothing: it hangs, say."""
    monkeypatch.setattr(sharing, "_TAKEN_WITHIN", 1.0)
    first = await join(*WATCHES)
    await shared_out(first)
    second = await join()
    for watch in WATCHES:
        second.store._sharing._waiters[watch] = sharing._Waiter()
    second.store._sharing.look(announce=True)

    taken = len(WATCHES) + len(WATCHES) // 2
    await eventually(lambda: len(first.taken) == taken, "what was given up to return", within=SOON)
    await asyncio.sleep(2)

    assert len(first.taken) == taken


@pytest.mark.usefixtures("hurried")
async def test_what_was_given_up_is_remembered_for_a_while_only(join: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "_COMES_BACK_WITHIN", 1.0)
    first = await join(*WATCHES)
    await shared_out(first)
    second = await join(*WATCHES)
    await shared_out(first, second)
    remembered = first.store._sharing
    remembered._shunned_until[4711] = 0.0  # of a daemon that is gone

    await eventually(lambda: not (remembered._given_up or remembered._shunned_until), "it to forget", within=SOON)


async def test_one_whose_session_has_ended_is_given_nothing_until_it_speaks(
    join: Join, dba: "psycopg.Connection[tuple[object, ...]]"
) -> None:
    """It may have been killed: then nobody would take what it is given, as long as its lease lasts."""
    first, second = await join("w0"), await join("w0", "w1", "w2", "w3")
    await eventually(lambda: waits_for(second) == frozenset({"w0"}), "the second to wait", within=SOON)
    third = await join()

    (lease,) = [await third.store.take("w1", "its own")]
    taken = await third.store.take("w1", "its own", instead_of=lease)

    assert (lease.mine, taken.mine) == (False, True)
    waits = "SELECT waits_for FROM cdc_sync.daemon WHERE id = %s"
    assert dba.execute(waits, (second.store._lease.number,)).fetchone() == ([],)
    assert first.captures == {"w0"}


async def test_of_what_waits_for_one_session_one_goes_and_looks(join: Join) -> None:
    first = await join(*WATCHES)
    await shared_out(first)
    first.store._sharing._rebalance_from = math.inf
    second = await join()
    leases = {watch: await second.store.take(watch) for watch in WATCHES}

    waiting = {
        watch: asyncio.create_task(second.store.stand_by(watch, lease, 0.2, lambda: True))
        for watch, lease in leases.items()
    }
    with ExitStack() as stack:
        stack.callback(lambda: [task.cancel() for task in waiting.values()])
        done, others = await asyncio.wait(waiting.values(), timeout=SOON, return_when=asyncio.FIRST_COMPLETED)

        assert done == {waiting["w0"]}
        assert waiting["w0"].result() is None
        assert len(others) == len(WATCHES) - 1
    await asyncio.wait(waiting.values())


async def test_a_thousand_watches_wait_by_a_statement_every_few_seconds(
    join: Join, dba: "psycopg.Connection[tuple[object, ...]]"
) -> None:
    many = [f"m{number:04}" for number in range(1_000)]
    first = await join()
    number = first.store._lease.number
    dba.execute("INSERT INTO cdc_sync.watch (name, leased_by) SELECT unnest(%s::text[]), %s", (many, number))
    second = await join(*many)
    waiters = second.store._sharing._waiters
    await eventually(
        lambda: len(waiters) == len(many) and all(each.known for each in waiters.values()), "all to wait", within=SOON
    )
    looks = second.store._sharing._looks

    await asyncio.sleep(3 * claims.BEAT)

    assert second.store._sharing._looks - looks <= 6
    assert second.captures == set()


async def test_what_another_one_has_struck_off_is_waited_for_again(
    join: Join, dba: "psycopg.Connection[tuple[object, ...]]", monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever takes a watch whose session is over takes its former daemon for dead, which may have waited on."""
    monkeypatch.setattr(sharing, "LOOK_EVERY", 0.2)
    first = await join(WATCHES[0])
    await shared_out(first, total=1)
    second = await join(WATCHES[0])
    await eventually(lambda: waits_for(second) == frozenset(WATCHES[:1]), "the second waits", within=SOON)

    # Not in the event loop, where who holds such a row's lock ends its transaction.
    await asyncio.to_thread(dba.execute, "UPDATE cdc_sync.daemon SET waits_for = '{}'")

    def waiting() -> bool:
        rows = dba.execute("SELECT waits_for FROM cdc_sync.daemon ORDER BY id").fetchall()
        return rows == [([],), (WATCHES[:1],)]

    await eventually(waiting, "it says so again", within=SOON)
