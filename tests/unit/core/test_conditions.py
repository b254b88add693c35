"""What is wrong, observation by observation: what starts a condition, what ends it, and what leaves it alone."""

from functools import reduce

import pytest
from support.builders import WATCH
from support.observing import EXAMPLES

from cdc_sync.core import events
from cdc_sync.core.conditions import (
    KINDS,
    NONE,
    REMEDY,
    Conditions,
    fold,
    is_for_a_person,
    is_of_one_account,
    is_standby,
    kind_of,
    starting,
    wrong,
)

API = "https://ats-partner.hellowork.com:443"
CONNECTED = events.WatchConnected("applications", "notify", 180_000)
CAPTURING = events.CaptureStarted("applications")
READY_SOON = {"watch applications": "connected, and getting ready"}
LOST = events.WatchLost("applications", "no route to host", misconfigured=False)
MISSING = events.TriggersMissing("applications", "install them")
WAITING = events.DeletionsWait("applications", "the archive cannot be read")
HIDDEN = events.RowsHidden("applications", "create a policy")
DOUBTED = events.ZoneDoubted("applications", "they are 1 h early")
ENDED = events.WatchEnded("applications")
LATE = events.CaptureLate("applications", 120.0)
STANDBY = events.WatchStandsBy("applications", "another store's daemon captures it")
STANDING_BY = {"standby applications": "another store's daemon captures it"}
BEHIND = events.StandsBy("process 7 on ats-1 leads")
LEADS = events.LeadTaken("2026-01-01T00:00:00Z", ("applications",))
SILENT = events.TakeOverBlocked("its session cannot be ended", "store-take-over")
BASELINE_DONE = events.BaselineDone("applications", known=7, queued=0, seconds=1.5)
OPEN = events.EndpointChanged(API, "open", "503", 1.0)
HEALTHY = events.EndpointChanged(API, "healthy", None, 0.0)
UNWRITTEN = events.StoreFailed("disk full", "applications")
OF_THE_WATCH = (LOST, MISSING, HIDDEN, DOUBTED, LATE, events.BaselineProgress("applications", 7, 0), UNWRITTEN)
PAUSED = "paused by an operator: `cdc-sync resume` lets calls go out again"


@pytest.mark.parametrize(
    ("story", "conditions"),
    [
        ([], {}),
        ([LOST], {"watch applications": "no route to host"}),
        (
            [LOST, events.WatchLost("applications", "no such table", misconfigured=True)],
            {"watch applications": "no such table"},
        ),
        ([LOST, CONNECTED], READY_SOON),
        ([LOST, CONNECTED, CAPTURING], {}),
        ([LOST, events.CaptureStarted("others")], {"watch applications": "no route to host"}),
        ([MISSING, CAPTURING], {"triggers applications": "install them"}),
        ([MISSING, events.TriggersFound("applications")], {}),
        ([WAITING, CAPTURING], {"deletions applications": "the archive cannot be read"}),
        ([WAITING, events.DeletionsDecided("applications")], {}),
        ([HIDDEN, CAPTURING], {"row security applications": "create a policy"}),
        ([HIDDEN, events.RowsVisible("applications")], {}),
        ([DOUBTED, CAPTURING], {"zone applications": f"they are 1 h early. Remedy: {REMEDY}"}),
        ([DOUBTED, events.ZoneTrusted("applications")], {}),
        (
            [events.BaselineProgress("applications", 7, 0), events.BaselineProgress("applications", 9, 20)],
            {"baseline applications": "the baseline is running: 9 rows"},
        ),
        ([events.BaselineProgress("applications", 7, 0), BASELINE_DONE], {}),
        ([events.BaselineProgress("applications", 7, 0), LOST, CONNECTED, CAPTURING], {}),
        ([OPEN, events.EndpointChanged(API, "paused", "401", 1.0)], {f"endpoint {API}": "paused: 401"}),
        ([OPEN, HEALTHY], {}),
        ([events.SendingPaused(None), events.SendingPaused(API)], {"sending": PAUSED, f"sending {API}": PAUSED}),
        (
            [events.SendingPaused(None), events.SendingPaused(API), events.SendingResumed(None)],
            {f"sending {API}": PAUSED},
        ),
        ([events.StoreFailed("disk full"), events.StoreRecovered()], {}),
        (
            [events.StoreFailed("disk full", "a"), events.StoreFailed("disk full"), events.StoreRecovered()],
            {"store a": "disk full"},
        ),
        ([events.StoreFailed("disk full", "a"), events.StoreRecovered("a")], {}),
        ([LOST, OPEN, CAPTURING], {f"endpoint {API}": "open: 503"}),
        ([*OF_THE_WATCH, OPEN, ENDED], {f"endpoint {API}": "open: 503"}),
        ([OPEN, events.TenantsFound(("new",))], {f"endpoint {API}": "open: 503", "watch new": "not connected yet"}),
        ([CONNECTED, MISSING, HIDDEN, LATE, STANDBY], STANDING_BY),
        ([OPEN, STANDBY, STANDBY], {f"endpoint {API}": "open: 503", **STANDING_BY}),
        ([STANDBY, LOST], {"watch applications": "no route to host"}),
        ([STANDBY, ENDED], {}),
        ([LATE], {"lag applications": "changes were last read completely more than 120 s ago"}),
        ([LATE, events.CaptureInTime("applications")], {}),
        ([BEHIND, events.StandsBy("process 8 on ats-2 leads")], {"standby": "process 8 on ats-2 leads"}),
        ([BEHIND, LEADS], {}),
        ([events.StandbyDiffers()], {"configuration": "this daemon's configuration is another one than the leader's"}),
        ([events.StandbyDiffers(), events.StandbyAgrees()], {}),
        ([SILENT], {"take-over": "its session cannot be ended"}),
        ([SILENT, events.TakeOverUnblocked()], {}),
        ([events.DeliveryLate(API, 60.0)], {f"lag {API}": "a call has been due for more than 60 s"}),
        ([events.DeliveryLate(API, 60.0), events.DeliveryInTime(API)], {}),
        ([LOST, events.WatchEnded("others")], {"watch applications": "no route to host"}),
    ],
)
def test_conditions(story: list[events.Event], conditions: Conditions) -> None:
    nothing: Conditions = {}

    assert reduce(fold, story, nothing) == conditions


def test_a_daemon_that_starts_is_connected_to_nothing() -> None:
    assert starting(("a", "b")) == {"watch a": "not connected yet", "watch b": "not connected yet"}
    assert fold(starting(("applications",)), CONNECTED) == READY_SOON
    assert fold(fold(starting(("applications",)), CONNECTED), CAPTURING) == {}


def test_what_a_person_caused_or_decides_is_no_fault() -> None:
    conditions = reduce(fold, (OPEN, DOUBTED, events.SendingPaused(API), events.SendingPaused(None)), NONE)

    faults = [name for name in conditions if not is_for_a_person(name)]
    assert faults == [f"endpoint {API}"]


def test_one_refused_account_of_several_leaves_the_daemon_ready() -> None:
    names = [f"endpoint {API}", f"endpoint {API} [acme]", "endpoint", "watch w [x]"]
    assert [is_of_one_account(name) for name in names] == [False, True, False, False]


def test_a_kind_has_no_name_of_a_watch_or_a_host() -> None:
    conditions = NONE
    for observation in EXAMPLES:
        before = conditions
        conditions = fold(conditions, observation)
        for name in conditions.keys() - before.keys():
            assert kind_of(name) in KINDS
            assert WATCH not in kind_of(name)
            assert "://" not in kind_of(name)
    assert kind_of("store applications") == "store"
    assert kind_of("row security applications") == "row security"
    assert kind_of("storehouse secret") == "other"


def test_a_daemon_that_stands_by_is_nothing_wrong_unless_it_cannot_take_over() -> None:
    conditions = reduce(fold, (BEHIND, events.StandbyDiffers()), NONE)

    assert is_standby("standby")
    assert wrong(conditions) == {}
    assert wrong(fold(conditions, SILENT)) == {"take-over": "its session cannot be ended"}
    assert is_for_a_person("configuration")
