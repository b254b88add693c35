"""A batch whose daemon is suspended, or lost, does not keep its rows, nor the server's oldest snapshot, for ever."""

from collections.abc import AsyncIterator

import pytest
from psycopg_pool import AsyncConnectionPool
from support.builders import WATCH
from support.eventually import eventually
from support.sessions import Ats, one
from support.watched import a_config, install_triggers

from cdc_sync.source import changelog as module
from cdc_sync.source.changelog import ChangeLog
from cdc_sync.source.connection import Connection, pooled
from cdc_sync.source.errors import SourceError

_HELD = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND datname = current_database()"


@pytest.fixture
async def log(database: str, ats: Ats) -> AsyncIterator[ChangeLog]:
    """A change log with one change in it."""
    install_triggers(ats, a_config())
    ats.execute("INSERT INTO public.applications (hellowork_id) VALUES ('a1')")
    pool: AsyncConnectionPool[Connection]
    async with pooled(database) as pool:
        yield ChangeLog(pool, WATCH)


async def test_a_batch_that_takes_too_long_is_given_up_and_comes_again(
    log: ChangeLog, ats: Ats, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorter = module._BEGIN.replace("'60s'", "'200ms'")
    assert shorter != module._BEGIN
    monkeypatch.setattr(module, "_BEGIN", shorter)

    async def take() -> None:
        async with log.batch(10) as changes:
            assert len(changes.hints) == 1
            await eventually(lambda: one(ats, _HELD) == 0, "the server to end the transaction")

    with pytest.raises(SourceError) as raised:
        await take()

    assert raised.value.kind == "unreachable"
    async with log.batch(10) as changes:
        assert len(changes.hints) == 1
