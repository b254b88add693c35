"""Which event loop the daemon runs on."""

import asyncio
import sys

import pytest
import uvloop

from cdc_sync import event_loop


async def loop_in_use() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


def test_it_is_uvloops_where_that_is_installed() -> None:
    assert isinstance(event_loop.run(loop_in_use()), uvloop.Loop)


def test_it_is_asyncios_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)

    assert isinstance(event_loop.run(loop_in_use()), asyncio.BaseEventLoop)
