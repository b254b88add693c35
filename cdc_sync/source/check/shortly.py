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
        except errors.LockNotAvailable as error:
            raise SourceError(
                "unreachable",
                f"Something holds a lock that keeps readers out ({doing}): a migration, VACUUM FULL, LOCK TABLE? Check "
                f"again when it is over.",
            ) from error
        except SourceError as error:
            if isinstance(error.__cause__, errors.LockNotAvailable):
                raise SourceError(
                    "unreachable",
                    f"Something holds a lock that keeps readers out ({doing}): a migration, VACUUM FULL, LOCK TABLE? "
                    f"Check again when it is over.",
                ) from error
            raise
