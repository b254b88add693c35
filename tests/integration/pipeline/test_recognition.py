"""Daemons that share a store remember the hosts of each other."""

import pytest
from support.proxy import proxy_to
from support.store_backends import PostgresBackend

from cdc_sync.core.findings import Whereabouts
from cdc_sync.pipeline.database import recognise
from cdc_sync.source.connection import connected
from cdc_sync.source.facts import hosts_of, server_facts


async def test_daemons_that_start_at_once_keep_the_hosts_of_each_other(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = PostgresBackend(database)
    one, other = await backend.open(), await backend.open()
    async with proxy_to(database) as proxy, connected(database) as direct, connected(proxy.dsn) as through:
        identity = (await server_facts(direct)).identity
        read = one.hosts

        async def read_just_before_the_other_writes(database: str = "") -> str | None:
            found = await read(database)
            monkeypatch.undo()
            await recognise(other, identity, proxy.dsn, through)
            return found

        monkeypatch.setattr(one, "hosts", read_just_before_the_other_writes)
        await recognise(one, identity, database, direct)

        remembered = Whereabouts.from_text(await one.hosts() or "").hosts
        assert {*hosts_of(database, direct), *hosts_of(proxy.dsn, through)} == set(remembered)
    await one.close()
    await other.close()
