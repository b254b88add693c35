"""A reload: the sender and the client take other credentials over in one turn of the event loop."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import yaml
from support.configurations import LEAST, WATCH, a_config

from cdc_sync.admin.server import AdminServer
from cdc_sync.config import Config
from cdc_sync.core.events import Event, WatchUnconfigured
from cdc_sync.daemon.running import _Daemon
from cdc_sync.daemon.watching import RunningWatches
from cdc_sync.daemon.wiring import report_unconfigured
from cdc_sync.delivery.client import Client
from cdc_sync.delivery.endpoints import SenderSettings
from cdc_sync.delivery.sender import Sender
from cdc_sync.store import Store


class Used:
    """What a sender is told."""

    def __init__(self, told: Callable[[SenderSettings], None]) -> None:
        self.use = told

    def pause(self, _: object) -> None: ...


class Others:
    """The admin server and the store."""

    def use(self, _: object) -> None: ...

    def expect(self, _: object) -> None: ...

    async def note_credentials(self, *_: object) -> None: ...

    async def paused(self) -> frozenset[str]:
        return frozenset()


class NoWatches:
    """The watches, which this is not about."""

    async def use(self, _: object) -> None: ...


def a_daemon(config: Config, told: Callable[[SenderSettings], None], client: Client) -> _Daemon:
    daemon = _Daemon(config, (), print, None, _dry_run=False, _beat_every=10.0)
    daemon._caller, daemon._sender = client, cast("Sender", Used(told))
    daemon._admin, daemon._store = cast("AdminServer", Others()), cast("Store", Others())
    daemon._watches = cast("RunningWatches", NoWatches())
    return daemon


async def test_no_call_is_made_with_the_credentials_of_one_and_counted_as_one_of_the_other() -> None:
    """A refusal counts if it was of the credentials that the sender has: they must be those of the client."""
    turns = dict[str, int]()
    turn = 0

    class TheClient(Client):
        async def use(self, *settings: Any) -> None:
            turns["client"] = turn
            await super().use(*settings)
            await asyncio.sleep(0)  # until its former connections are closed

    def told(settings: SenderSettings) -> None:
        turns[settings.headers["X-Api-Key"]] = turn

    config = a_config({"hellowork.headers": {"X-Api-Key": "new"}})
    async with TheClient({}, 1.0, 1) as client:
        taking = asyncio.create_task(a_daemon(config, told, client)._use(config))
        while not taking.done():
            turn += 1
            await asyncio.sleep(0)

    assert turns["client"] == turns["new"]


async def test_what_is_pending_of_a_watch_that_is_gone_is_sent_with_its_own_credentials() -> None:
    keys = list[dict[str, tuple[str, str]]]()

    def told(settings: SenderSettings) -> None:
        keys.append({watch: (own.owner, own.headers["X-Api-Key"]) for watch, own in settings.own.items()})

    least = yaml.safe_load(LEAST)["watches"]["applications"]
    both = {"watches.gone": {**least, "hellowork": {"headers": {"X-Api-Key": "old"}}}}
    own = {f"{WATCH}.hellowork.headers": {"X-Api-Key": "old"}}
    others = {f"{WATCH}.hellowork.headers": {"X-Api-Key": "new"}}
    async with Client({}, 1.0, 1) as client:
        daemon = a_daemon(a_config({**own, **both}), told, client)
        for config in (a_config(own), a_config(others), a_config({**both, **others})):
            await daemon._use(config)

    assert keys == [
        {"gone": ("gone", "old"), "applications": ("applications", "old")},
        {"gone": ("gone", "old"), "applications": ("applications", "new")},
        {"gone": ("gone", "old"), "applications": ("applications", "new")},
    ]


async def test_of_many_tenants_that_are_no_longer_configured_there_is_one_line() -> None:
    class Known:
        async def unconfigured(self, _: object) -> list[WatchUnconfigured]:
            names = ["former", *(f"gone@{number}" for number in range(11)), "few@1", "few@2"]
            return [WatchUnconfigured(name, known=2, pending=1) for name in names]

    emitted: list[Event] = []
    await report_unconfigured(a_config(yaml.safe_load(LEAST)), cast("Store", Known()), emitted.append, ())

    assert emitted == [
        WatchUnconfigured("former", known=2, pending=1),
        WatchUnconfigured("gone@% (11 watches)", known=22, pending=11),
        WatchUnconfigured("few@1", known=2, pending=1),
        WatchUnconfigured("few@2", known=2, pending=1),
    ]
