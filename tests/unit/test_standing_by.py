"""What a daemon reports while it stands by: each thing once, until it changes."""

from dataclasses import replace

from support.builders import WATCH
from support.configurations import a_config
from support.leading import a_process

from cdc_sync.core.events import (
    DaemonStarted,
    Event,
    StandbyAgrees,
    StandbyDiffers,
    StandsBy,
    StoreFailed,
    StoreRecovered,
    TakeOverBlocked,
    TakeOverUnblocked,
    WatchConnected,
    WatchLost,
)
from cdc_sync.daemon.running import Daemon
from cdc_sync.store.errors import store_error
from cdc_sync.store.lead import Standby
from cdc_sync.store.leader import Leader

OURS = Leader.here("ours")
THEIRS = replace(OURS, host="ats-1", process=7, configuration="ours")
NOBODY = Standby(None, None, OURS)
BEHIND = Standby(None, THEIRS, OURS)
APART = Standby(None, replace(THEIRS, configuration="theirs"), OURS)
BLOCKED = store_error("store-take-over", daemon=THEIRS.shown)


class StandingBy:
    def __init__(self) -> None:
        self._events: list[Event] = []
        self.process = a_process(a_config(), self._events.append)
        self._daemon = Daemon(self.process, lambda: self.process.config, lambda _: None)

    async def reported(self, standby: Standby) -> list[Event]:
        """What is new at a look."""
        self._events.clear()
        await self._daemon._stand_by(standby)
        return [event for event in self._events if not isinstance(event, DaemonStarted)]


async def test_who_leads_is_reported_when_it_changes() -> None:
    standing_by = StandingBy()

    assert await standing_by.reported(NOBODY) == [StandsBy("no daemon leads yet")]
    assert await standing_by.reported(NOBODY) == []
    assert await standing_by.reported(BEHIND) == [StandsBy(THEIRS.shown)]
    assert await standing_by.reported(replace(BEHIND, is_free=True)) == []


async def test_another_configuration_than_the_leaders_is_reported_until_they_agree() -> None:
    standing_by = StandingBy()

    assert await standing_by.reported(APART) == [StandsBy(THEIRS.shown), StandbyDiffers()]
    assert await standing_by.reported(APART) == []
    assert await standing_by.reported(BEHIND) == [StandbyAgrees()]


def test_without_a_leader_no_configuration_differs() -> None:
    assert not NOBODY.differs


async def test_a_take_over_that_is_not_possible_is_reported_until_it_is() -> None:
    standing_by, blocked = StandingBy(), replace(BEHIND, not_taken_over=BLOCKED)
    await standing_by.reported(BEHIND)

    assert await standing_by.reported(blocked) == [TakeOverBlocked(BLOCKED.message, "store-take-over")]
    assert await standing_by.reported(blocked) == []
    assert await standing_by.reported(BEHIND) == [TakeOverUnblocked()]


async def test_a_store_that_could_not_be_used_is_reported_when_it_can() -> None:
    standing_by = StandingBy()
    await standing_by.reported(BEHIND)
    standing_by.process.emit(StoreFailed("it is down", code="store-unusable"))

    assert await standing_by.reported(BEHIND) == [StoreRecovered()]
    assert await standing_by.reported(BEHIND) == []


def test_of_a_watch_that_tries_again_only_another_reason_is_news() -> None:
    emitted: list[Event] = []
    process = a_process(a_config(), emitted.append)
    lost, connected = WatchLost(WATCH, "no route", misconfigured=False), WatchConnected(WATCH, "poll", 180_000)
    for event in (lost, lost, connected, connected, lost):
        process.emit(event)

    assert emitted == [lost, connected, connected, lost], "each beginning is reported: a watch may not send after it"
