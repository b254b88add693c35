"""Health and readiness: is the process alive, and do changes arrive."""

from pathlib import Path

from support import acting
from support.builders import NOW, SECOND, a_batch, an_observation, some_rules
from support.looking import TOKEN, Admin, admin_server

from cdc_sync.core.conditions import fold, starting
from cdc_sync.core.events import WatchStandsBy


async def test_a_daemon_that_waits_for_its_turn_is_ready_and_says_so(admin: Admin) -> None:
    admin.conditions = fold(starting(("applications",)), WatchStandsBy("applications", "process 7 captures"))
    for name, message in admin.conditions.items():
        await admin.store.operation.set_conditions({name: message}, NOW)

    answer, page = await admin.get("/readyz"), await admin.get("/")

    assert (answer.status, answer.text) == (200, "ready\nstandby applications: process 7 captures\n")
    assert "All is well." in page.text
    assert "A daemon stands by" in page.text
    assert "process 7 captures" in page.text

    # Of these the page tells: no change is late.
    admin.conditions = {**admin.conditions, "zone applications": "2 h off", "configuration": "another one"}
    assert (await admin.get("/readyz")).text == answer.text


async def test_a_reason_from_outside_is_one_line_and_steers_no_terminal(admin: Admin) -> None:
    admin.conditions = {"endpoint": "paused: \x1b]0;x\x07\nready\x9b2J\u202e"}

    answer = await admin.get("/readyz")

    assert answer.text == "endpoint: paused: \\x1b]0;x\\x07\\nready\\x9b2J\\u202e\n"


async def test_a_deletion_that_is_held_by_itself(admin: Admin) -> None:
    await admin.store.capture.apply(
        some_rules(), a_batch(an_observation("a1", deleted=True), origin="deletion", doubt="rows may be hidden")
    )

    answer = await admin.get("/readyz")

    assert answer.status == 503
    assert answer.text == "held applications: rows may be hidden; see `cdc-sync fuse show`\n"
    assert "rows may be hidden" in (await admin.get("/")).text

    await acting.release_held(admin.store, None, NOW + SECOND)
    assert (await admin.get("/readyz")).status == 200


async def test_a_store_that_cannot_be_read(admin: Admin) -> None:
    await admin.store.driver.close()
    admin.conditions = {"watch others": "no route to host"}
    unreadable = f"The store {admin.folder / 'state.db'} cannot be used: "

    for path in ("/metrics", "/api/status", "/"):
        answer = await admin.get(path)
        assert answer.status == 503
        assert answer.text.startswith(unreadable)
    page = await admin.get("/", headers={"Accept": "text/html", "Accept-Language": "fr"})
    assert page.status == 503
    assert f"Le stockage {admin.folder / 'state.db'} ne peut pas être utilisé" in page.text
    readiness = await admin.get("/readyz")
    assert readiness.status == 503
    # That is not all that is wrong.
    assert sorted(readiness.text.splitlines())[1] == "watch others: no route to host"
    assert (await admin.get("/healthz")).status == 200


SECRETIVE = {
    "watch secret-watch": "the database secret-host cannot be reached",
    "watch another-secret": "not connected yet",
    "endpoint https://secret-host:443": "paused: HTTP 401",
    "store": "secret-folder is full",
}


async def test_beyond_loopback_a_stranger_is_told_what_kinds_of_reasons_there_are(tmp_path: Path) -> None:
    async with admin_server(tmp_path, listen="0.0.0.0:0", token=TOKEN) as admin:
        admin.conditions = SECRETIVE
        await admin.store.capture.apply(some_rules("secret-too", max_changes=0), a_batch(an_observation("a1")))
        for authorization in (None, "Bearer wrong-secret-0123456789"):
            answer = await admin.get("/readyz", authorization=authorization)
            assert answer.status == 503
            assert answer.text.splitlines()[:-1] == ["fuse", "watch", "endpoint", "store"]
            assert "admin.token" in answer.text.splitlines()[-1]
            assert "secret" not in answer.text

        told = (await admin.get("/readyz", authorization=f"Bearer {TOKEN}")).text
        assert told == (await admin.get("/readyz", authorization=admin.browser().authorization)).text
        assert "watch secret-watch: the database secret-host cannot be reached\n" in told
        admin.conditions = {}
        await acting.release_held(admin.store, None, NOW + SECOND)
        assert (await admin.get("/readyz")).text == "ready\n"
