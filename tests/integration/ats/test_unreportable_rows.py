"""Rows of which nothing can be said, and labels that are not to be sent: the others go on."""

from collections.abc import Mapping
from typing import Any

import pytest
from support.applications import delete, fill, insert, update
from support.builders import WATCH
from support.rig import OpenRig, Rig
from support.sessions import Ats, run
from support.source import opened
from support.watched import a_config

from cdc_sync.ats import reading
from cdc_sync.ats.connection import Pool, Rows
from cdc_sync.ats.errors import SourceError
from cdc_sync.core.events import RowSkipped
from cdc_sync.core.rows import Row

LACKING = [
    ({"status": None}, "it has no status"),
    ({"job_id": None}, "it has no job id"),
    ({"created_at": "infinity"}, "its creation date is infinite, or its year is outside 1 to 9999"),
    ({"hellowork_id": ".."}, "cannot stand in a URL's path"),
]
WHOLE: dict[str, Any] = {"hellowork_id": "a1", "status": "applied", "job_id": "J1", "created_at": "2024-01-01"}


async def skipped(rig: Rig) -> dict[str, str]:
    """The reasons by key, as the store has them."""
    return {skip.key[0]: skip.reason or "" for _, skip in await rig.store.report.skipped([WATCH], 100)}


@pytest.mark.parametrize(("lack", "reason"), LACKING, ids=str)
async def test_a_row_that_lacks_something_is_skipped_and_said_once_until_it_is_repaired(
    ats: Ats, open_rig: OpenRig, lack: dict[str, Any], reason: str
) -> None:
    async with open_rig() as rig:
        columns = {**WHOLE, **lack}
        insert(ats, 1, columns.pop("hellowork_id"), columns.pop("status"), **columns)
        insert(ats, 2, "a2")

        assert await rig.calls() == [("a2", "applied", "J1")]
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
async def test_it_is_cleared_when_the_row_goes(ats: Ats, open_rig: OpenRig, *, fast: bool) -> None:
    insert(ats, 1, "a1", None)
    async with open_rig() as rig:
        if not fast:
            ats.execute("ALTER TABLE public.applications DISABLE TRIGGER ALL")
        delete(ats, 1)
        await (rig.drain.catch_up() if fast else rig.sweep())

        assert await skipped(rig) == {}
        assert await rig.deliver() == []


TOO_LONG = "the application's id has more than 300 characters"
TOO_DEEP = "cannot stand in a URL's path"


# Ids that no real application has. To examine one of 10,000 characters took 0.4 s, so 100 stopped all watches.


async def test_those_that_are_too_long_or_encoded_too_often_delay_no_other_row(ats: Ats, open_rig: OpenRig) -> None:
    def add(number: int, id_: str) -> None:
        url = f"https://ats-partner.hellowork.com/v1/applications/{id_.replace('%', '%25')}/status"
        insert(ats, number, None, status_api_url=url)

    mapped = {"application_id": None, "status_url": "status_api_url"}
    add(1, "%" + "25" * 4_900)
    async with open_rig(columns=mapped) as rig:
        add(2, "%" + "25" * 4_900 + "41")
        add(3, "%2525252541")
        add(4, "4" * 301)
        add(5, "a5")
        assert await rig.calls() == [("a5", "applied", "J1")]
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
            update(ats, *range(1, 21), status="hired")
            update(ats, 51, status="hired", status_api_url=blank)
            assert await rig.calls() == [("a51", "hired", "J1")]
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
            with ats.transaction():  # to another job, by DELETE and INSERT
                delete(ats, 1)
                insert(ats, 2, " ", status_api_url=url, job_id="J2")
            assert await rig.calls() == [("a1", "applied", "J2")]
            assert (await rig.sweep()).repaired == {}
            delete(ats, 2)
            await rig.drain.catch_up()
            assert await rig.later_calls() == [("a1", "deleted", "J2")]


@pytest.mark.parametrize("fast", [True, False])
async def test_of_applications_with_an_ignored_label_the_end_is_still_told(
    ats: Ats, open_rig: OpenRig, *, fast: bool
) -> None:
    insert(ats, 1, "a1", "new")
    insert(ats, 2, "a2", "internal")
    async with open_rig(status={"map": {"new": "sent"}, "unmapped": "ignore"}) as rig:
        update(ats, 1, status="internal")
        await rig.drain.catch_up()
        if not fast:
            ats.execute("ALTER TABLE public.applications DISABLE TRIGGER ALL")
        delete(ats, 1)
        delete(ats, 2)
        await (rig.drain.catch_up() if fast else rig.sweep())
        assert await rig.later_calls() == [("a1", "deleted", "J1")], "a2 was never sent"


async def test_a_sweep_learns_of_an_ignored_ones_new_row(ats: Ats, open_rig: OpenRig) -> None:
    insert(ats, 1, "a1", "new")
    async with open_rig(status={"map": {"new": "sent"}, "unmapped": "ignore"}) as rig:
        ats.execute("ALTER TABLE public.applications DISABLE TRIGGER ALL")
        delete(ats, 1)
        insert(ats, 2, "a1", "internal")
        assert (await rig.sweep()).repaired == {}
        ats.execute("ALTER TABLE public.applications ENABLE TRIGGER ALL")
        delete(ats, 2)
        await rig.drain.catch_up()
        assert await rig.later_calls() == [("a1", "deleted", "J1")]


# Rows on which an expression fails, in each way that leads into the store: the others go on.


FAILS = "it cannot be read: division by zero"
DIVISION = "(1 / (length(t.notes) - 3))::text"
TWO_ROWS = "(SELECT g::text FROM generate_series(1, 2) AS g)"


def failing(field: str, column: str, by: str = DIVISION) -> dict[str, Any]:
    """A watch that cannot read a field of rows whose notes are bad."""
    sql = f"CASE t.notes WHEN 'bad' THEN {by} ELSE t.{column} END"
    return {"columns": {field: {"sql": sql, "depends_on": ["notes", column]}}}


FRAGILE, FRAGILE_ID = failing("status", "status"), failing("application_id", "hellowork_id")
FRAGILE_JOB = failing("job_id", "job_id", TWO_ROWS)
FRAGILE_SCOPE: dict[str, Any] = {
    "where": {"sql": "t.notes IS DISTINCT FROM 'bad' OR 1 / (length(t.notes) - 3) > 0", "depends_on": ["notes"]}
}
FRAGILE_ONES = {"status": FRAGILE, "id": FRAGILE_ID, "job": FRAGILE_JOB, "scope": FRAGILE_SCOPE}


POLL = {"mode": "poll", "watermark": "updated_at"}
_2024 = 1_704_067_200_000


async def test_a_poll_passes_them_and_sends_them_once_they_are_corrected(ats: Ats, open_rig: OpenRig) -> None:
    fill(ats, 20)
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


@pytest.mark.parametrize("fragile", FRAGILE_ONES.values(), ids=FRAGILE_ONES)
async def test_a_sweep_neither_loses_nor_deletes_their_applications(
    ats: Ats, open_rig: OpenRig, fragile: dict[str, Any]
) -> None:
    ids = [f"a{number}" for number in range(1, 11)]
    for number, id_ in enumerate(ids, 1):
        insert(ats, number, id_)
    async with open_rig(**fragile) as rig:
        update(ats, 2, 9, notes="bad")
        update(ats, 5, status="hired")
        ats.execute("DELETE FROM cdc_sync.changes")
        for expected in ([("a5", "hired", "J1")], []):
            await rig.sweep()
            assert await rig.later_calls() == expected
            assert (await skipped(rig)).keys() == {"2", "9"}
            known = await rig.store.capture.known(WATCH, ids)
            assert {id_: of.in_scope for id_, of in known.items()} == dict.fromkeys(ids, True)
        # One is deleted for good, one is corrected.
        delete(ats, 2)
        update(ats, 9, notes=None)
        ats.execute("DELETE FROM cdc_sync.changes")
        await rig.sweep()
        assert await rig.later_calls() == [("a2", "deleted", "J1")]
        await rig.sweep()
        assert await skipped(rig) == {}


async def test_a_suspicion_is_not_believed_while_the_row_is_there_unread(ats: Ats, open_rig: OpenRig) -> None:
    fill(ats, 2)
    async with open_rig(**FRAGILE_ID) as rig:
        delete(ats, 1)
        await rig.drain.catch_up()
        insert(ats, 1, "a1", notes="bad")
        assert await rig.later_calls() == []
        assert (await rig.store.capture.known(WATCH, ["a1"]))["a1"].in_scope
        update(ats, 1, notes=None, status="hired")
        assert await rig.calls() == [("a1", "hired", "J1")]


async def test_an_older_row_hides_no_live_one(ats: Ats, open_rig: OpenRig) -> None:
    fill(ats, 5)
    async with open_rig(**FRAGILE) as rig:
        update(ats, 3, notes="bad", deleted_at="2024-01-02")
        insert(ats, 103, "a3", status="hired")
        await rig.drain.catch_up()
        assert await rig.later_calls() == [("a3", "hired", "J1")]


async def test_out_of_scope_they_are_no_error_and_no_deletion_follows(ats: Ats, open_rig: OpenRig) -> None:
    fill(ats, 5)
    async with open_rig(where={"sql": "t.job_id <> 'other'", "depends_on": ["job_id"]}, **FRAGILE) as rig:
        update(ats, 3, notes="bad", job_id="other")
        insert(ats, 200, "a200", notes="bad", job_id="other")
        await rig.drain.catch_up()
        await rig.sweep()
        assert await skipped(rig) == {}
        delete(ats, 3)
        await rig.drain.catch_up()
        assert await rig.later_calls() == []


async def test_a_row_whose_url_alone_fails_is_found_by_its_id(ats: Ats, open_rig: OpenRig) -> None:
    url = {"sql": "CASE t.notes WHEN 'bad' THEN (1 / (length(t.notes) - 3))::text END", "depends_on": ["notes"]}
    fill(ats, 5)
    async with open_rig(columns={"status_url": url}) as rig:
        with ats.transaction():
            delete(ats, 3)
            insert(ats, 103, "a3", notes="bad")
        await rig.drain.catch_up()
        assert await rig.later_calls() == []
        insert(ats, 7, " ", notes="bad")
        await rig.drain.catch_up()
        assert "7" in await skipped(rig), "it may be an application: nobody knows its id"


@pytest.mark.parametrize("end", ["deleted", "corrected"])
async def test_what_ends_one_while_a_sweep_catches_up_is_dated(ats: Ats, open_rig: OpenRig, end: str) -> None:
    failing = "CASE t.notes WHEN 'bad' THEN now() + make_interval(secs => 1 / (length(t.notes) - 3)) END"
    fill(ats, 5)
    async with open_rig(install=False, columns={"event_date": {"sql": failing, "depends_on": ["notes"]}}) as rig:
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


# Rows on which an expression fails: what is read of them and of the others.


def spoil(ats: Ats, condition: str) -> None:
    run(ats, "UPDATE public.applications SET notes = 'bad' WHERE {condition}", condition=condition)


class Statements:
    """Counts the statements that read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.number = 0
        read = Pool.read

        async def counted(*arguments: Any, **named: Any) -> Rows:
            self.number += 1
            return await read(*arguments, **named)

        monkeypatch.setattr(Pool, "read", counted)

    def since(self) -> int:
        """How many there were since the last call."""
        number, self.number = self.number, 0
        return number


def bad(rows: list[Row]) -> set[str]:
    return {row.key[0] for row in rows if row.unreadable}


async def test_a_page_that_cannot_be_read_is_read_row_by_row_once(
    database: str, ats: Ats, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(ats, 150)
    spoil(ats, "id IN (10, 50, 99)")
    async with opened(a_config(database, **FRAGILE)) as source:
        statements = Statements(monkeypatch)

        page = await source.reader.page(None, 150)

        assert len(page.rows) == 150
        assert bad(page.rows) == {"10", "50", "99"}
        # The page, its keys, their rows together, and each; the six pieces of each bad one, and a row that is read.
        assert statements.since() <= 3 + 150 + 3 * (6 + 2)
        again = await source.reader.page(None, 150)
        assert bad(again.rows) == {"10", "50", "99"}
        assert statements.since() <= 3 + 3 * (1 + 6), "it is known which rows to read alone"


async def test_too_many_unreadable_rows_stop_the_watch(
    database: str, ats: Ats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_MOST", 25)
    fill(ats, 60)
    spoil(ats, "id <= 25")
    async with opened(a_config(database, **FRAGILE)) as source:
        first = await source.reader.page(None, 24)
        with pytest.raises(SourceError) as raised:
            await source.reader.page(first.last, 24)
        assert raised.value.message.endswith(
            "25 rows cannot be read. Of the row 25: it cannot be read: division by zero."
        )


async def test_bytes_that_are_no_text_are_a_rows_own_where_the_database_knows_its_encoding(
    database: str, ats: Ats
) -> None:
    insert(ats, 1, "a1", notes="e9")
    insert(ats, 2, "a2", notes="41")
    columns = {"status": {"sql": "convert_from(decode(t.notes, 'hex'), 'UTF8')"}}
    async with opened(a_config(database, columns=columns)) as source:
        bad_row, row = sorted(await source.rows(), key=lambda row: row.key)

        assert row.status == "A"
        assert bad_row.unreadable == "it cannot be read: invalid byte sequence for encoding …: …"


CHECKED = """
CREATE OR REPLACE FUNCTION public.checked(note text) RETURNS text LANGUAGE plpgsql AS $$BEGIN
    IF note = 'bad' THEN RAISE 'no status for "%"', note USING ERRCODE = '{sqlstate}'; END IF;
    RETURN 'fine';
END$$
"""


async def test_an_error_of_a_functions_own_sqlstate_is_its_rows_own_and_one_of_the_servers_is_not(
    database: str, ats: Ats
) -> None:
    run(ats, CHECKED, sqlstate="HW001")
    insert(ats, 1, "a1", notes="bad")
    insert(ats, 2, "a2", notes="good")
    config = a_config(database, columns={"status": {"sql": "public.checked(t.notes)"}})
    async with opened(config) as source:
        bad_row, row = sorted(await source.rows(), key=lambda row: row.key)

        assert row.status == "fine"
        assert bad_row.unreadable == "it cannot be read: no status for …"
        run(ats, CHECKED, sqlstate="53200")
        with pytest.raises(SourceError, match="no status for"):
            await source.reader.by_key([("1",), ("2",)])

    run(ats, CHECKED, sqlstate="HW001")
    run(ats, "UPDATE public.applications SET notes = 'bad'")
    async with opened(config) as source:
        with pytest.raises(SourceError, match="No row that was tried can be read"):
            await source.reader.page(None, 10)


@pytest.mark.parametrize("composite", [False, True])
async def test_an_application_is_found_among_rows_whose_id_cannot_be_read(
    database: str, ats: Ats, monkeypatch: pytest.MonkeyPatch, *, composite: bool
) -> None:
    fill(ats, 2500)
    spoil(ats, "id IN (1, 1700)")
    key = ["id", "hellowork_id"] if composite else ["id"]
    async with opened(a_config(database, key=key, **FRAGILE_ID)) as source:
        for _ in range(2):
            read = await source.reader.by_application(["a2400", "a3"])
            assert {row.application_id for row in read.rows} == {"a2400", "a3"}
        statements = Statements(monkeypatch)
        await source.reader.by_application(["a2400"])
        assert statements.since() <= 30, "it is known which rows to leave out"
