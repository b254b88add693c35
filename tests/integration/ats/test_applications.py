"""An application is its id, not its row: rows come, go, double and change their ids."""

import asyncio
from typing import Any

import pytest
from support.applications import delete, fill, insert, update
from support.builders import HOUR, WATCH
from support.eventually import eventually
from support.rig import OpenRig, Rig
from support.sessions import Ats, one, rows, run

from cdc_sync.ats.beginning import STATUS_RULES, measure_edit, rules_text
from cdc_sync.ats.intake import Steps
from cdc_sync.core.events import Decided, StatusRulesChanged
from cdc_sync.core.rows import StatusRules
from cdc_sync.event_loop import end


async def settled(rig: Rig) -> None:
    """Whatever is repeated now changes nothing, is said to nobody and is no repair."""
    said = len(rig.heard(Decided))
    for _ in range(3):
        assert (await rig.sweep()).repaired == {}
        await rig.pass_grace()
    assert await rig.deliver() == []
    assert len(rig.heard(Decided)) == said


async def test_two_applications_may_swap_their_rows(ats: Ats, open_rig: OpenRig) -> None:
    insert(ats, 1, "a1", job_id="J1")
    insert(ats, 2, "a2", job_id="J2")
    async with open_rig() as rig:
        ats.execute("UPDATE public.applications SET hellowork_id = CASE id WHEN 1 THEN 'a2' ELSE 'a1' END")
        assert await rig.calls() == [("a1", "applied", "J2"), ("a2", "applied", "J1")]
        await settled(rig)


# Several rows with one id: one of them speaks, and always the same one.


async def test_of_live_rows_the_one_created_last_speaks(ats: Ats, open_rig: OpenRig) -> None:
    insert(ats, 1, "a1", job_id="newer", created_at="2024-02-01")
    insert(ats, 2, "a1", job_id="older", created_at="2024-01-01")
    async with open_rig() as rig:
        assert await rig.told("a1") == {"a1": ("applied", "newer")}
        await settled(rig)

        update(ats, 2, status="edited")
        assert await rig.calls() == []
        delete(ats, 1)
        assert await rig.calls() == [("a1", "edited", "older")]
        await settled(rig)


async def test_equal_rows_of_one_application_do_not_flicker(ats: Ats, open_rig: OpenRig) -> None:
    for number in (1, 2):
        insert(ats, number, "a1", job_id=f"J{number}", created_at="2024-01-01")
    async with open_rig() as rig:
        assert await rig.told("a1") == {"a1": ("applied", "J2")}
        for number in (1, 2):
            ats.execute("UPDATE public.applications SET deleted_at = NULL, notes = 'x' WHERE id = %s", [number])
            await rig.intake.keys({(str(number),): 0}, "notify")

        assert await rig.deliver() == []
        await settled(rig)


async def test_the_last_of_them_to_go_takes_the_application_along(ats: Ats, open_rig: OpenRig) -> None:
    insert(ats, 1, "a1", created_at="2024-01-01")
    insert(ats, 2, "a1", created_at="2024-01-02")
    async with open_rig() as rig:
        for number in (2, 1):
            assert await rig.deliver() == []
            delete(ats, number)
            await rig.drain.catch_up()
            await rig.pass_grace()

        assert await rig.deliver() == [("a1", "deleted", "J1")]
        await settled(rig)


async def test_a_live_row_with_the_id_in_its_url_only_comes_first(ats: Ats, open_rig: OpenRig) -> None:
    insert(ats, 1, "a1")
    async with open_rig(columns={"status_url": "status_api_url"}) as rig:
        insert(ats, 2, None, status_api_url="https://ats-partner.hellowork.com/v1/applications/a1/status")
        update(ats, 1, deleted_at="2024-01-01")
        assert await rig.calls() == []
        assert await rig.later_calls() == []
        await settled(rig)


async def test_a_row_in_scope_stands_in_for_one_that_leaves_it(ats: Ats, open_rig: OpenRig) -> None:
    insert(ats, 1, "a1", job_id="newer", created_at="2024-02-01")
    insert(ats, 2, "a1", job_id="older", created_at="2024-01-01")
    async with open_rig(where={"sql": "t.notes IS NULL", "depends_on": ["notes"]}) as rig:
        update(ats, 1, notes="archived")
        assert await rig.calls() == [("a1", "applied", "older")]
        update(ats, 2, notes="archived")
        assert await rig.calls() == []
        await settled(rig)


async def test_a_row_with_another_id_leaves_one_application_and_begins_another(ats: Ats, open_rig: OpenRig) -> None:
    insert(ats, 1, "a1")
    async with open_rig() as rig:
        update(ats, 1, hellowork_id="a2")
        assert await rig.calls() == [("a2", "applied", "J1")]
        assert await rig.later_calls() == [("a1", "deleted", "J1")]
        await settled(rig)


@pytest.mark.parametrize("id_", [None, ".."])
async def test_a_row_that_loses_its_id_is_no_deletion(ats: Ats, open_rig: OpenRig, id_: str | None) -> None:
    insert(ats, 1, "a1")
    async with open_rig() as rig:
        update(ats, 1, hellowork_id=id_)
        await rig.drain.catch_up()
        assert await rig.later_calls() == []
        await settled(rig)


# Deletions are believed after their grace, and after a fresh read that agrees.


async def test_a_suspicion_survives_a_restart_and_is_confirmed_in_batches(ats: Ats, open_rig: OpenRig) -> None:
    fill(ats, 2)
    async with open_rig() as rig:
        delete(ats, 1, 2)
        await rig.drain.catch_up()

    async with open_rig(steps=Steps(confirmed=1)) as rig:
        assert await rig.pass_grace() == 2
        assert await rig.deliver() == [("a1", "deleted", "J1"), ("a2", "deleted", "J1")]


async def test_a_row_that_leaves_where_is_no_deletion(ats: Ats, open_rig: OpenRig) -> None:
    insert(ats, 1, "a1")
    async with open_rig(where={"sql": "t.notes IS NULL", "depends_on": ["notes"]}) as rig:
        update(ats, 1, notes="test")
        await rig.drain.catch_up()
        assert await rig.later_calls() == []
        assert (await rig.sweep()).repaired == {}

        update(ats, 1, status="hired")
        assert await rig.calls() == []
        update(ats, 1, notes=None)
        assert await rig.calls() == [("a1", "hired", "J1")]


async def test_a_suspicion_is_answered_soon_after_the_machine_was_suspended(ats: Ats, open_rig: OpenRig) -> None:
    insert(ats, 1, "a1")
    async with open_rig(deletion_grace="1h") as rig:
        delete(ats, 1)
        await rig.drain.catch_up()
        confirming = asyncio.create_task(rig.deletions.confirm())
        await asyncio.sleep(0.2)  # it rests
        rig.clock.forward(2 * HOUR)

        await eventually(rig.entries, "the entry")

        await end({confirming})


# An edit of `key` to other columns: no row has the keys of before that the store and the change log hold.


KEY = ["id", "hellowork_id"]


async def test_changes_that_were_recorded_before_it_are_found_by_the_sweep(ats: Ats, open_rig: OpenRig) -> None:
    fill(ats, 2)
    async with open_rig() as rig:
        update(ats, 1, status="hired")
        delete(ats, 2)
    async with open_rig(install=False, key=KEY) as rig:
        await rig.drain.catch_up()
        await rig.sweep()
        assert await rig.later_calls() == [("a1", "hired", "J1"), ("a2", "deleted", "J1")]


# An ATS without HelloWork's id: the id stands in a side table, and finding an application costs no read of a table.


MADE = 3
"""How often the side table is read while its three indexes are made, when it is empty."""

ROWS, DELETED = 10_000, 10  # of few rows PostgreSQL would rather read them all

SIDE = """
ALTER TABLE public.applications DROP COLUMN hellowork_id;
CREATE TABLE public.links (application bigint PRIMARY KEY REFERENCES public.applications (id) ON DELETE CASCADE,
                           hellowork_id text NOT NULL UNIQUE, url text);
CREATE INDEX ON public.links (lower(substring(url COLLATE "C" from '/v1/applications/([^/]+)/status/?(?:[?].*)?$')));
INSERT INTO public.applications (id, status, job_id, created_at, updated_at)
SELECT i, 'new', 'J1', now(), now() FROM generate_series(1, {rows}) AS i;
INSERT INTO public.links (application, hellowork_id) SELECT i, 'hw-' || i FROM generate_series(1, {rows}) AS i;
"""


def looked_up(column: str) -> dict[str, Any]:
    sql = f"(SELECT l.{column} FROM public.links l WHERE l.application = t.id)"  # noqa: S608 - a test's own column
    return {"sql": sql, "depends_on": ["id"]}


def reads(ats: Ats) -> dict[str, tuple[int, int]]:
    """How often each table was read as a whole, and how many rows were read in that way."""
    query = "SELECT relname, seq_scan, seq_tup_read FROM pg_stat_user_tables WHERE relname IN ('applications', 'links')"
    return {name: (scans, tuples) for name, scans, tuples in rows(ats, query)}


async def ended(ats: Ats, looked_up: int) -> int:
    """Wait for the counts of sessions that have ended; returns how often the table's key has been looked up."""
    others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    await eventually(lambda: one(ats, others) == 0, "the sessions have ended")
    looks = "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'applications_pkey'"
    await eventually(lambda: one(ats, looks) >= looked_up, "their counts")
    return int(one(ats, looks))


async def test_a_deletion_reads_no_table_as_a_whole(ats: Ats, open_rig: OpenRig) -> None:
    run(ats, SIDE, rows=str(ROWS))
    columns = {"application_id": looked_up("hellowork_id"), "status_url": looked_up("url")}
    watch: Any = {"columns": columns, "related": [{"table": "public.links", "key": ["application"]}]}
    await eventually(lambda: reads(ats)["links"][0] >= MADE, "the counts of what has made the table")
    async with open_rig(**watch):
        pass
    looked, before = await ended(ats, 1), reads(ats)
    async with open_rig(install=False, **watch) as rig:
        for id_ in range(1, DELETED + 1):
            delete(ats, id_)
            await rig.drain.catch_up()
        assert await rig.pass_grace() == DELETED
        assert {id_ for id_, status, _ in await rig.deliver() if status == "deleted"} == {
            f"hw-{number}" for number in range(1, DELETED + 1)
        }
    await ended(ats, looked + DELETED)

    assert reads(ats) == before


# An edited section `status` is noticed, measured and held before anything of it is sent.


BEFORE = {"map": {"applied": "sent", "hired": "hired"}}
AFTER = {"map": {"applied": "received", "hired": "hired"}}
OLD = rules_text(StatusRules(BEFORE["map"], "send", "deleted"))
FUSE = {"max_changes": 3, "max_deletions": 3, "window": "10m"}
ANOTHER_ROW = "INSERT INTO public.applications (id, hellowork_id, status, job_id, created_at) VALUES"


async def adopted(ats: Ats, open_rig: OpenRig, number: int, **watch: Any) -> None:
    """So many applications are known, and the daemon has ended."""
    fill(ats, number)
    async with open_rig(fuse=FUSE, **watch) as rig:
        await start(rig)


async def start(rig: Rig) -> list[StatusRulesChanged]:
    """What a start does before it captures; returns what it says of the rules."""
    await measure_edit(rig.intake)
    return rig.heard(StatusRulesChanged)


async def test_as_many_as_the_fuse_believes_are_said_and_sent(ats: Ats, open_rig: OpenRig) -> None:
    await adopted(ats, open_rig, 3, status=BEFORE)
    async with open_rig(fuse=FUSE, status=AFTER) as rig:
        assert await start(rig) == [StatusRulesChanged(WATCH, touched=3, held=False)]

        await rig.sweep()

        assert [(entry.application_id, entry.content.status) for entry in await rig.entries()] == [
            ("a1", "received"),
            ("a2", "received"),
            ("a3", "received"),
        ]
    async with open_rig(fuse=FUSE, status=AFTER) as rig:
        assert await start(rig) == [], "it is noticed once"


async def test_of_more_not_a_single_one_is_sent(ats: Ats, open_rig: OpenRig) -> None:
    await adopted(ats, open_rig, 4, status=BEFORE)
    async with open_rig(fuse=FUSE, status=AFTER) as rig:
        assert await start(rig) == [StatusRulesChanged(WATCH, touched=4, held=True)]

        await rig.sweep()

        assert await rig.entries() == []
        held = await rig.entries("held")
        assert {entry.application_id for entry in held} == {f"a{number}" for number in range(1, 5)}
        assert len({entry.reason for entry in held}) == 1


@pytest.mark.parametrize(
    ("meanwhile", "rules", "touched"),
    [
        ("UPDATE public.applications SET status = 'hired'", {}, 0),
        ("UPDATE public.applications SET job_id = NULL", {}, 4),
        (f"{ANOTHER_ROW} (10, 'a1', 'applied', 'J1', '2020-01-01'), (11, 'a1', 'applied', 'J1', '2999-01-01')", {}, 4),
        (f"{ANOTHER_ROW} (5, 'a5', 'applied', 'J1', '2024-01-01')", {"first_status": "send"}, 5),
    ],
    ids=["changed by itself", "without a job", "other rows of a known one", "sent for the first time"],
)
async def test_what_an_edit_alone_would_have_sent_counts(
    ats: Ats, open_rig: OpenRig, meanwhile: str, rules: dict[str, Any], touched: int
) -> None:
    await adopted(ats, open_rig, 4, status=BEFORE)
    run(ats, meanwhile)
    async with open_rig(fuse=FUSE, status=AFTER, **rules) as rig:
        assert await start(rig) == [StatusRulesChanged(WATCH, touched=touched, held=touched > 0)]


async def test_what_would_be_adopted_does_not_count(ats: Ats, open_rig: OpenRig) -> None:
    await adopted(ats, open_rig, 4, status={"map": {"hired": "hired"}, "unmapped": "ignore"}, first_status="adopt")
    async with open_rig(fuse=FUSE, status={"map": {"hired": "hired"}}, first_status="adopt") as rig:
        assert await start(rig) == [StatusRulesChanged(WATCH, touched=0, held=False)]


async def test_dying_before_the_end_it_is_noticed_again(ats: Ats, open_rig: OpenRig) -> None:
    await adopted(ats, open_rig, 4, status=BEFORE)
    async with open_rig(fuse=FUSE, status=AFTER) as rig:
        await start(rig)
        # As if it had died before the new rules were kept.
        await rig.intake.place({STATUS_RULES: OLD})
        first = (await rig.store.operation.fuses())[WATCH]
    async with open_rig(fuse=FUSE, status=AFTER) as rig:
        assert await start(rig) == [StatusRulesChanged(WATCH, touched=4, held=True)]
        assert (await rig.store.operation.fuses())[WATCH] == first
