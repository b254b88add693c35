from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.emulated import Emulator
from support.sending import Delivery, delivery

from cdc_sync.core.status_url import DEFAULT_ACCOUNT
from cdc_sync.delivery.client import Client


@pytest.fixture
async def hellowork() -> AsyncIterator[Emulator]:
    async with Emulator() as running:
        yield running


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    """A client that waits long: what comes back at once does not come from its timeout."""
    async with Client({DEFAULT_ACCOUNT: {"X-Api-Key": "planted-secret"}}, timeout=20, connections=4) as opened:
        yield opened


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Delivery]:
    """What a sender works with."""
    async with delivery(tmp_path / "state.db") as opened:
        yield opened
