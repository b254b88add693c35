"""Other tenants: the sender and the client use other credentials from one turn of the event loop on."""

import asyncio
from types import SimpleNamespace
from typing import cast

import pytest
import yaml
from support.configurations import LEAST, a_config
from support.leading import a_lead, a_process

from cdc_sync.core.events import AccountsUnconfigured, Event, WatchUnconfigured
from cdc_sync.daemon.chores import report_unconfigured
from cdc_sync.delivery.client import Client
from cdc_sync.delivery.endpoints import SenderSettings
from cdc_sync.store import Store


async def test_no_call_is_made_with_the_credentials_of_one_and_counted_as_one_of_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A refusal counts if it was of the credentials that the sender has: they must be those of the client."""
    turns = dict[str, int]()
    turn = 0

    async def used(self: Client, other: Client) -> None:
        turns["client"] = turn
        await use_client(self, other)
        await asyncio.sleep(0)  # until its former connections are closed

    use_client = Client.use
    monkeypatch.setattr(Client, "use", used)
    config = a_config({"hellowork.headers": {"X-Api-Key": "new"}})
    async with a_lead(a_process(a_config(), lambda _: None)) as leading:
        use = leading.sender.use

        def set_up(settings: SenderSettings) -> None:
            turns["sender"] = turn
            use(settings)

        monkeypatch.setattr(leading.sender, "use", set_up)
        using = asyncio.create_task(leading._use(config))
        while not using.done():
            turn += 1
            await asyncio.sleep(0)
        await using

    assert turns["client"] == turns["sender"]


async def test_of_many_tenants_that_are_no_longer_configured_there_is_one_line() -> None:
    class Known:
        async def unconfigured(self, _: object) -> list[WatchUnconfigured]:
            names = ["former", *(f"gone@{number}" for number in range(11))]
            return [WatchUnconfigured(name, known=2, pending=1) for name in names]

        async def waiting(self) -> dict[str, int]:
            return {"beta": 2, "acme": 1}

        async def note_configured(self, *_: object) -> None:
            pass

    emitted: list[Event] = []
    store = cast("Store", SimpleNamespace(report=Known(), delivery=Known()))
    config = a_config(yaml.safe_load(LEAST))
    await report_unconfigured(a_process(config, emitted.append), store, config, ())

    assert emitted == [
        WatchUnconfigured(f"former, {', '.join(f'gone@{n}' for n in range(9))} and 2 more", known=24, pending=12),
        AccountsUnconfigured(("acme", "beta"), 3),
    ]
