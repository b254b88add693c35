"""Roles of a test's own. They belong to the whole server, so they must be gone when the test is over."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

NewRole: TypeAlias = Callable[[], str]
"""Creates a role that may log in and nothing else; returns its name."""


@contextmanager
def roles(dsn: str, password: str | None = None) -> Iterator[NewRole]:
    """Roles that are dropped together, with all that they were granted in this database.

    Each has its name as its password unless another one is given.
    """
    made: list[str] = []

    def new_role() -> str:
        name = f"cdc_sync_test_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(dsn, autocommit=True) as connection:
            statement = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}")
            connection.execute(statement.format(sql.Identifier(name), sql.Literal(password or name)))
        made.append(name)
        return name

    try:
        yield new_role
    finally:
        with psycopg.connect(dsn, autocommit=True) as connection:
            # Whoever is still connected may hold a lock on what was granted.
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            for name in made:
                connection.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(sql.Identifier(name)))
                connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def dsn_of(dsn: str, role: str) -> str:
    """The same database, logged in as a role that `roles` made."""
    return make_conninfo(dsn, user=role, password=role)
