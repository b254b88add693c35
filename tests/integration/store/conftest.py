from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import psycopg
import pytest
from support.postgres import Cluster, fresh_database
from support.roles import roles
from support.sessions import Ats
from support.store_backends import BACKENDS, Backend, OpenStore, PostgresBackend, SqliteBackend

from cdc_sync.store import Store


@pytest.fixture(scope="session")
def store_database(cluster: Cluster) -> Iterator[str]:
    """A database for the stores of many tests, one after the other."""
    with fresh_database(cluster) as dsn:
        yield dsn


@pytest.fixture
def dsn(store_database: str) -> str:
    """Of an empty store in that database."""
    return PostgresBackend(store_database).dsn


@pytest.fixture
def dba(dsn: str) -> Iterator[Ats]:
    """A session of a superuser there."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


@pytest.fixture
def role(database: str) -> Iterator[str]:
    """A role that may log in to a database of the test's own, and nothing else."""
    with roles(database) as new_role:
        yield new_role()


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    if request.param == "sqlite":
        return SqliteBackend(tmp_path)
    return PostgresBackend(request.getfixturevalue("store_database"))


@pytest.fixture
async def open_store(backend: Backend) -> AsyncIterator[OpenStore]:
    async with AsyncExitStack() as opened:

        async def open_once_more() -> Store:
            store = await backend.open()
            opened.push_async_callback(store.driver.close)
            return store

        yield open_once_more


@pytest.fixture
async def store(open_store: OpenStore) -> Store:
    return await open_store()
