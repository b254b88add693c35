"""What is wrong, observation by observation: what starts a condition, what ends it, and what leaves it alone."""

from functools import reduce

import pytest
from support.builders import WATCH
from support.observing import EXAMPLES

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
from cdc_sync.core.events import (
    BaselineDone,
    BaselineProgress,
    CaptureInTime,
    CaptureLate,
    CaptureStarted,
    DeletionsDecided,
    DeletionsWait,
    DeliveryInTime,
    DeliveryLate,
    EndpointChanged,
    Event,
    LeadTaken,
    RowsHidden,
    RowsVisible,
    SendingPaused,
    SendingResumed,
    StandbyAgrees,
    StandbyDiffers,
    StandsBy,
    StoreFailed,
    StoreRecovered,
    TakeOverBlocked,
    TakeOverUnblocked,
    TenantsFound,
    TriggersFound,
    TriggersMissing,
    WatchConnected,
    WatchEnded,
    WatchLost,
    WatchStandsBy,
    ZoneDoubted,
    ZoneTrusted,
)

API = "https://ats-partner.hellowork.com:443"
CONNECTED = WatchConnected("applications", "notify", 180_000)
CAPTURING = CaptureStarted("applications")
READY_SOON = {"watch applications": "connected, and getting ready"}
LOST = WatchLost("applications", "no route to host", misconfigured=False)
MISSING = TriggersMissing("applications", "install them")
WAITING = DeletionsWait("applications", "the archive cannot be read")
HIDDEN = RowsHidden("applications", "create a policy")
DOUBTED = ZoneDoubted("applications", "they are 1 h early")
ENDED = WatchEnded("applications")
LATE = CaptureLate("applications", 120.0)
STANDBY = WatchStandsBy("applications", "another store's daemon captures it")
STANDING_BY = {"standby applications": "another store's daemon captures it"}
BEHIND = StandsBy("process 7 on ats-1 leads")
LEADS = LeadTaken("2026-01-01T00:00:00Z", ("applications",))
SILENT = TakeOverBlocked("its session cannot be ended", "store-take-over")
BASELINE_DONE = BaselineDone("applications", known=7, queued=0, seconds=1.5)
OPEN = EndpointChanged(API, "open", "503", 1.0)
HEALTHY = EndpointChanged(API, "healthy", None, 0.0)
UNWRITTEN = StoreFailed("disk full", "applications")
OF_THE_WATCH = (LOST, MISSING, HIDDEN, DOUBTED, LATE, BaselineProgress("applications", 7, 0), UNWRITTEN)
PAUSED = "paused by an operator: `cdc-sync resume` lets calls go out again"


@pytest.mark.parametrize(
    ("story", "conditions"),
    [
        ([], {}),
        ([LOST], {"watch applications": "no route to host"}),
        (
            [LOST, WatchLost("applications", "no such table", misconfigured=True)],
            {"watch applications": "no such table"},
        ),
        ([LOST, CONNECTED], READY_SOON),
        ([LOST, CONNECTED, CAPTURING], {}),
        ([LOST, CaptureStarted("others")], {"watch applications": "no route to host"}),
        ([MISSING, CAPTURING], {"triggers applications": "install them"}),
        ([MISSING, TriggersFound("applications")], {}),
        ([WAITING, CAPTURING], {"deletions applications": "the archive cannot be read"}),
        ([WAITING, DeletionsDecided("applications")], {}),
        ([HIDDEN, CAPTURING], {"row security applications": "create a policy"}),
        ([HIDDEN, RowsVisible("applications")], {}),
        ([DOUBTED, CAPTURING], {"zone applications": f"they are 1 h early. Remedy: {REMEDY}"}),
        ([DOUBTED, ZoneTrusted("applications")], {}),
        (
            [BaselineProgress("applications", 7, 0), BaselineProgress("applications", 9, 20)],
            {"baseline applications": "the baseline is running: 9 rows"},
        ),
        ([BaselineProgress("applications", 7, 0), BASELINE_DONE], {}),
        ([BaselineProgress("applications", 7, 0), LOST, CONNECTED, CAPTURING], {}),
        ([OPEN, EndpointChanged(API, "paused", "401", 1.0)], {f"endpoint {API}": "paused: 401"}),
        ([OPEN, HEALTHY], {}),
        ([SendingPaused(None), SendingPaused(API)], {"sending": PAUSED, f"sending {API}": PAUSED}),
        ([SendingPaused(None), SendingPaused(API), SendingResumed(None)], {f"sending {API}": PAUSED}),
        ([StoreFailed("disk full"), StoreRecovered()], {}),
        ([StoreFailed("disk full", "a"), StoreFailed("disk full"), StoreRecovered()], {"store a": "disk full"}),
        ([StoreFailed("disk full", "a"), StoreRecovered("a")], {}),
        ([LOST, OPEN, CAPTURING], {f"endpoint {API}": "open: 503"}),
        ([*OF_THE_WATCH, OPEN, ENDED], {f"endpoint {API}": "open: 503"}),
        ([OPEN, TenantsFound(("new",))], {f"endpoint {API}": "open: 503", "watch new": "not connected yet"}),
        ([CONNECTED, MISSING, HIDDEN, LATE, STANDBY], STANDING_BY),
        ([OPEN, STANDBY, STANDBY], {f"endpoint {API}": "open: 503", **STANDING_BY}),
        ([STANDBY, LOST], {"watch applications": "no route to host"}),
        ([STANDBY, ENDED], {}),
        ([LATE], {"lag applications": "changes were last read completely more than 120 s ago"}),
        ([LATE, CaptureInTime("applications")], {}),
        ([BEHIND, StandsBy("process 8 on ats-2 leads")], {"standby": "process 8 on ats-2 leads"}),
        ([BEHIND, LEADS], {}),
        ([StandbyDiffers()], {"configuration": "this daemon's configuration is another one than the leader's"}),
        ([StandbyDiffers(), StandbyAgrees()], {}),
        ([SILENT], {"take-over": "its session cannot be ended"}),
        ([SILENT, TakeOverUnblocked()], {}),
        ([DeliveryLate(API, 60.0)], {f"lag {API}": "a call has been due for more than 60 s"}),
        ([DeliveryLate(API, 60.0), DeliveryInTime(API)], {}),
        ([LOST, WatchEnded("others")], {"watch applications": "no route to host"}),
    ],
)
def test_conditions(story: list[Event], conditions: Conditions) -> None:
    nothing: Conditions = {}

    assert reduce(fold, story, nothing) == conditions


def test_a_daemon_that_starts_is_connected_to_nothing() -> None:
    assert starting(("a", "b")) == {"watch a": "not connected yet", "watch b": "not connected yet"}
    assert fold(starting(("applications",)), CONNECTED) == READY_SOON
    assert fold(fold(starting(("applications",)), CONNECTED), CAPTURING) == {}


def test_what_a_person_caused_or_decides_is_no_fault() -> None:
    conditions = reduce(fold, (OPEN, DOUBTED, SendingPaused(API), SendingPaused(None)), NONE)

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
    conditions = reduce(fold, (BEHIND, StandbyDiffers()), NONE)

    assert is_standby("standby")
    assert wrong(conditions) == {}
    assert wrong(fold(conditions, SILENT)) == {"take-over": "its session cannot be ended"}
    assert is_for_a_person("configuration")
