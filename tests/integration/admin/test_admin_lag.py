"""Lag: how it is measured, and when it is an alarm."""

from dataclasses import dataclass

import pytest
from support.builders import ENDPOINT, MINUTE, NOW, SECOND, a_batch, an_observation, some_rules
from support.leading import a_process
from support.looking import Admin
from support.store_steps import acknowledge, begin_calls

from cdc_sync.admin.metrics import EventMetrics
from cdc_sync.core import events
from cdc_sync.core.replies import Health
from cdc_sync.daemon.chores import report_late

WATCH = "applications"
LATE = 60.0 + 2 * 2.0
"""A minute, and two of the default `poll_interval`, which is the longer one."""


@dataclass
class Time:
    """A clock that stands still until it is told otherwise."""

    seconds: float = 1000.0

    def __call__(self) -> float:
        return self.seconds


class Watched:
    """What raises the alarm, and what it said."""

    def __init__(self, admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lags: dict[str, float] = {}
        self.now = NOW
        self.config = admin.config
        self._said: list[events.Event] = []
        self._process, self._store = a_process(admin.config, self._said.append), admin.store
        monkeypatch.setattr(self._process.metrics, "lags", lambda: self.lags)
        monkeypatch.setattr(type(admin.store.driver.clock), "__call__", lambda _: self.now)

    async def look(self) -> list[events.Event]:
        """What one more look has said."""
        self._said.clear()
        await report_late(self._process, self._store, self.config)
        return list(self._said)


@pytest.fixture
def watched(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(admin, monkeypatch)


def test_lag_is_since_the_beginning_of_the_last_complete_look() -> None:
    time = Time()
    metrics = EventMetrics(time)
    emit = events.Dispatch(metrics.handlers).emit
    emit(events.LeadTaken("2026-01-01T00:00:00Z", ("w", "v")))
    time.seconds += 10
    assert metrics.lags() == {"w": 10, "v": 10}, "nobody knows what was committed before the start"

    emit(events.CaughtUp("w", 2.0))
    assert metrics.lags() == {"w": 2, "v": 10}
    time.seconds += 5
    emit(events.SweepDone("w", 1000, 30.0, {}))
    assert metrics.lags()["w"] == 7, "a sweep that began before the last look says nothing new"
    emit(events.SweepDone("w", 1000, 3.0, {}))
    assert metrics.lags()["w"] == 3


async def test_capture_that_is_late_is_said_when_it_begins_and_when_it_ends(watched: Watched) -> None:
    assert await watched.look() == []

    watched.lags = {WATCH: LATE}
    assert await watched.look() == []
    watched.lags = {WATCH: LATE + 1}
    assert await watched.look() == [events.CaptureLate(WATCH, LATE)]
    watched.lags = {WATCH: LATE + 6}
    assert await watched.look() == []
    watched.lags = {WATCH: 0.1}
    assert await watched.look() == [events.CaptureInTime(WATCH)]


async def test_calls_that_are_late_are_said_when_that_begins_and_when_it_ends(admin: Admin, watched: Watched) -> None:
    await admin.store.capture.apply(some_rules(default_settle=MINUTE), a_batch(an_observation("a1", "seen")))

    watched.now = NOW + 2 * MINUTE
    assert await watched.look() == [], "it has been due for a minute only"
    watched.now = NOW + 2 * MINUTE + SECOND
    assert await watched.look() == [events.DeliveryLate(ENDPOINT, 60.0)]
    await acknowledge(admin.store, *await begin_calls(admin.store, watched.now))
    assert await watched.look() == [events.DeliveryInTime(ENDPOINT)]


async def test_an_endpoint_that_is_paused_is_not_late_as_well(admin: Admin, watched: Watched) -> None:
    await admin.store.capture.apply(some_rules(), a_batch(an_observation("a1", "seen")))
    await admin.store.delivery.complete([], {ENDPOINT: Health("paused", 1, NOW + MINUTE, "HTTP 401")})

    watched.now = NOW + 10 * MINUTE
    assert await watched.look() == []
