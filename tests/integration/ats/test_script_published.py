"""Publications that take in the log: nobody is surprised, and the daemon can still take what is recorded."""

from collections.abc import Iterator

import psycopg
import pytest
from support.log_batches import batch
from support.sessions import Ats, one
from support.watched import a_config, install_triggers

from cdc_sync.ats.connection import pooled
from cdc_sync.ats.errors import SourceError
from cdc_sync.ats.notify import ChangeLog

IDENTITY = "SELECT relreplident::text FROM pg_class WHERE oid = 'cdc_sync.changes'::regclass"


@pytest.fixture
def published(ats: Ats) -> Iterator[Ats]:
    """Publications are not in any schema, so nobody else drops them."""
    ats.execute("CREATE PUBLICATION everything FOR ALL TABLES")
    yield ats
    ats.execute("DROP PUBLICATION everything")


async def take(dsn: str) -> int:
    async with pooled(dsn) as pool, batch(ChangeLog(pool, "applications"), 10) as changes:
        return changes.number


def test_a_new_log_is_not_published_unawares(published: Ats) -> None:
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as refused:
        install_triggers(published, a_config())

    published.execute("ROLLBACK")
    assert "everything would publish the log, and stop subscribers" in (refused.value.diag.message_primary or "")
    assert "SET cdc_sync.published = 'yes'" in (refused.value.diag.message_hint or "")
    assert one(published, "SELECT to_regnamespace('cdc_sync')") is None


async def test_one_that_may_be_can_be_taken(database: str, published: Ats) -> None:
    published.execute("SET cdc_sync.published = 'yes'")
    install_triggers(published, a_config())
    published.execute("INSERT INTO public.applications (id) VALUES (1)")

    assert await take(database) == 1
    assert await take(database) == 0


async def test_vacuum_shortens_one_that_the_daemon_may_not_truncate(published: Ats) -> None:
    published.execute("SET cdc_sync.published = 'yes'")
    install_triggers(published, a_config())
    published.execute("INSERT INTO public.applications (status) SELECT 'NEW' FROM generate_series(1, 1000)")
    published.execute("DELETE FROM cdc_sync.changes")

    published.execute("VACUUM cdc_sync.changes")

    assert one(published, "SELECT pg_relation_size('cdc_sync.changes')") == 0


async def test_a_log_of_an_earlier_version_is_mended(database: str, ats: Ats) -> None:
    install_triggers(ats, a_config())
    ats.execute("ALTER TABLE cdc_sync.changes REPLICA IDENTITY DEFAULT")
    ats.execute("INSERT INTO public.applications (id) VALUES (1)")
    ats.execute("CREATE PUBLICATION everything FOR ALL TABLES")
    try:
        with pytest.raises(SourceError, match=r"does not have a replica identity") as refused:
            await take(database)
        assert refused.value.kind == "misconfigured"

        install_triggers(ats, a_config())

        assert one(ats, IDENTITY) == "f"
        assert await take(database) == 1
    finally:
        ats.execute("DROP PUBLICATION everything")
