"""Where the daemon looks for tenants, and what it makes of what it finds."""

import asyncio
from contextlib import suppress
from typing import Any, cast

import pytest
from support.configurations import a_config
from support.leading import a_lead, a_process

from cdc_sync.ats.discovery import Discovery
from cdc_sync.ats.errors import source_error
from cdc_sync.config import Config
from cdc_sync.config.tenants import Tenant, expanded
from cdc_sync.config.watch import Override, Watch
from cdc_sync.core.events import Event, OverridesUnused, TenantRefused
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


async def test_what_a_look_finds_wrong_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    emitted: list[Event] = []
    config = with_template(one="a")

    async def look(*_: object) -> Discovery:
        return Discovery(config, {"applications@one.x": "no file"}, {})

    monkeypatch.setattr(looking, "discover", look)
    async with a_lead(a_process(config, emitted.append)) as lead:
        await lead._follow_tenants()

    assert emitted == [TenantRefused("applications@one.x", "no file")]


async def test_a_look_ends_as_soon_as_a_part_of_the_daemon_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look(*_: object) -> Discovery:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    async def fail() -> None:
        raise RuntimeError

    monkeypatch.setattr(looking, "discover", look)
    async with a_lead(a_process(with_template(one="a"), print)) as lead, asyncio.timeout(10):
        lead._lasting = [asyncio.create_task(fail())]

        await lead._follow_tenants()
        await lead._follow_changes()
        with pytest.raises(RuntimeError):
            await lead._lasting[0]


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
        assert await unless(stopping, Tenants(print).look(config, ())) is None


async def test_a_reload_does_not_wait_for_the_regular_look(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look(*_: object) -> Discovery:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    monkeypatch.setattr(looking, "discover", look)
    process = a_process(with_template(one="a"), print)
    asyncio.get_running_loop().call_soon(process.signalled.set)

    async with a_lead(process) as lead, asyncio.timeout(10):
        await lead._follow_tenants()


def test_overrides_of_tenants_that_there_are_not_are_said_once() -> None:
    said: list[Event] = []
    news, config = Tenants(said.append), with_template(one="a")
    tenants = {"one.there": Override(), "one.refused": Override(), "one.mispelt": Override()}
    template = config.templates["applications"].model_copy(update={"overrides": tenants})
    cast("dict[str, Watch]", config.templates)["applications"] = template
    config, _ = expanded(config, {"applications": [Tenant("one", "there")]}, str)
    refused = {"applications@one.refused": "no file"}
    news.report(Discovery(config, refused, {"one": source_error("log-kept")}))
    assert not any(isinstance(event, OverridesUnused) for event in said), "there may be such a tenant"
    for _ in range(2):
        news.report(Discovery(config, refused, {}))
    assert [event for event in said if isinstance(event, OverridesUnused)] == [
        OverridesUnused("applications", ("one.mispelt",))
    ]
