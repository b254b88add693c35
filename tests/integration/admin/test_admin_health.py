"""Health and readiness: is the process alive, and do changes arrive."""

from support.builders import NOW, SECOND, a_batch, a_sighting, some_rules
from support.looking import Admin

from cdc_sync.core.conditions import fold, starting
from cdc_sync.core.observations import (
    BaselineProgress,
    CaptureStarted,
    EndpointChanged,
    StoreFailed,
    TriggersMissing,
    WatchConnected,
    WatchLost,
    WatchStandsBy,
)


async def test_the_process_works(admin: Admin) -> None:
    admin.conditions = {"store": "the disk is full"}

    answer = await admin.get("/healthz")

    assert (answer.status, answer.text) == (200, "ok\n")


async def test_ready(admin: Admin) -> None:
    answer = await admin.get("/readyz")

    assert (answer.status, answer.text) == (200, "ready\n")


async def test_every_reason_has_a_line(admin: Admin) -> None:
    conditions = starting(("applications", "others", "third"))
    for observation in (
        WatchLost("applications", "no route to host", misconfigured=False),
        TriggersMissing("applications", "install them"),
        WatchConnected("others", "poll", 180_000),
        CaptureStarted("others"),
        BaselineProgress("third", 20_000, 90_000),
        EndpointChanged("https://ats-partner.hellowork.com:443", "paused", "HTTP 401", 60.0),
        StoreFailed("the disk is full"),
    ):
        conditions = fold(conditions, observation)
    admin.conditions = conditions

    answer = await admin.get("/readyz")

    assert answer.status == 503
    assert sorted(answer.text.splitlines()) == [
        "baseline third: the baseline is running: 20000 of about 90000 rows",
        "endpoint https://ats-partner.hellowork.com:443: paused: HTTP 401",
        "store: the disk is full",
        "triggers applications: install them",
        "watch applications: no route to host",
        "watch third: not connected yet",
    ]


async def test_a_daemon_that_waits_for_its_turn_is_ready_and_says_so(admin: Admin) -> None:
    admin.conditions = fold(starting(("applications",)), WatchStandsBy("applications", "process 7 captures"))
    for name, message in admin.conditions.items():
        await admin.store.set_condition(name, message, NOW)

    answer, page = await admin.get("/readyz"), await admin.get("/")

    assert (answer.status, answer.text) == (200, "ready\nstandby applications: process 7 captures\n")
    assert "All is well." in page.text
    assert "A daemon stands by" in page.text
    assert "process 7 captures" in page.text


async def test_a_fuse_that_is_blown(admin: Admin) -> None:
    rules = some_rules(max_changes=1)
    await admin.store.record(rules, a_batch(a_sighting("a1"), a_sighting("a2")))

    answer = await admin.get("/readyz")

    assert answer.status == 503
    assert answer.text == ("fuse applications: blown, more than 1 changes at once; `cdc-sync fuse show` tells more\n")

    await admin.store.release_held(None, NOW + SECOND, None, None)
    assert (await admin.get("/readyz")).status == 200


async def test_a_deletion_that_is_held_of_a_watch_that_is_configured_no_more(admin: Admin) -> None:
    doubted = a_batch(a_sighting("a1", deleted=True), doubt="rows may be hidden")
    await admin.store.record(some_rules("former"), a_batch(a_sighting("a2")))
    await admin.store.record(some_rules("former"), doubted)

    answer = await admin.get("/readyz")

    assert answer.text == "held former: rows may be hidden; `cdc-sync fuse show` tells more\n"


async def test_a_deletion_that_is_held_by_itself(admin: Admin) -> None:
    await admin.store.record(some_rules(), a_batch(a_sighting("a1", deleted=True), doubt="rows may be hidden"))

    answer = await admin.get("/readyz")

    assert answer.status == 503
    assert answer.text == "held applications: rows may be hidden; `cdc-sync fuse show` tells more\n"
    assert "rows may be hidden" in (await admin.get("/")).text

    await admin.store.release_held(None, NOW + SECOND, None, None)
    assert (await admin.get("/readyz")).status == 200


async def test_a_store_that_cannot_be_read(admin: Admin) -> None:
    await admin.store.close()
    admin.conditions = {"watch others": "no route to host"}
    unreadable = f"The store {admin.folder / 'state.db'} cannot be used: "

    for path in ("/metrics", "/api/status", "/"):
        answer = await admin.get(path)
        assert answer.status == 503
        assert answer.text.startswith(unreadable)
    readiness = await admin.get("/readyz")
    assert readiness.status == 503
    # That is not all that is wrong.
    assert readiness.text.startswith(f"watch others: no route to host\nstore: {unreadable}")
    assert (await admin.get("/healthz")).status == 200
