"""What tests build on: a database of their own, whatever others do to theirs."""

import psycopg
import pytest
from support.postgres import Cluster, fresh_database


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


def test_the_server_is_a_superusers(server: str) -> None:
    with psycopg.connect(server) as connection:
        assert connection.execute("SHOW is_superuser").fetchone() == ("on",)


def test_logical_decoding_is_possible(server: str) -> None:
    with psycopg.connect(server) as connection:
        assert connection.execute("SHOW wal_level").fetchone() == ("logical",)
