"""Rows of which nothing can be said, and labels that are not to be sent: the others go on."""

from collections.abc import Mapping
from typing import Any

import pytest
from support.applications import delete, insert, update
from support.builders import WATCH
from support.rig import OpenRig, Rig
from support.sessions import Ats

from cdc_sync.core.events import RowSkipped

LACKING = [
    ({"status": None}, "it has no status"),
    ({"status": "  "}, "it has no status"),
    ({"job_id": None}, "it has no job id"),
    ({"job_id": ""}, "it has no job id"),
    ({"created_at": None}, "it has no creation date"),
    ({"created_at": "infinity"}, "its creation date is infinite, or its year is outside 1 to 9999"),
    ({"hellowork_id": ".."}, "cannot stand in a URL's path"),
]
WHOLE: dict[str, Any] = {"hellowork_id": "a1", "status": "applied", "job_id": "J1", "created_at": "2024-01-01"}


async def skipped(rig: Rig) -> dict[str, str]:
    """The reasons by key, as the store has them."""
    return {skip.key[0]: skip.reason or "" for skip in await rig.store.report.skipped(WATCH, 100)}


class TestRecord:
    @pytest.mark.parametrize(("lack", "reason"), LACKING, ids=str)
    async def test_a_row_that_lacks_something_is_skipped_and_said_once_until_it_is_repaired(
        self, ats: Ats, open_rig: OpenRig, lack: dict[str, Any], reason: str
    ) -> None:
        async with open_rig() as rig:
            await rig.adopt()
            columns = {**WHOLE, **lack}
            insert(ats, 1, columns.pop("hellowork_id"), columns.pop("status"), **columns)
            insert(ats, 2, "a2")

            await rig.drain.catch_up()

            assert await rig.deliver() == [("a2", "applied", "J1")]
            (said,) = rig.heard(RowSkipped)
            assert reason in said.reason
            assert await skipped(rig) == {"1": said.reason}
            update(ats, 1, deleted_at=None, notes="touched")
            await rig.intake.keys({("1",): 0}, "notify")
            for _ in range(2):
                assert (await rig.sweep()).repaired == {}
            assert len(rig.heard(RowSkipped)) == 1

            update(ats, 1, **WHOLE, notes="repaired")
            await rig.intake.keys({("1",): 0}, "notify")
            assert await skipped(rig) == {}
            assert await rig.deliver() == [("a1", "applied", "J1")]

    @pytest.mark.parametrize("fast", [True, False])
    async def test_it_is_cleared_when_the_row_goes(self, ats: Ats, open_rig: OpenRig, *, fast: bool) -> None:
        insert(ats, 1, "a1", None)
        async with open_rig() as rig:
            await rig.adopt()
            if not fast:
                ats.execute("ALTER TABLE public.applications DISABLE TRIGGER ALL")
            delete(ats, 1)
            await (rig.drain.catch_up() if fast else rig.sweep())

            assert await skipped(rig) == {}
            assert await rig.deliver() == []


TOO_LONG = "the application's id has more than 300 characters"
TOO_DEEP = "cannot stand in a URL's path"


class TestIds:
    """Ids that no real application has. To examine one of 10,000 characters took 0.4 s, so 100 stopped all watches."""

    async def test_those_that_are_too_long_or_encoded_too_often_delay_no_other_row(
        self, ats: Ats, open_rig: OpenRig
    ) -> None:
        def add(number: int, id_: str) -> None:
            url = f"https://ats-partner.hellowork.com/v1/applications/{id_.replace('%', '%25')}/status"
            insert(ats, number, None, status_api_url=url)

        mapped = {"application_id": None, "status_url": "status_api_url"}
        add(1, "%" + "25" * 4_900)
        async with open_rig(columns=mapped) as rig:
            await rig.adopt()
            add(2, "%" + "25" * 4_900 + "41")
            add(3, "%2525252541")
            add(4, "4" * 301)
            add(5, "a5")
            await rig.drain.catch_up()

            assert await rig.deliver() == [("a5", "applied", "J1")]
            reasons = await skipped(rig)
            assert [reasons[key][: len(TOO_LONG)] for key in ("1", "2", "4")] == [TOO_LONG] * 3
            assert TOO_DEEP in reasons["3"]
            for _ in range(2):
                assert (await rig.sweep()).repaired == {}
            assert len(rig.heard(RowSkipped)) == 4


class TestBlank:
    """An ATS that writes '' where it has no value, as many do: most of its applications are not HelloWork's."""

    BOTH: Mapping[str, Any] = {"application_id": "hellowork_id", "status_url": "status_api_url"}

    async def test_rows_without_an_id_cost_no_words(self, ats: Ats, open_rig: OpenRig) -> None:
        blank = " \t\n"
        for number in range(1, 51):
            insert(ats, number, blank, status_api_url=blank)
        insert(ats, 51, "a51")
        async with open_rig(columns=self.BOTH) as rig:
            await rig.adopt()
            update(ats, *range(1, 21), status="hired")
            update(ats, 51, status="hired", status_api_url=blank)
            await rig.drain.catch_up()

            assert await rig.deliver() == [("a51", "hired", "J1")]
            assert (await rig.sweep()).repaired == {}
            assert await skipped(rig) == {}
            assert rig.heard(RowSkipped) == []
            page = await rig.intake.reader.digests(None, 100, "any")
            assert page is not None
            assert page.text.count('"n"') == 50, "none of them is read by a sweep"

    async def test_the_id_in_the_url_counts_then(self, ats: Ats, open_rig: OpenRig) -> None:
        url = "https://ats-partner.hellowork.com/v1/applications/a1/status"
        insert(ats, 1, "", status_api_url=url)
        async with open_rig(columns=self.BOTH) as rig:
            await rig.adopt()
            with ats.transaction():  # to another job, by DELETE and INSERT
                delete(ats, 1)
                insert(ats, 2, " ", status_api_url=url, job_id="J2")
            await rig.drain.catch_up()
            assert await rig.deliver() == [("a1", "applied", "J2")]
            assert (await rig.sweep()).repaired == {}
            delete(ats, 2)
            await rig.drain.catch_up()
            await rig.pass_grace()
            assert await rig.deliver() == [("a1", "deleted", "J2")]


class TestLabels:
    @pytest.mark.parametrize("fast", [True, False])
    async def test_of_ignored_ones_the_end_is_still_told(self, ats: Ats, open_rig: OpenRig, *, fast: bool) -> None:
        insert(ats, 1, "a1", "new")
        insert(ats, 2, "a2", "internal")
        async with open_rig(status={"map": {"new": "sent"}, "unmapped": "ignore"}) as rig:
            await rig.adopt()
            update(ats, 1, status="internal")
            await rig.drain.catch_up()
            if not fast:
                ats.execute("ALTER TABLE public.applications DISABLE TRIGGER ALL")
            delete(ats, 1)
            delete(ats, 2)
            await (rig.drain.catch_up() if fast else rig.sweep())
            await rig.pass_grace()

            assert await rig.deliver() == [("a1", "deleted", "J1")], "of a2 HelloWork was never told"

    async def test_a_sweep_learns_of_an_ignored_ones_new_row(self, ats: Ats, open_rig: OpenRig) -> None:
        insert(ats, 1, "a1", "new")
        async with open_rig(status={"map": {"new": "sent"}, "unmapped": "ignore"}) as rig:
            await rig.adopt()
            ats.execute("ALTER TABLE public.applications DISABLE TRIGGER ALL")
            delete(ats, 1)
            insert(ats, 2, "a1", "internal")
            assert (await rig.sweep()).repaired == {}
            ats.execute("ALTER TABLE public.applications ENABLE TRIGGER ALL")
            delete(ats, 2)
            await rig.drain.catch_up()
            await rig.pass_grace()

            assert await rig.deliver() == [("a1", "deleted", "J1")]


# Rows on which an expression fails, in each way that leads into the store: the others go on.


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


POLL = {"mode": "poll", "watermark": "updated_at"}


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
