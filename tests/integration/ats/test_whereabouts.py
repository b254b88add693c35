"""Under which names a database is reached, in one spelling."""

import asyncio
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict
from support.proxy import proxy_to
from support.standby import standby_of

from cdc_sync.ats import facts
from cdc_sync.ats.connection import connected
from cdc_sync.ats.facts import hosts_of, is_same_cluster, server_facts, whereabouts
from cdc_sync.core.findings import Whereabouts
from cdc_sync.demo.postgres import Server


@pytest.mark.parametrize(
    ("dsn", "hosts"),
    [
        ("host=DB-1.example. dbname=x", ("db-1.example:5432",)),
        ("host=127.0.0.1 port=6000", ("localhost:6000",)),
        ("postgresql://u@localhost/x", ("localhost:5432",)),
        ("host=::1", ("localhost:5432",)),
        ("host=a,b,a port=1", ("a:1", "b:1")),
        ("host=a,b port=1,2", ("a:1", "b:2")),
        ("hostaddr=10.0.0.1", ("10.0.0.1:5432",)),
        ("host=a hostaddr=10.0.0.1", ("a:5432",)),
    ],
)
async def test_a_dsn_names_hosts_with_ports(
    database: str, dsn: str, hosts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
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


async def test_a_folder_of_sockets_is_known_by_a_link_too(database: str, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "run")
    async with connected(database) as connection:
        assert hosts_of(f"host={tmp_path}/link", connection) == (f"{tmp_path.resolve()}/run:5432",)


async def test_a_host_of_before_proves_that_it_is_the_same_server(database: str) -> None:
    async with proxy_to(database) as proxy, connected(database) as direct, connected(proxy.dsn) as through:
        identity = (await server_facts(direct)).identity
        before, now = await whereabouts(proxy.dsn, through), await whereabouts(database, direct)
        assert set(before.hosts).isdisjoint(now.hosts)
        assert before.started == now.started
        assert await is_same_cluster(database, identity, before, now, direct)
        assert not await is_same_cluster(database, identity, before, Whereabouts(now.hosts, "another"), direct)
        assert not await is_same_cluster(database, "another", before, now, direct)
    async with connected(database) as direct:
        assert not await is_same_cluster(database, identity, before, now, direct)  # it is gone


async def test_a_host_of_before_that_falls_silent_after_the_login_is_not_waited_for(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts, "_ANSWERS_WITHIN", 1)
    async with proxy_to(database) as proxy, connected(database) as direct:
        before, now = Whereabouts(hosts_of(proxy.dsn, direct), "earlier"), await whereabouts(database, direct)
        identity = (await server_facts(direct)).identity
        assert await is_same_cluster(database, identity, before, now, direct)
        proxy.let_in_only()
        async with asyncio.timeout(20):
            assert not await is_same_cluster(database, identity, before, now, direct)


async def test_a_standby_that_follows_is_of_the_same_cluster_and_one_that_was_left_behind_is_not(
    restartable_server: Server,
) -> None:
    primary = restartable_server.dsn
    with standby_of(restartable_server) as standby:
        async with connected(primary) as there, connected(standby.dsn) as here:
            identity = (await server_facts(there)).identity
            on_primary, on_standby = await whereabouts(primary, there), await whereabouts(standby.dsn, here)
            assert await is_same_cluster(standby.dsn, identity, on_primary, on_standby, here)
            assert await is_same_cluster(primary, identity, on_standby, on_primary, there)

            await here.execute(
                "SELECT pg_wal_replay_pause()"
            )  # as a copy that was left in recovery, with no new record
            assert not await is_same_cluster(standby.dsn, identity, on_primary, on_standby, here)
            await here.execute("SELECT pg_wal_replay_resume()")
