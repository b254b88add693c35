"""Rows on which an expression fails, in each way that leads into the store: the others go on."""

from typing import Any

import pytest
from support.applications import delete, insert, update
from support.builders import WATCH
from support.rig import OpenRig, Rig
from support.sessions import Ats

from cdc_sync.core.events import RowSkipped

FAILS = "it cannot be read: division by zero"
FRAGILE: dict[str, Any] = {
    "columns": {
        "status": {
            "sql": "CASE t.notes WHEN 'bad' THEN (1 / (length(t.notes) - 3))::text ELSE t.status END",
            "depends_on": ["notes", "status"],
        }
    }
}
FRAGILE_ID: dict[str, Any] = {
    "columns": {
        "application_id": {
            "sql": "CASE t.notes WHEN 'bad' THEN (1 / (length(t.notes) - 3))::text ELSE t.hellowork_id END",
            "depends_on": ["notes", "hellowork_id"],
        }
    }
}
_2024 = 1_704_067_200_000
POLL = {"mode": "poll", "watermark": "updated_at"}


async def skipped(rig: Rig) -> dict[str, str | None]:
    """The reasons by key, as the store has them."""
    return {skip.key[0]: skip.reason for skip in await rig.store.report.skipped(WATCH, 100)}


async def test_a_poll_passes_them_and_sends_them_once_they_are_corrected(ats: Ats, open_rig: OpenRig) -> None:
    for number in range(1, 21):
        insert(ats, number, f"a{number}")
    async with open_rig(install=False, capture=POLL, **FRAGILE) as rig:
        poll = await rig.poll()
        update(ats, 3, 11, 17, notes="bad", status="lost")
        update(ats, 4, 20, status="hired")
        for _ in range(3):
            await poll.catch_up()
        assert await rig.deliver() == [("a20", "hired", "J1"), ("a4", "hired", "J1")]
        assert await skipped(rig) == {"3": FAILS, "11": FAILS, "17": FAILS}
        assert len(rig.heard(RowSkipped)) == 3, "each is said once"

        update(ats, 11, notes=None, status="found")
        await poll.catch_up()
        assert await rig.deliver() == [("a11", "found", "J1")]
        assert (await skipped(rig)).keys() == {"3", "17"}


@pytest.mark.parametrize("fragile", [FRAGILE, FRAGILE_ID], ids=["status", "id"])
async def test_a_sweep_neither_loses_nor_deletes_their_applications(
    ats: Ats, open_rig: OpenRig, fragile: dict[str, Any]
) -> None:
    ids = [f"a{number}" for number in range(1, 11)]
    for number, id_ in enumerate(ids, 1):
        insert(ats, number, id_)
    async with open_rig(**fragile) as rig:
        await rig.adopt()
        update(ats, 2, 9, notes="bad")
        update(ats, 5, status="hired")
        ats.execute("DELETE FROM cdc_sync.changes")
        for expected in ([("a5", "hired", "J1")], []):
            await rig.sweep()
            await rig.pass_grace()
            assert await rig.deliver() == expected
            assert (await skipped(rig)).keys() == {"2", "9"}
            known = await rig.store.capture.known(WATCH, ids)
            assert {id_: of.in_scope for id_, of in known.items()} == dict.fromkeys(ids, True)
        # One is deleted for good, one is corrected.
        delete(ats, 2)
        update(ats, 9, notes=None)
        ats.execute("DELETE FROM cdc_sync.changes")
        await rig.sweep()
        await rig.pass_grace()
        assert await rig.deliver() == [("a2", "deleted", "J1")]
        await rig.sweep()
        assert await skipped(rig) == {}


async def test_a_suspicion_is_not_believed_while_the_row_is_there_unread(ats: Ats, open_rig: OpenRig) -> None:
    insert(ats, 1, "a1")
    insert(ats, 2, "a2")
    async with open_rig(**FRAGILE_ID) as rig:
        await rig.adopt()
        delete(ats, 1)
        await rig.drain.catch_up()
        insert(ats, 1, "a1", notes="bad")
        await rig.pass_grace()
        assert await rig.deliver() == []
        assert (await rig.store.capture.known(WATCH, ["a1"]))["a1"].in_scope
        update(ats, 1, notes=None, status="hired")
        await rig.drain.catch_up()
        assert await rig.deliver() == [("a1", "hired", "J1")]


async def test_an_older_row_hides_no_live_one(ats: Ats, open_rig: OpenRig) -> None:
    for number in range(1, 6):
        insert(ats, number, f"a{number}")
    async with open_rig(**FRAGILE) as rig:
        await rig.adopt()
        update(ats, 3, notes="bad", deleted_at="2024-01-02")
        insert(ats, 103, "a3", status="hired")
        await rig.drain.catch_up()
        await rig.pass_grace()
        assert await rig.deliver() == [("a3", "hired", "J1")]


async def test_out_of_scope_they_are_no_error_and_no_deletion_follows(ats: Ats, open_rig: OpenRig) -> None:
    for number in range(1, 6):
        insert(ats, number, f"a{number}")
    async with open_rig(where={"sql": "t.job_id <> 'other'", "depends_on": ["job_id"]}, **FRAGILE) as rig:
        await rig.adopt()
        update(ats, 3, notes="bad", job_id="other")
        insert(ats, 200, "a200", notes="bad", job_id="other")
        await rig.drain.catch_up()
        await rig.sweep()
        assert await skipped(rig) == {}
        delete(ats, 3)
        await rig.drain.catch_up()
        await rig.pass_grace()
        assert await rig.deliver() == []


async def test_a_row_whose_url_alone_fails_is_found_by_its_id(ats: Ats, open_rig: OpenRig) -> None:
    url = {"sql": "CASE t.notes WHEN 'bad' THEN (1 / (length(t.notes) - 3))::text END", "depends_on": ["notes"]}
    for number in range(1, 6):
        insert(ats, number, f"a{number}")
    async with open_rig(columns={"status_url": url}) as rig:
        await rig.adopt()
        with ats.transaction():
            delete(ats, 3)
            insert(ats, 103, "a3", notes="bad")
        await rig.drain.catch_up()
        await rig.pass_grace()
        assert await rig.deliver() == []
        insert(ats, 7, " ", notes="bad")
        await rig.drain.catch_up()
        assert "7" in await skipped(rig), "it may be an application: nobody knows its id"


@pytest.mark.parametrize("end", ["deleted", "corrected"])
async def test_what_ends_one_while_a_sweep_catches_up_is_dated(ats: Ats, open_rig: OpenRig, end: str) -> None:
    date = {
        "sql": "CASE t.notes WHEN 'bad' THEN now() + make_interval(secs => 1 / (length(t.notes) - 3)) END",
        "depends_on": ["notes"],
    }
    for number in range(1, 6):
        insert(ats, number, f"a{number}")
    async with open_rig(install=False, columns={"event_date": date}) as rig:
        await rig.adopt()
        await rig.sweep()
        update(ats, 3, notes="bad", status="hired")

        class Meanwhile:
            async def catch_up(self) -> None:
                if end == "deleted":
                    delete(ats, 3)
                else:
                    update(ats, 3, notes=None)

        for _ in range(2):
            await rig.sweep(Meanwhile())
        await rig.pass_grace()
        (entry,) = await rig.entries()
        assert entry.content.event_date > _2024
