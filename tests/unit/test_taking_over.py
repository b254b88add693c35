"""Other tenants: the sender and the client use other credentials from one turn of the event loop on."""

import asyncio

import pytest
from support.configurations import a_config
from support.leading import a_lead, a_process

from cdc_sync.delivery.client import Client
from cdc_sync.delivery.endpoints import SenderSettings


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
