"""The store remembers each host by which its database was reached."""

from support.proxy import proxy_to
from support.store_backends import PostgresBackend

from cdc_sync.ats.connection import connected
from cdc_sync.ats.database import recognise
from cdc_sync.ats.facts import hosts_of, server_facts
from cdc_sync.core.findings import Whereabouts


async def test_a_standby_of_the_daemon_may_reach_the_database_by_another_host(database: str) -> None:
    store = await PostgresBackend(database).open()
    async with proxy_to(database) as proxy, connected(database) as direct, connected(proxy.dsn) as through:
        identity = (await server_facts(direct)).identity
        await recognise(store, identity, database, direct)
        await recognise(store, identity, proxy.dsn, through)

        remembered = Whereabouts.from_text(await store.databases.hosts() or "").hosts
        assert {*hosts_of(database, direct), *hosts_of(proxy.dsn, through)} == set(remembered)
    await store.driver.close()
