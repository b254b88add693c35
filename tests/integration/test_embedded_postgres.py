"""The embedded PostgreSQL: it works as root and as anybody, and leaves nothing behind, however it ends."""

import os
import signal
import stat
import subprocess
from pathlib import Path

import psutil
import psycopg
import pytest
from support.binaries import server_binaries
from support.leftovers import nothing_left
from support.postgres import RUNNING_SERVER

from cdc_sync.demo.postgres import Binaries, PostgresError, Server, server

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="about what root's server must do to run as nobody")


@pytest.fixture(scope="module")
def binaries() -> Binaries:
    try:
        return server_binaries()
    except PostgresError as error:
        if RUNNING_SERVER in os.environ:
            pytest.skip(str(error))
        raise


def one(dsn: str, query: str) -> object:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


@pytest.fixture
def no_initdb(server_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server begins with a copy of data that are there: where its beginning is not the point."""

    def copy(own: Server) -> None:
        subprocess.run(["cp", "-a", server_data, own.folder / "data"], check=True)  # noqa: S607 - wherever it is

    monkeypatch.setattr(Server, "create", copy)


def test_it_is_private_and_in_unicode(binaries: Binaries, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "planted-secret")
    monkeypatch.setenv("PGPORT", "1")
    with server(binaries) as running:
        assert stat.S_IMODE(running.folder.stat().st_mode) == 0o700
        assert one(running.dsn, "SELECT current_user || '@' || current_database()") == "postgres@postgres"
        assert one(running.dsn, "SHOW server_encoding") == "UTF8"
        assert one(running.dsn, "SHOW listen_addresses") == ""
        assert "planted-secret" not in psutil.Process(running.pid).environ().values()


@pytest.mark.usefixtures("no_initdb")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_after_a_stop_or_a_crash_it_starts_with_its_data(binaries: Binaries, number: signal.Signals) -> None:
    with server(binaries) as running, psycopg.connect(running.dsn) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        connection.commit()
        before = running.pid
        running.stop(number)
        running.stop(number)
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(running.dsn)
        connection.close()
        running.start()
        assert running.pid != before
        assert one(running.dsn, "SELECT answer FROM kept") == 42


@pytest.mark.usefixtures("no_initdb")
def test_nothing_survives_a_start_that_fails(binaries: Binaries, temporary: Path) -> None:
    with pytest.raises(PostgresError) as failure, server(binaries, settings={"work_mem": "a lot"}):
        pytest.fail("it cannot start")
    assert "postgres ended with exit code 1 instead of starting" in str(failure.value)
    assert 'invalid value for parameter "work_mem": "a lot"' in str(failure.value)
    assert nothing_left(temporary)


@as_root
@pytest.mark.usefixtures("no_initdb")
def test_binaries_out_of_nobodys_reach_are_copied(binaries: Binaries, temporary: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with server(binaries.copied(tmp_path)) as running:
        assert Path(psutil.Process(running.pid).exe()).is_relative_to(running.folder)
    assert nothing_left(temporary)
