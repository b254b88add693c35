"""What is told, when, and what receivers may do."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from support.builders import ENDPOINT, WATCH
from support.configurations import a_config
from support.eventually import eventually
from support.leading import a_process
from support.receiving import Webhook, a_webhook, keeping, kept

from cdc_sync.core import events
from cdc_sync.core.conditions import NONE
from cdc_sync.daemon.notices import Notices, of_conditions, of_counts
from cdc_sync.daemon.process import Process
from cdc_sync.store.report import WatchCounts

HELD = f"{WATCH}: 15 held for a decision, see `cdc-sync fuse show`"


class Told:
    """Notices in a hurry, of a process whose state a test sets."""

    def __init__(self, every: float = 0.0, within: float = 10.0, **receivers: Any) -> None:
        self.emitted: list[events.Event] = []
        self.process: Process = a_process(a_config({"notify": receivers}), self.emitted.append)
        self.notices = Notices(self.process, every=every, within=within)

    @property
    def reported(self) -> list[events.Event]:
        return [event for event in self.emitted if isinstance(event, events.NoticeFailed)]

    async def look(self, **counts: WatchCounts) -> None:
        self.process.counts = counts
        await self.notices.look()


@pytest.fixture
def webhook() -> Any:
    with a_webhook() as opened:
        yield opened


async def test_a_beginning_and_an_end_are_told_once(webhook: Webhook) -> None:
    told = Told(url=webhook.url)

    for held in (15, 15, 16, 0, 0):
        await told.look(**{WATCH: WatchCounts(held=held)})

    first, last = webhook.messages
    assert (first["begun"], first["over"], first["now"]) == ([HELD], [], [HELD])
    assert (last["begun"], last["over"], last["now"]) == ([], [HELD], [])
    assert first["text"] == f"cdc-sync on {first['host']}\n{HELD}"
    assert last["text"] == f"cdc-sync on {first['host']}\nover: {HELD}"


async def test_a_command_gets_the_message_and_no_variables_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HELLOWORK_API_KEY", "planted-secret")
    told = Told(command=keeping(tmp_path / "kept"))

    await told.look(**{WATCH: WatchCounts(dead=2)})

    (message,) = kept(tmp_path / "kept")
    assert message["begun"] == [f"{WATCH}: 2 given up, see `cdc-sync dead-letters list`"]
    assert "HELLOWORK_API_KEY" not in (tmp_path / "kept").read_text()
    assert told.reported == []


async def test_what_only_a_leader_knows_is_not_over_when_it_leads_no_more_or_begins_again(webhook: Webhook) -> None:
    told = Told(url=webhook.url)
    told.process.emit(events.EndpointChanged(ENDPOINT, "paused", "HTTP 401", 1.0))
    told.process.emit(events.StoreFailed("it is away"))
    await told.look(**{WATCH: WatchCounts(held=15)})
    told.process.conditions, told.process.counts = NONE, None

    await told.notices.look()
    assert len(webhook.messages) == 1

    told.process.emit(events.StandsBy("another one leads"))  # so it has read the store
    await told.notices.look()
    assert webhook.messages[1]["over"] == ["the store cannot be written"]


async def test_what_happens_within_a_minute_is_one_message(webhook: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(every=60.0, url=webhook.url)
    await told.look(**{WATCH: WatchCounts(held=15)})
    for event in (
        events.CaptureLate("passing", 60.0),
        events.CaptureLate("lasting", 60.0),
        events.CaptureInTime("passing"),
    ):
        told.process.emit(event)
        await told.look()
    assert len(webhook.messages) == 1

    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: time.monotonic() + 60)
    await told.look()

    assert (webhook.messages[1]["begun"], webhook.messages[1]["over"]) == (["lasting is late"], [HELD])


def test_what_needs_a_person_has_texts_of_ours_alone() -> None:
    process = a_process(a_config(), print)
    for event in (
        events.CaptureLate(WATCH, 60.0),
        events.DeliveryLate(ENDPOINT, 60.0),
        events.EndpointChanged(f"{ENDPOINT} [acme]", "paused", "HTTP 401: Zoé", 1.0),
        events.EndpointChanged(ENDPOINT, "open", "HTTP 503", 1.0),
        events.StoreFailed("the disk of Zoé is full"),
        events.StoreFailed("the disk of Zoé is full", WATCH),
        events.TakeOverBlocked("Zoé", "store-take-over"),
        events.WatchLost(WATCH, "Zoé", misconfigured=True),
    ):
        process.emit(event)

    assert list(of_conditions(process.conditions).values()) == [
        f"{WATCH} is late",
        f"{ENDPOINT} is late",
        f"HelloWork refuses the credentials of {ENDPOINT} [acme]",
        "the store cannot be written",
        "the leader is silent, and this daemon cannot take over",
    ]
    assert of_counts({}) == {}


class TestReceivers:
    """They may refuse, hang, or not be there: each failure is reported, and the next message is tried."""

    async def test_that_refuse(self, webhook: Webhook) -> None:
        told = Told(url=webhook.url)
        webhook.status = 500
        for held in (1, 0, 1):
            await told.look(**{WATCH: WatchCounts(held=held)})
        webhook.status = 204
        await told.look()

        assert len(webhook.messages) == 4
        assert told.reported == [events.NoticeFailed("HTTP 500")] * 3

    async def test_that_hang(self, webhook: Webhook, tmp_path: Path) -> None:
        webhook.answer.clear()
        told = Told(within=0.2, url=webhook.url)
        async with asyncio.timeout(10):
            await told.look(**{WATCH: WatchCounts(held=1)})
        assert told.reported == [events.NoticeFailed("TimeoutError")]

        started = tmp_path / "started"
        told = Told(within=2.0, command=["sh", "-c", f"echo $$ > {started}; sleep 600 & wait"])
        async with asyncio.timeout(20):
            await told.look(**{WATCH: WatchCounts(held=1)})
        assert told.reported == [events.NoticeFailed("TimeoutError")]
        group = started.read_text().strip()

        def has_ended() -> bool:
            states = [path.read_text().rpartition(")")[2].split() for path in Path("/proc").glob("[0-9]*/stat")]
            return all(fields[2] != group or fields[0] == "Z" for fields in states)

        await eventually(has_ended, "the end of the command and of what it started", within=10)

    async def test_that_hang_beside_another_that_gets_its_message(self, webhook: Webhook) -> None:
        told = Told(within=3.0, command=["sleep", "600"], url=webhook.url)
        await told.look(**{WATCH: WatchCounts(held=1)})
        webhook.status = 500
        await told.look()

        assert len(webhook.messages) == 2
        assert told.reported == [events.NoticeFailed(why) for why in ("TimeoutError", "HTTP 500", "TimeoutError")]
