"""An ATS without HelloWork's id: the id stands in a side table, and finding an application costs no read of a table."""

from typing import Any

import pytest
from support.applications import delete
from support.eventually import eventually
from support.rig import OpenRig
from support.sessions import Ats, one, rows, run

MADE = 3
"""How often the side table is read while its three indexes are made, when it is empty."""

ROWS, DELETED = 30_000, 10  # of few rows PostgreSQL would rather read them all

SIDE = """
ALTER TABLE public.applications DROP COLUMN hellowork_id;
CREATE TABLE public.links (application bigint PRIMARY KEY REFERENCES public.applications (id) ON DELETE CASCADE,
                           hellowork_id {type} NOT NULL UNIQUE, url text);
CREATE INDEX ON public.links (lower(substring(url COLLATE "C" from '/v1/applications/([^/]+)/status/?(?:[?].*)?$')));
INSERT INTO public.applications (id, status, job_id, created_at, updated_at)
SELECT i, 'new', 'J1', now(), now() FROM generate_series(1, {rows}) AS i;
INSERT INTO public.links (application, hellowork_id) SELECT i, {value} FROM generate_series(1, {rows}) AS i;
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


@pytest.mark.parametrize(
    ("type_", "value", "has_url"),
    [
        ("text", "'hw-' || i", True),
        ("uuid", "md5(i::text)::uuid", False),
    ],
    ids=["text or URL", "uuid"],
)
async def test_a_deletion_reads_no_table_as_a_whole(
    ats: Ats, open_rig: OpenRig, type_: str, value: str, *, has_url: bool
) -> None:
    run(ats, SIDE, type=type_, value=value, rows=str(ROWS))
    columns = {"application_id": looked_up("hellowork_id"), **({"status_url": looked_up("url")} if has_url else {})}
    watch: Any = {"columns": columns, "related": [{"table": "public.links", "key": ["application"]}]}
    # Without a read of the table, which would be counted too, at any time within ten seconds.
    gone = rows(ats, f"SELECT ({value})::text FROM generate_series(1, {DELETED}) AS i")  # noqa: S608
    await eventually(lambda: reads(ats)["links"][0] >= MADE, "the counts of what has made the table")
    async with open_rig(**watch) as rig:
        await rig.adopt()
    looked, before = await ended(ats, 1), reads(ats)
    async with open_rig(install=False, **watch) as rig:
        for id_ in range(1, DELETED + 1):
            delete(ats, id_)
            await rig.drain.catch_up()
        assert await rig.pass_grace() == DELETED
        assert {id_ for id_, status, _ in await rig.deliver() if status == "deleted"} == {id_ for (id_,) in gone}
    await ended(ats, looked + DELETED)

    assert reads(ats) == before
