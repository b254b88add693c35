"""A single connection that somebody in between keeps open without an answer: no statement is waited for for ever."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
from support.log_batches import batch
from support.proxy import proxy_to
from support.sessions import Ats, one
from support.source import opened
from support.watched import a_config, install_triggers

from cdc_sync.source import connection as module
from cdc_sync.source.changelog import ChangeLog
from cdc_sync.source.errors import SourceError


async def batch_of(log: ChangeLog) -> None:
    async with batch(log, 10) as changes:
        assert changes.times


async def test_is_an_error_that_says_what_was_asked(database: str, ats: Ats, monkeypatch: pytest.MonkeyPatch) -> None:
    install_triggers(ats, a_config(database))
    ats.execute("INSERT INTO public.applications (hellowork_id) VALUES ('a1')")
    async with proxy_to(database) as proxy, AsyncExitStack() as stack:
        # Each has a pool of its own, with a connection that is used first.
        paging, polling, draining = [await stack.enter_async_context(opened(a_config(proxy.dsn))) for _ in range(3)]
        reader, log = await polling.watermark_reader("updated_at"), ChangeLog(draining.pool, "applications")
        asking: dict[str, Callable[[], Awaitable[object]]] = {
            "reading public.applications": paging.rows,
            "polling public.applications": lambda: reader.page("2024-01-01", 10),
            "reading the change log cdc_sync.changes": lambda: batch_of(log),
        }
        monkeypatch.setattr(module, "ANSWERS_WITHIN", 0.5)
        proxy.forget()

        errors = await asyncio.gather(*(ask() for ask in asking.values()), return_exceptions=True)

        for doing, error in zip(asking, errors, strict=True):
            assert isinstance(error, SourceError)
            assert error.kind == "unreachable"
            assert f"has not answered within 0 s ({doing})" in str(error)
        monkeypatch.undo()
        for ask in asking.values():
            await ask()  # on a connection that is made for it
    assert one(ats, "SELECT count(*) FROM cdc_sync.changes") == 0


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
