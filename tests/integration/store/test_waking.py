"""Several daemons on one store: what one enqueues and does not claim wakes the others."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack

import psycopg
import pytest
from support.builders import LANE, NOW, a_batch, an_observation, some_rules
from support.eventually import eventually
from support.pgbouncer import pgbouncer, pgbouncer_binary
from support.store_backends import PostgresBackend
from support.store_steps import HORIZON, adopt, claim

from cdc_sync.core.outbox import Offer
from cdc_sync.store.postgres import PostgresStore, driver

Open = Callable[[], Awaitable[PostgresStore]]
NAMES = [f"a{number}" for number in range(5)]

LISTENING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def dsn(store_database: str) -> str:
    return PostgresBackend(store_database).dsn


@pytest.fixture
def dba(dsn: str) -> Iterator["psycopg.Connection[tuple[object, ...]]"]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


@pytest.fixture
async def open_daemon(dsn: str) -> AsyncIterator[Open]:
    async with AsyncExitStack() as opened:

        async def open_it() -> PostgresStore:
            store = await PostgresStore.open(dsn, longest_call=1.0)
            opened.push_async_callback(store.close)
            return store

        yield open_it


class Ear:
    """Counts how often a daemon is woken."""

    def __init__(self, store: PostgresStore) -> None:
        self.woken = 0
        store.wake = self._wake

    def _wake(self) -> None:
        self.woken += 1

    async def once(self) -> None:
        """Wait until it was woken, and forget that."""
        await eventually(lambda: self.woken > 0, "a wake-up", within=30)
        assert self.woken == 1
        self.woken = 0


@pytest.fixture
async def first(open_daemon: Open) -> PostgresStore:
    store = await open_daemon()
    await store.release_claims()
    await adopt(store, *NAMES)
    return store


@pytest.fixture
def heard(first: PostgresStore) -> Ear:
    """That of the first daemon; ask for it before `ear`: a daemon listens as soon as it knows of another."""
    return Ear(first)


@pytest.fixture
async def second(open_daemon: Open) -> PostgresStore:
    return await open_daemon()


@pytest.fixture
async def ear(first: PostgresStore, second: PostgresStore) -> Ear:
    """That of the second daemon, which listens; and the first one knows that there is another."""
    ear = Ear(second)
    await second.release_claims()
    await ear.once()
    await others_live(first)
    return ear


async def change(store: PostgresStore, *names: str, status: str = "hired", wanted: int = 0) -> None:
    batch = a_batch(*(an_observation(one, status) for one in names))
    await store.apply(some_rules(), batch, Offer(wanted={LANE: wanted} if wanted else {}, horizon=HORIZON))


async def others_live(store: PostgresStore) -> None:
    await eventually(lambda: store._lease.others, "the next beat", within=30)


async def test_an_apply_that_leaves_entries_wakes_the_others(first: PostgresStore, ear: Ear) -> None:
    await change(first, *NAMES, wanted=2)

    await ear.once()


async def test_an_apply_that_claims_all_of_it_wakes_nobody(first: PostgresStore, ear: Ear) -> None:
    await change(first, "a1", wanted=2)
    await change(first, "a2")  # it leaves one, and its wake-up is the last to come

    await ear.once()


async def test_nobody_is_woken_by_itself(heard: Ear, second: PostgresStore, ear: Ear) -> None:
    await heard.once()

    await change(second, "a1")

    await heard.once()
    assert ear.woken == 0


async def test_what_is_given_back_wakes_the_others(first: PostgresStore, ear: Ear) -> None:
    await change(first, *NAMES)
    await ear.once()
    entries = await claim(first)

    await first.unclaim(entries[:1])

    await ear.once()


@pytest.mark.usefixtures("first")
async def test_a_command_wakes_the_daemons(dsn: str, ear: Ear) -> None:
    command = await PostgresStore.open(dsn)

    await command.resend(None, ["a1"], NOW)

    await ear.once()
    await command.close()


async def test_one_that_is_alone_has_no_session_to_listen(
    dba: "psycopg.Connection[tuple[object, ...]]", first: PostgresStore
) -> None:
    await eventually(lambda: not first._lease.others, "a beat", within=30)
    await change(first, *NAMES)

    assert dba.execute(LISTENING).fetchone() == (0,)


async def test_a_session_that_was_lost_is_made_again(
    dba: "psycopg.Connection[tuple[object, ...]]", first: PostgresStore, ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "_LISTENS_AGAIN_AFTER", 0.1)
    dba.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND query LIKE 'LISTEN%'"
    )

    await eventually(lambda: ear.woken > 0, "the session", within=30)
    ear.woken = 0
    await change(first, "a1")

    await ear.once()


async def test_behind_a_pooler_nobody_listens_and_all_works(
    dsn: str, dba: "psycopg.Connection[tuple[object, ...]]", first: PostgresStore
) -> None:
    if (binary := pgbouncer_binary()) is None:
        pytest.skip("there is no pgbouncer here (Debian: apt-get install pgbouncer)")
    with pgbouncer(binary, dsn, "transaction") as pooled:
        behind = await PostgresStore.open(pooled, longest_call=1.0)
        ear = Ear(behind)
        await behind.release_claims()
        await others_live(behind)
        await others_live(first)
        await change(first, *NAMES)

        reader = await PostgresStore.open(pooled, read_only=True)
        assert await reader.counts()
        await reader.close()
        async with behind._pool.connection() as connection:
            # The pooler would prepare on one session, and execute on another.
            assert connection.prepare_threshold is None
            mode = await (await connection.execute("SELECT current_setting('plan_cache_mode', true)")).fetchone()
            assert mode in {("auto",), (None,)}, "others get this session too"
        assert len(await claim(behind)) == len(NAMES)
        assert dba.execute(LISTENING).fetchone() == (1,), "the first one does"
        assert ear.woken == 0
        await behind.close()
