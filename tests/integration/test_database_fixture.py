"""What tests build on: a database of their own, whatever others do to theirs."""

import os
import subprocess

import psycopg
import pytest
from support.binaries import server_binaries
from support.postgres import RUNNING_SERVER, Cluster, fresh_database
from support.sessions import one


def applications(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT count(*) FROM public.applications").fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("run", [1, 2])
def test_every_test_gets_the_ats_without_rows(database: str, run: int) -> None:
    assert applications(database) == 0
    with psycopg.connect(database) as connection:
        connection.execute("INSERT INTO public.applications (status) VALUES ('left behind')")
    assert applications(database) == 1


def test_a_database_is_dropped_although_somebody_is_connected(cluster: Cluster) -> None:
    with fresh_database(cluster) as dsn:
        connection = psycopg.connect(dsn)
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(dsn)


@pytest.mark.skipif(RUNNING_SERVER in os.environ, reason="about the server that the tests start themselves")
def test_the_server_is_of_the_version_that_was_chosen(server: str) -> None:
    binaries = server_binaries()
    told = subprocess.run(
        [binaries.folder / "postgres", "--version"],
        check=True,
        capture_output=True,
        text=True,
        env={"LD_LIBRARY_PATH": str(binaries.libraries)},
    )
    with psycopg.connect(server) as connection:
        assert f"PostgreSQL) {one(connection, 'SHOW server_version')}" in told.stdout
