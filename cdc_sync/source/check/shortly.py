"""A question that can neither hold anything up nor wait for long."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from psycopg import errors

from cdc_sync.source.connection import Connection, asking
from cdc_sync.source.errors import SourceError

# LOCAL: it must not outlive the transaction, as behind a pooler the session goes on to somebody else.
_BOUNDS = """
SET TRANSACTION ISOLATION LEVEL READ COMMITTED READ ONLY;
SET LOCAL statement_timeout = '15s';
SET LOCAL lock_timeout = '3s';
SET LOCAL idle_in_transaction_session_timeout = '30s';
"""


@asynccontextmanager
async def asking_shortly(connection: Connection, doing: str) -> AsyncIterator[None]:
    """Ask in a read-only transaction of the block's length.

    Raises:
        SourceError: it failed, or was not answered in time; or something holds a lock that keeps everybody out.
    """
    async with asking(doing):
        try:
            async with connection.transaction():
                await connection.execute(_BOUNDS)
                yield
        except (errors.LockNotAvailable, SourceError) as error:
            if not is_about_a_lock(error):
                raise
            raise SourceError(
                "table-locked",
                f"Something holds a lock that keeps readers out ({doing}): a migration, VACUUM FULL, LOCK TABLE? Check "
                f"again when it is over.",
            ) from error


def is_about_a_lock(error: BaseException | None) -> bool:
    """Whether an error, or what it comes from, is that a lock was not to be had."""
    return error is not None and (isinstance(error, errors.LockNotAvailable) or is_about_a_lock(error.__cause__))


HOLDERS = """\
SELECT a.pid, a.usename, a.state, a.xact_start FROM pg_stat_activity a
 WHERE EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.granted AND l.mode = 'AccessExclusiveLock');"""
"""The query that tells who holds such a lock."""
