"""The opening of the leader's store is reported while it goes on: a migration may take minutes."""

import asyncio

import pytest

from cdc_sync.store import lead
from cdc_sync.store.lead import reporting


async def test_an_opening_that_lasts_is_reported_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lead, "UPGRADING_EVERY", 0.0)
    reported, thrice = list[float](), asyncio.Event()

    def upgrading(seconds: float) -> None:
        reported.append(seconds)
        if len(reported) == 3:
            thrice.set()

    async with asyncio.timeout(60), reporting(upgrading):
        await thrice.wait()
    number = len(reported)
    await asyncio.sleep(0)

    assert reported == sorted(reported)
    assert len(reported) == number, "its end ends it"
