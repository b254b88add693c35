"""The heart beats while the event loop turns, whatever the store does."""

import asyncio

import pytest
from support.builders import WATCH
from support.configurations import a_config
from support.leading import a_process

from cdc_sync.core.events import Event, HeartBeat
from cdc_sync.daemon.running import Daemon
from cdc_sync.store.protocol import WatchCounts


async def test_a_beat_has_what_is_pending_if_that_is_known() -> None:
    said: list[Event] = []
    process = a_process(a_config(), said.append)
    daemon = Daemon(process, lambda: process.config, lambda _: None)

    await daemon.beat()
    process.counts = {WATCH: WatchCounts(pending=3), "others": WatchCounts(pending=4)}
    await daemon.beat()

    assert said == [HeartBeat(None), HeartBeat(7)]


async def test_a_failure_beside_the_lead_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd then starts another one, which is better than a daemon without a heart beat."""

    class UnforeseenError(Exception):
        pass

    async def fail(_: Daemon) -> None:
        raise UnforeseenError

    monkeypatch.setattr(Daemon, "beat", fail)
    process = a_process(a_config({"database.dsn": "host=127.0.0.1 port=1 connect_timeout=2"}), print)
    async with asyncio.timeout(30):
        with pytest.raises(BaseExceptionGroup) as failed:
            await Daemon(process, lambda: process.config, lambda _: None).run(10.0)

    assert [type(each) for each in failed.value.exceptions] == [UnforeseenError]
