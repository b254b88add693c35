"""`run --once`: what it leaves of the watches that it could not capture."""

from collections.abc import Mapping
from typing import Any, cast

import pytest
import yaml
from support.configurations import LEAST, a_config

from cdc_sync.daemon import once
from cdc_sync.delivery.sender import Sender
from cdc_sync.pipeline.database import LeasedElsewhereError, WatchParts
from cdc_sync.store import Store
from cdc_sync.store.protocol import Lease


class Waited:
    """The part of a store that is used beside capture; a watch that is asked for waits until it is withdrawn."""

    clock = None
    withheld: object = ()

    def __init__(self) -> None:
        self.waiting: set[str] = set()

    async def captured_from(self) -> Mapping[str, str]:
        return {}

    async def credentials(self) -> Mapping[str, str]:
        return {}

    def withdraw(self, watch: str) -> None:
        self.waiting.discard(watch)


async def test_it_waits_for_no_watch_that_another_daemon_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """That one would give it some of its watches, and nobody would capture them."""
    store = Waited()

    async def catch_up(parts: WatchParts) -> None:
        store.waiting.add(parts.name)
        if parts.name == "applications":
            raise LeasedElsewhereError(parts.name, Lease(mine=False, number=1, host="other", process=1))

    class TheSender:
        def look(self) -> None: ...

    monkeypatch.setattr(once, "_catch_up", catch_up)
    config = a_config({"watches.candidates": yaml.safe_load(LEAST)["watches"]["applications"]})
    known: tuple[Any, Any] = cast("Store", store), cast("Sender", TheSender())

    assert await once._catch_up_all(config, *known, lambda _: None, dry_run=False) == 1
    assert not store.waiting
