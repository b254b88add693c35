"""The installation that each acceptance test works on, in one or both capture modes."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from support.hellowork_server import HelloWork
from support.hellowork_server import hellowork as running_hellowork
from support.installation import API_KEY, PASSWORD, Installation

from cdc_sync.demo.postgres import Server
from cdc_sync.emulator import EmulatorOptions

MODES = ("notify", "poll")


@pytest.fixture
def hellowork() -> Iterator[HelloWork]:
    """HelloWork, which refuses calls without our key; whatever it heard must be well formed and in order."""
    with running_hellowork(EmulatorOptions(required_headers={"X-Api-Key": API_KEY})) as running:
        yield running
        for call in running.calls:
            assert not call.violations
            assert not call.concurrent
            assert call.idempotency_key


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    """Each mode of capture."""
    return str(request.param)


@pytest.fixture
def installation(tmp_path: Path, database: str, mode: str, hellowork: HelloWork) -> Iterator[Installation]:
    """An installation in each mode; triggers and privileges are in place, the daemon was never started."""
    with _installation(tmp_path, database, mode, hellowork) as made:
        made.install()
        yield made


@pytest.fixture
def notify(tmp_path: Path, database: str, hellowork: HelloWork) -> Iterator[Installation]:
    """The same in notify mode only."""
    with _installation(tmp_path, database, "notify", hellowork) as made:
        made.install()
        yield made


@pytest.fixture
def poll(tmp_path: Path, database: str, hellowork: HelloWork) -> Iterator[Installation]:
    """The same in poll mode only."""
    with _installation(tmp_path, database, "poll", hellowork) as made:
        made.install()
        yield made


@pytest.fixture
def bare(tmp_path: Path, database: str, mode: str, hellowork: HelloWork) -> Iterator[Installation]:
    """The same in each mode, with nothing installed in the database yet."""
    with _installation(tmp_path, database, mode, hellowork) as made:
        yield made


@pytest.fixture
def on_own_server(
    tmp_path: Path, restartable_server: Server, mode: str, hellowork: HelloWork
) -> Iterator[Installation]:
    """The same, in each mode, on the server of the fixture `restartable_server`, which must run in the end."""
    with _installation(tmp_path, restartable_server.dsn, mode, hellowork) as made:
        made.install()
        yield made


@contextmanager
def _installation(folder: Path, dsn: str, mode: str, hellowork: HelloWork) -> Iterator[Installation]:
    # Roles belong to the whole server, so this one is the test's own, and must be gone in the end.
    role = f"cdc_sync_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(dsn, autocommit=True) as ats:
        ats.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(role), sql.Literal(PASSWORD)))
        try:
            made = Installation(folder, dsn, role=role, ats=ats, hellowork=hellowork, mode=mode)
            try:
                yield made
            finally:
                made.ats.close()
            made.check_traces()
        finally:
            _drop_role(dsn, role)


def _drop_role(dsn: str, role: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        # Whoever is still connected may hold a lock on what was granted.
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", (role,))
        connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role)))
        connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
