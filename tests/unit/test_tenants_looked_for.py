"""Where the daemon looks for tenants, and what it makes of what it finds."""

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, cast

import pytest
from support.configurations import a_config

from cdc_sync.config import Config
from cdc_sync.config.tenants import Tenant, expanded
from cdc_sync.config.watch import Override
from cdc_sync.core import events
from cdc_sync.core.events import Event, OverridesUnused, TenantRefused
from cdc_sync.core.failures import StoreError
from cdc_sync.core.replies import Credentials
from cdc_sync.daemon import running
from cdc_sync.daemon.gate import Gate
from cdc_sync.daemon.running import _Daemon
from cdc_sync.daemon.tenant_news import TenantNews
from cdc_sync.daemon.watching import RunningWatches
from cdc_sync.pipeline.database import Database
from cdc_sync.pipeline.discovery import Discovery
from cdc_sync.source.errors import source_error
from cdc_sync.store import Store
from cdc_sync.store.protocol import WatchCounts


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


class OpenGate:
    """A gate that nothing waits at."""

    async def use(self, *_: object) -> None:
        """See `Gate`."""


async def test_a_database_that_is_elsewhere_after_a_reload_is_not_asked_where_it_was() -> None:
    def opened(config: Config, name: str) -> Database:
        return cast("Database", SimpleNamespace(pool=config.all_databases[name].dsn.get_secret_value()))

    watches = RunningWatches(lambda *_: None, opened, cast("Gate", OpenGate()), print)  # type: ignore[arg-type]
    await watches.use(with_template(stays="a", moves="b"))

    pools: dict[str, Any] = dict(watches.pools(with_template(stays="a", moves="elsewhere", new="c")))
    assert pools == {"stays": "host=a"}


def a_daemon(config: Config, emit: Callable[[Event], None]) -> _Daemon:
    daemon = _Daemon(config, [lambda: {Event: emit}], print, None, _dry_run=True, _beat_every=1.0)
    daemon._watches = RunningWatches(lambda *_: None, lambda *_: None, cast("Gate", OpenGate()), emit)  # type: ignore[arg-type]
    return daemon


async def test_what_a_look_finds_wrong_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    emitted: list[Event] = []
    config = with_template(one="a")

    async def look(*_: object) -> Discovery:
        return Discovery(config, {"applications@one.x": "no file"}, {})

    monkeypatch.setattr(running, "discover", look)
    await a_daemon(config, emitted.append)._follow_tenants()

    assert emitted == [TenantRefused("applications@one.x", "no file")]


async def test_a_look_drops_the_credentials_of_forgotten_watches_if_the_store_can_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Known:
        """The store, which has one of two watches that are no longer configured."""

        fails = True

        async def counts(self) -> dict[str, WatchCounts]:
            if self.fails:
                raise StoreError("store-busy", "busy")
            return {"gone": WatchCounts()}

    async def look(*_: object) -> Discovery:
        return Discovery(config, {}, {})

    async def use(self: _Daemon, config: Config) -> events.Reloaded:
        used.append({*self._gone})
        return events.Reloaded(tuple(config.watches))

    config, known, used, dropped = with_template(one="a"), Known(), list[set[str]](), list[object]()
    monkeypatch.setattr(running, "discover", look)
    monkeypatch.setattr(_Daemon, "_use", use)
    daemon = a_daemon(config, print)
    daemon._store = cast("Store", known)
    daemon._gate = cast("Gate", SimpleNamespace(drop_credentials=dropped.append))
    daemon._gone = {watch: Credentials(watch, {}) for watch in ("gone", "forgotten")}

    await daemon._follow_tenants()
    assert used == []
    known.fails = False
    for _ in range(2):
        await daemon._follow_tenants()

    assert (used, dropped) == ([{"gone"}], [{"forgotten"}])


async def test_a_look_ends_as_soon_as_a_part_of_the_daemon_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look(*_: object) -> Discovery:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    async def fail() -> None:
        raise RuntimeError

    monkeypatch.setattr(running, "discover", look)
    config = with_template(one="a")
    daemon = a_daemon(config, print)
    daemon._lasting = [asyncio.create_task(fail())]

    async with asyncio.timeout(10):
        assert await daemon._with_tenants(config, (), daemon._stopping) is None
        assert not await daemon._is_change_wanted()
    with pytest.raises(RuntimeError):
        await daemon._lasting[0]


async def test_the_signal_that_ends_the_daemon_ends_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look(*_: object) -> Discovery:
        """As psycopg, which lets one cancellation pass while it waits for a server that does not answer."""
        with suppress(asyncio.CancelledError):
            await asyncio.get_running_loop().create_future()
        with suppress(asyncio.CancelledError):
            await asyncio.get_running_loop().create_future()
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    monkeypatch.setattr(running, "discover", look)
    config = with_template(one="a")
    daemon = a_daemon(config, print)
    asyncio.get_running_loop().call_soon(daemon._end, signal.SIGTERM)

    async with asyncio.timeout(10):
        assert await daemon._with_tenants(config, (), daemon._stopping) is None


async def test_a_reload_does_not_wait_for_the_regular_look(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look(*_: object) -> Discovery:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    monkeypatch.setattr(running, "discover", look)
    daemon = a_daemon(with_template(one="a"), print)
    asyncio.get_running_loop().call_soon(daemon._want_reload)

    async with asyncio.timeout(10):
        await daemon._follow_tenants()
        assert await daemon._is_change_wanted()
    assert daemon._is_reload_wanted


def test_overrides_of_tenants_that_there_are_not_are_said_once() -> None:
    said: list[Event] = []
    news, config = TenantNews(said.append), with_template(one="a")
    tenants = {"one.there": Override(), "one.refused": Override(), "one.mispelt": Override()}
    template = config.templates["applications"].model_copy(update={"overrides": tenants})
    config, _ = expanded(
        config.with_watches({}, {"applications": template}), {"applications": [Tenant("one", "there")]}, str
    )
    refused = {"applications@one.refused": "no file"}
    news.report(Discovery(config, refused, {"one": source_error("log-kept")}))
    assert not any(isinstance(event, OverridesUnused) for event in said), "there may be such a tenant"
    for _ in range(2):
        news.report(Discovery(config, refused, {}))
    assert [event for event in said if isinstance(event, OverridesUnused)] == [
        OverridesUnused("applications", ("one.mispelt",))
    ]
