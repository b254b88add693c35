"""A single connection that somebody in between keeps open without an answer: no statement is waited for for ever."""

import pytest
from support.log_batches import batch
from support.proxy import proxy_to
from support.sessions import Ats
from support.source import opened
from support.watched import a_config, install_triggers

from cdc_sync.ats.connection import asking
from cdc_sync.ats.errors import SourceError
from cdc_sync.ats.notify import ChangeLog


async def test_is_an_error_that_says_what_was_asked(database: str) -> None:
    async with proxy_to(database) as proxy, opened(a_config(proxy.dsn)) as source:

        async def ask() -> None:
            async with asking("reading public.applications", within=0.5), source.pool.connection() as connection:
                await connection.execute("SELECT 1")

        await ask()
        proxy.forget()

        with pytest.raises(SourceError, match=r"has not answered within 0 s \(reading public.applications\)") as caught:
            await ask()

        assert caught.value.kind == "unreachable"
        await source.rows()  # on a connection that is made for it


async def test_does_not_hide_what_was_wrong_in_time(database: str, ats: Ats) -> None:
    """A change log that is missing, and a table that is gone while its changes are read, are told apart."""
    install_triggers(ats, a_config(database))
    ats.execute("INSERT INTO public.applications (hellowork_id) VALUES ('a1')")
    async with opened(a_config(database)) as source:
        log = ChangeLog(source.pool, "applications")
        ats.execute("ALTER TABLE public.applications RENAME TO elsewhere")
        with pytest.raises(SourceError, match="Correct the watch's table"):
            async with batch(log, 10):
                await source.rows()
        ats.execute("DROP SCHEMA cdc_sync CASCADE")
        with pytest.raises(SourceError, match=r"The change log cdc_sync\.changes does not exist"):
            async with batch(log, 10):
                pass
