"""The ATS's own sessions."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeAlias

import psycopg
from psycopg.conninfo import make_conninfo

from support.waiting import wait_until

Ats: TypeAlias = psycopg.Connection
OpenSession: TypeAlias = Callable[..., Ats]
"""Opens one more session of the ATS, in autocommit, on the test's database; takes what a DSN may have (`user=`)."""


@contextmanager
def sessions(dsn: str) -> Iterator[OpenSession]:
    """Sessions that are closed together."""
    with ExitStack() as stack:

        def open_session(**parameters: Any) -> Ats:
            return stack.enter_context(psycopg.connect(make_conninfo(dsn, **parameters), autocommit=True))

        yield open_session


def run(connection: Ats, statement: str, parameters: Any = None, **parts: str) -> None:
    """Run a statement in which `{name}` stands for a part of SQL, if any are given."""
    connection.execute((statement.format(**parts) if parts else statement).encode(), parameters)


def one(connection: Ats, query: str, parameters: Any = None) -> Any:
    row = connection.execute(query.encode(), parameters).fetchone()
    assert row is not None
    return row[0]


def rows(connection: Ats, query: str, parameters: Any = None) -> list[tuple[Any, ...]]:
    return connection.execute(query.encode(), parameters).fetchall()


def end_sessions(connection: Ats, where: str, parameters: Any = None) -> None:
    """End the server's processes that a condition on `pg_stat_activity` selects; returns when they are gone.

    `pg_terminate_backend` waits by itself since PostgreSQL 14 only.
    """
    end = f"SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity WHERE {where}"  # noqa: S608 - a test's own condition
    told = rows(connection, end, parameters)
    ended = [pid for pid, _ in told]
    gone = "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = ANY(%s)"
    wait_until(lambda: one(connection, gone, [ended]), f"the processes {ended} have ended")
