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
from cdc_sync.core.events import (
    Event,
    OverridesUnused,
    TenantAccepted,
    TenantRefused,
    TenantsKnown,
    TenantsMissing,
    TenantsUnknown,
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


async def test_a_database_that_cannot_be_asked_is_reported_until_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    emitted: list[Event] = []
    config, error = with_template(one="a"), source_error("log-kept")
    unasked = [{"one": error}, {"one": error}, {}, {}]

    async def look(*_: object) -> Discovery:
        return Discovery(config, {}, unasked.pop(0))

    monkeypatch.setattr(looking, "discover", look)
    tenants = Tenants(a_process(config, emitted.append))
    waits = []
    while unasked:
        await tenants.look(config, ())
        waits.append(tenants.next_look_in)

    assert emitted == [
        TenantsUnknown("one", error.message),
        TenantsKnown("one"),
        TenantsMissing("applications"),
    ]
    assert waits == [5, 5, 30, 30]


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


async def test_overrides_of_tenants_that_there_are_not_are_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[Event] = []
    config = with_template(one="a")
    news = Tenants(a_process(config, said.append))
    tenants = {"one.there": Override(), "one.refused": Override(), "one.mispelt": Override()}
    template = config.templates["applications"].model_copy(update={"overrides": tenants})
    cast("dict[str, Watch]", config.templates)["applications"] = template
    config, _ = expanded(config, {"applications": [Tenant("one", "there")]}, str)
    unasked = [{"one": source_error("log-kept")}, {}, {}]

    async def look(*_: object) -> Discovery:
        return Discovery(config, {"applications@one.refused": "no file"}, unasked.pop(0))

    monkeypatch.setattr(looking, "discover", look)
    await news.look(config, ())
    assert not any(isinstance(event, OverridesUnused) for event in said), "there may be such a tenant"
    for _ in range(2):
        await news.look(config, ())
    assert [event for event in said if isinstance(event, OverridesUnused)] == [
        OverridesUnused("applications", ("one.mispelt",))
    ]
