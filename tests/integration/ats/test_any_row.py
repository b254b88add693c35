"""Whatever PostgreSQL can hold in a row becomes a call that HelloWork takes, or a clear word on why it cannot."""

import asyncio
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import quote

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.applications import insert
from support.builders import WATCH
from support.rig import OpenRig, Rig
from support.sessions import Ats

from cdc_sync.core.content import request
from cdc_sync.core.outbox import Entry
from cdc_sync.core.rows import LONGEST_JSON, LONGEST_TEXT
from cdc_sync.core.status_url import id_refusal
from cdc_sync.emulator.validation import violations

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
DEEP = "[" * 3_000 + "]" * 3_000
JSON = (
    st.none()
    | TEXT.map(json.dumps)
    | st.dictionaries(TEXT, TEXT | st.integers(), max_size=3).map(json.dumps)
    # What `json` keeps, `jsonb` does not, and parsers disagree about.
    | st.sampled_from(
        [
            '"\\ud800"',
            '{"\\udfff": "\\ud800 \\u0000"}',
            '{"a": -0.0, "b": 1e-9}',
            '  {"b" : 12345678901234567890.50}\n',
            "[1]",
            "null",
            DEEP,
        ]
    )
)
ROWS = st.lists(st.tuples(TEXT, TEXT, TEXT, JSON, JSON), min_size=1, max_size=20)
Row = tuple[str, str, str, str | None, str | None]


@settings(
    max_examples=settings().max_examples // 3,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(rows=ROWS)
def test_is_told_as_it_is_or_said_to_be_untellable(
    ats: Ats, open_rig: OpenRig, tmp_path: Path, rows: list[Row]
) -> None:
    prepare(ats, tmp_path)
    given_rows = {f"{number}-{row[0]}": row for number, row in enumerate(rows)}
    for number, (application_id, (_, status, job, source, more)) in enumerate(given_rows.items()):
        insert(ats, number, application_id, status, job_id=job, source=source, more=more)

    first, gone, said = asyncio.run(told(open_rig, ats))

    for number, (application_id, (_, status, job, _, _)) in enumerate(given_rows.items()):
        if (reason := said.get(str(number))) is not None:
            assert reason == id_refusal(application_id) or not (status.strip() and job.strip())
            continue
        assert is_taken(first[application_id]) == (status, job)
        assert is_taken(gone[application_id]) == ("deleted", job)


def prepare(ats: Ats, folder: Path) -> None:
    """An empty table whose `source` and `more` are json, and no store."""
    ats.execute("TRUNCATE public.applications")
    ats.execute("ALTER TABLE public.applications ADD IF NOT EXISTS more json")
    ats.execute("ALTER TABLE public.applications ALTER source TYPE json USING NULL")
    for file in folder.glob("state.db*"):
        file.unlink()


async def told(open_rig: OpenRig, ats: Ats) -> tuple[Mapping[str, Entry], Mapping[str, Entry], Mapping[str, str]]:
    """All rows as first calls and then as deletions, by application; and by key why rows cannot be told."""
    async with open_rig(
        baseline="send", columns={"source": "source"}, extra={"more": {"column": "more"}}, deletion_grace="1ms"
    ) as rig:
        await rig.adopt()
        first = by_application(await rig.entries())
        said = {skip.key[0]: skip.reason or "" for skip in await rig.store.report.skipped(WATCH, 100)}
        await rig.deliver()
        ats.execute("DELETE FROM public.applications")
        await all_gone(rig)
        return first, by_application(await rig.entries()), said


async def all_gone(rig: Rig) -> None:
    await rig.drain.catch_up()
    await rig.pass_grace()


def by_application(entries: Iterable[Entry]) -> Mapping[str, Entry]:
    return {entry.application_id: entry for entry in entries}


def is_taken(entry: Entry) -> tuple[str, str]:
    """HelloWork can read the call, and finds the application's id in it; returns the status and the job in it."""
    body, _ = request(entry.application_id, entry.content)
    # Correct JSON, but deeper than Python's parser goes.
    said = json.loads(body.decode().replace(DEEP, "0"))
    assert list(violations(said, "application/json")) == []
    assert entry.content.url.endswith(f"/{quote(entry.application_id, safe='')}/status")
    return said["status"], said["jobId"]


async def test_huge_values_are_bounded_where_they_are_read_and_said(ats: Ats, open_rig: OpenRig) -> None:
    insert(ats, 1, "a1")
    ats.execute("UPDATE public.applications SET status = repeat('é', 50000000)")
    insert(ats, 2, "a2", source="s" * (LONGEST_JSON + 10))
    insert(ats, 3, "3" * (LONGEST_TEXT + 1))
    insert(ats, 4, "a4", "x" * LONGEST_TEXT)
    async with open_rig(baseline="send", columns={"source": "source"}) as rig:
        (huge,) = (await rig.intake.reader.by_key([("1",)])).rows
        assert len(huge.status or "") == LONGEST_TEXT + 1

        await rig.adopt()

        assert [entry.application_id for entry in await rig.entries()] == ["a4"]
        assert {skip.key[0]: skip.reason for skip in await rig.store.report.skipped(WATCH, 100)} == {
            "1": "its status has more than 10000 characters",
            "2": "its source has more than 100000 characters",
            "3": "the application's id has more than 300 characters",
        }
