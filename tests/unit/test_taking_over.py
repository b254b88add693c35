"""A reload: the sender and the client take other credentials over in one turn of the event loop."""

import asyncio
from typing import Any, cast

from support.configurations import a_config

from cdc_sync.admin.server import AdminServer
from cdc_sync.daemon.running import _Daemon
from cdc_sync.delivery.client import Client
from cdc_sync.delivery.endpoints import SenderSettings
from cdc_sync.delivery.sender import Sender
from cdc_sync.store.store import Store


async def test_no_call_is_made_with_the_credentials_of_one_and_counted_as_one_of_the_other() -> None:
    """A refusal counts if it was of the credentials that the sender has: they must be those of the client."""
    turns = dict[str, int]()
    turn = 0

    class TheSender:
        def use(self, settings: SenderSettings) -> None:
            turns[settings.headers["X-Api-Key"]] = turn

    class TheClient(Client):
        async def use(self, *settings: Any) -> None:
            turns["client"] = turn
            await super().use(*settings)
            await asyncio.sleep(0)  # until its former connections are closed

    class TheOther:
        def use(self, _: object) -> None: ...

        def expect(self, _: object) -> None: ...

        async def note_credentials(self, _: object) -> None: ...

    config = a_config({"hellowork.headers": {"X-Api-Key": "new"}})
    daemon = _Daemon(config, (), print, None, _dry_run=False, _beat_every=10.0)
    async with TheClient({}, 1.0, 1) as client:
        daemon._caller, daemon._sender = client, cast("Sender", TheSender())
        daemon._admin, daemon._store = cast("AdminServer", TheOther()), cast("Store", TheOther())
        taking = asyncio.create_task(daemon._take_over(config))
        while not taking.done():
            turn += 1
            await asyncio.sleep(0)

    assert turns["client"] == turns["new"]
