"""A lead and its parts: which watches may send, conditions, pruning, tenants, credentials, and the heart beat."""

import asyncio
import gc
import weakref
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pytest
from support.builders import WATCH
from support.configurations import a_config
from support.eventually import eventually
from support.leading import a_lead, a_process

from cdc_sync.ats.discovery import Discovery
from cdc_sync.config import Config
from cdc_sync.core import events
from cdc_sync.core.failures import StoreError
from cdc_sync.daemon import chores
from cdc_sync.daemon.chores import Tenants, save_conditions
from cdc_sync.daemon.leading import Leading
from cdc_sync.daemon.process import unless
from cdc_sync.daemon.running import Daemon
from cdc_sync.event_loop import end


async def test_after_a_reload_nothing_keeps_the_former_parts_alive() -> None:
    process = a_process(a_config(), lambda _: None)
    async with a_lead(process) as leading:
        former = weakref.ref(leading)
        process.over = asyncio.Event()
        lead, tenants = leading._lead, leading._tenants
        del leading
        Leading(process, lead, tenants)
        gc.collect()

        assert former() is None


class UnforeseenError(Exception):
    """A part fails."""


@pytest.mark.parametrize(
    ("event", "sends"),
    [
        # Its entries are still those of that database.
        (events.WatchLost(WATCH, "it is gone", misconfigured=False, code="unreachable"), True),
        (events.WatchLost(WATCH, "it is gone", misconfigured=False), True),
        (events.WatchLost(WATCH, "it is gone", misconfigured=False, code="store-another-database"), False),
        # It waits for its rows.
        (events.WatchConnected(WATCH, "notify", 180_000), False),
        (events.WatchEnded(WATCH), False),
        # That daemon may have sent a newer state.
        (events.WatchStandsBy(WATCH, "another daemon captures it"), False),
    ],
)
async def test_a_watch_sends_from_its_rows_reread_until_it_may_not(event: events.Event, *, sends: bool) -> None:
    process = a_process(a_config(), lambda _: None)
    async with a_lead(process) as leading:
        process.emit(events.PendingReread(WATCH, 0))
        assert WATCH in leading._may_send

        process.emit(event)

        assert (WATCH in leading._may_send) is sends


async def test_a_failure_beside_the_lead_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd then starts another one, which is better than a daemon without a heart beat."""

    async def fail(_: Daemon) -> None:
        raise UnforeseenError

    monkeypatch.setattr(Daemon, "beat", fail)
    process = a_process(a_config({"database.dsn": "host=127.0.0.1 port=1 connect_timeout=2"}), print)
    async with asyncio.timeout(30):
        with pytest.raises(BaseExceptionGroup) as failed:
            await Daemon(process, lambda: process.config, lambda _: None).run()

    assert [type(each) for each in failed.value.exceptions] == [UnforeseenError]


async def test_a_condition_that_could_not_be_saved_is_saved_though_no_event_follows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process = a_process(a_config(), lambda _: None)
    async with a_lead(process) as leading:
        store = leading.store
        await store.operation.set_conditions({f"watch {WATCH}": "not connected yet"}, 0)
        process.emit(events.CaptureStarted(WATCH))
        refused = asyncio.Event()

        async def refuse(_: Mapping[str, str | None], __: int) -> None:
            refused.set()
            raise StoreError("store-unusable", "busy")

        async def saved() -> set[str]:
            return {condition.name for condition in await store.operation.conditions()}

        with monkeypatch.context() as patched:
            patched.setattr(store.operation, "set_conditions", refuse)
            saving = asyncio.create_task(save_conditions(process, store))
            await refused.wait()
        assert await saved() == {f"watch {WATCH}"}

        async def is_saved(*names: str) -> bool:
            return await saved() == set(names)

        await eventually(is_saved, "the end of the past condition", within=20)
        process.emit(events.CaptureLate(WATCH, 60.0))
        await eventually(lambda: is_saved(f"lag {WATCH}"), "the new condition", within=20)
        await end([saving])


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
    emitted: list[events.Event] = []
    config, refused = with_template(one="a"), {"applications@one.x": "no file"}

    async def look(*_: object) -> Discovery:
        return Discovery(config, refused, {})

    monkeypatch.setattr(chores, "discover", look)
    tenants = Tenants(a_process(config, emitted.append))
    for _ in range(2):
        await tenants.look(())
    refused = {}
    for _ in range(2):
        await tenants.look(())

    assert emitted == [
        events.TenantRefused("applications@one.x", "no file"),
        events.TenantAccepted("applications@one.x"),
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

    monkeypatch.setattr(chores, "discover", look)
    config, stopping = with_template(one="a"), asyncio.Event()
    asyncio.get_running_loop().call_soon(stopping.set)

    async with asyncio.timeout(10):
        assert await unless(stopping, Tenants(a_process(config, print)).look(())) is None
