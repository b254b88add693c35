"""Where the daemon looks for tenants, and what it makes of what it finds."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from support.configurations import a_config
from support.leading import a_lead, a_process

from cdc_sync.ats.discovery import Discovery
from cdc_sync.config import Config
from cdc_sync.core.events import (
    Event,
    TenantAccepted,
    TenantRefused,
)
from cdc_sync.daemon import chores
from cdc_sync.daemon import tenants as looking
from cdc_sync.daemon.process import unless
from cdc_sync.daemon.tenants import Tenants


def with_template(**hosts: str) -> Config:
    """A configuration with a template, and with these databases."""
    template: dict[str, Any] = {
        "table": "t",
        "key": ["id"],
        "columns": {"application_id": "a", "status": "b", "job_id": "c", "created": "d"},
        "for_each": {"schemas": "%", "databases": list(hosts)},
    }
    databases = {name: {"dsn": f"host={host}"} for name, host in hosts.items()}
    return a_config({"databases": databases, "watches": {"applications": template}})


async def test_what_a_look_finds_wrong_is_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    emitted: list[Event] = []
    config, refused = with_template(one="a"), {"applications@one.x": "no file"}

    async def look(*_: object) -> Discovery:
        return Discovery(config, refused, {})

    monkeypatch.setattr(looking, "discover", look)
    tenants = Tenants(a_process(config, emitted.append))
    for _ in range(2):
        await tenants.look(config, ())
    refused = {}
    for _ in range(2):
        await tenants.look(config, ())

    assert emitted == [
        TenantRefused("applications@one.x", "no file"),
        TenantAccepted("applications@one.x"),
    ]


async def test_the_signal_that_ends_the_daemon_ends_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look(*_: object) -> Discovery:
        """As psycopg, which lets one cancellation pass while it waits for a server that does not answer."""
        with suppress(asyncio.CancelledError):
            await asyncio.get_running_loop().create_future()
        with suppress(asyncio.CancelledError):
            await asyncio.get_running_loop().create_future()
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    monkeypatch.setattr(looking, "discover", look)
    config, stopping = with_template(one="a"), asyncio.Event()
    asyncio.get_running_loop().call_soon(stopping.set)

    async with asyncio.timeout(10):
        assert await unless(stopping, Tenants(a_process(config, print)).look(config, ())) is None


async def test_a_lead_ends_during_a_look_when_a_part_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """And without an answer to the look."""

    class UnforeseenError(Exception):
        pass

    async def look(*_: object) -> Discovery:
        looked.set()
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    async def fail(*_: object) -> None:
        await looked.wait()
        raise UnforeseenError

    looked = asyncio.Event()
    monkeypatch.setattr(looking, "discover", look)
    monkeypatch.setattr(looking, "LOOK_FOR_TENANTS", 0.0)
    monkeypatch.setattr(chores.Pulse, "look", fail)
    config = with_template(one="a")
    process = a_process(config, print)
    async with a_lead(process) as leading, asyncio.timeout(10):
        with pytest.raises(BaseExceptionGroup) as failed:
            await leading.work()

    assert [type(each) for each in failed.value.exceptions] == [UnforeseenError]
