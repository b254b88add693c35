"""Under which names a database is reached, in one spelling."""

from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from cdc_sync.ats.connection import connected
from cdc_sync.ats.facts import hosts_of

HOSTS = [
    ("host=DB-1.example. dbname=x", ("db-1.example:5432",)),
    ("host=127.0.0.1 port=6000", ("localhost:6000",)),
    ("postgresql://u@localhost/x", ("localhost:5432",)),
    ("host=::1", ("localhost:5432",)),
    ("host=/var/run/postgresql", ("localhost:5432",)),
    ("host=a,b,a port=1", ("a:1", "b:1")),
    ("host=a,b port=1,2", ("a:1", "b:2")),
    ("hostaddr=10.0.0.1", ("10.0.0.1:5432",)),
    ("host=a hostaddr=10.0.0.1", ("a:5432",)),
]


async def test_a_dsn_names_hosts_with_ports(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for dsn, hosts in HOSTS:
        monkeypatch.setenv("PGHOST", "elsewhere")
        async with connected(database) as connection:
            assert hosts_of(dsn, connection) == hosts


async def test_what_a_dsn_leaves_open_the_environment_or_a_service_file_says(
    database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = conninfo_to_dict(database)
    async with connected(database) as connection:
        monkeypatch.setenv("PGHOST", "b,a")
        monkeypatch.setenv("PGPORT", "7")
        assert hosts_of("dbname=x", connection) == ("b:7", "a:7")
    monkeypatch.delenv("PGHOST")
    monkeypatch.delenv("PGPORT")
    services = tmp_path / "services"
    services.write_text("[ats]\n" + "".join(f"{name}={value}\n" for name, value in given.items() if value))
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    async with connected("service=ats") as by_service, connected(database) as connection:
        assert hosts_of("service=ats", by_service) == hosts_of(database, connection)
