"""Whatever PostgreSQL can hold in a row becomes a call that HelloWork takes, or a clear word on why it cannot."""

import asyncio
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.applications import delete, fill, insert, update
from support.builders import WATCH
from support.rig import OpenRig, Rig
from support.sessions import Ats
from support.store_steps import events_of

from cdc_sync.ats.errors import SourceError
from cdc_sync.ats.intake import Steps
from cdc_sync.core.batch import Applied, Batch
from cdc_sync.core.content import request
from cdc_sync.core.events import BaselineDone, BaselineProgress, Decided
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
def test_any_row_is_told_as_it_is_or_said_to_be_untellable(
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
        first = by_application(await rig.entries())
        said = {skip.key[0]: skip.reason or "" for _, skip in await rig.store.report.skipped([WATCH], 100)}
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
    async with open_rig(adopt=False, baseline="send", columns={"source": "source"}) as rig:
        (huge,) = (await rig.intake.reader.by_key([("1",)])).rows
        assert len(huge.status or "") == LONGEST_TEXT + 1

        await rig.adopt()

        assert [entry.application_id for entry in await rig.entries()] == ["a4"]
        assert {skip.key[0]: skip.reason for _, skip in await rig.store.report.skipped([WATCH], 100)} == {
            "1": "its status has more than 10000 characters",
            "2": "its source has more than 100000 characters",
            "3": "the application's id has more than 300 characters",
        }


# The first look: everything that is there is known afterwards, silently, whatever interrupts it.


@pytest.fixture
def steps() -> Steps:
    return Steps(adopted=3)


async def test_a_baseline_adopts_many_rows_in_pages_without_a_call(ats: Ats, open_rig: OpenRig) -> None:
    fill(ats, 5000)
    ats.execute("ANALYZE public.applications")
    async with open_rig(adopt=False, steps=Steps()) as rig:
        position = await rig.adopt()

        assert (position.done, position.known, position.queued) == (True, 5000, 0)
        assert await rig.deliver() == []
        page = Steps().adopted
        assert [progress.rows for progress in rig.heard(BaselineProgress)] == [*range(page, 5001, page), 5000]
        assert {progress.estimate for progress in rig.heard(BaselineProgress)} == {5000}
        (done,) = rig.heard(BaselineDone)
        assert (done.known, done.queued) == (5000, 0)
        assert rig.heard(Decided) == []
        assert await events_of(rig.store) == []
        assert (await rig.sweep()).repaired == {}


async def test_a_baseline_goes_on_after_a_failure_in_the_middle(
    ats: Ats, open_rig: OpenRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(ats, 8)
    async with open_rig(adopt=False) as rig:
        await adopt_pages(2, rig, monkeypatch)
    async with open_rig(adopt=False) as rig:
        position = await rig.adopt()

        assert (position.done, position.known) == (True, 8)
        pages = [progress.rows for progress in rig.heard(BaselineProgress)]
        assert pages == [8], "what was recorded is not read again"
        assert (await rig.store.report.counts())[WATCH].known == 8
        assert await rig.deliver() == []


async def adopt_pages(pages: int, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lose the connection after so many pages."""
    apply, count = rig.intake.apply, iter(range(100))

    async def apply_or_fail(batch: Batch) -> Applied:
        if batch.origin == "baseline" and next(count) == pages:
            raise SourceError("unreachable", "lost")
        return await apply(batch)

    with monkeypatch.context() as patched:
        patched.setattr(rig.intake, "apply", apply_or_fail)
        with pytest.raises(SourceError, match="lost"):
            await rig.adopt()


async def test_what_changes_behind_its_back_is_in_the_log(
    ats: Ats, open_rig: OpenRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(ats, 9)
    async with open_rig(adopt=False) as rig:
        apply, turns = rig.intake.apply, iter(range(10))

        async def eventful(batch: Batch) -> Applied:
            if batch.origin == "baseline" and next(turns) == 1:
                update(ats, 1, 9, status="hired")
                delete(ats, 2, 8)
                insert(ats, 0, "a0")
            return await apply(batch)

        monkeypatch.setattr(rig.intake, "apply", eventful)
        await rig.adopt()
        assert await rig.calls() == [("a0", "applied", "J1"), ("a1", "hired", "J1")], "a9 was adopted as hired"
        assert await rig.later_calls() == [("a2", "deleted", "J1")], "a8 was never known"
        assert (await rig.sweep()).repaired == {}


@pytest.mark.parametrize(("apart", "live"), [(1, "first"), (5, "last")])
async def test_a_row_left_behind_by_a_move_is_no_call(ats: Ats, open_rig: OpenRig, apart: int, live: str) -> None:
    """On one page with the row that speaks for the application, or on another."""
    numbers = (1, 1 + apart)
    for number in range(1, 10):
        insert(ats, number, f"other{number}")
    delete(ats, *numbers)
    for number in numbers:
        is_live = (number == numbers[0]) == (live == "first")
        insert(ats, number, "a1", job_id="new" if is_live else "old", deleted_at=None if is_live else "2024-01-01")
    async with open_rig(adopt=False) as rig:
        position = await rig.adopt()

        assert position.queued == 0
        assert await rig.told("a1") == {"a1": ("applied", "new")}
        assert (await rig.sweep()).repaired == {}
        assert await rig.later_calls() == []


# An application that was adopted on one page is met again, in another row, on a later one.


async def test_a_move_between_pages_is_a_change_if_the_first_row_is_gone(
    ats: Ats, open_rig: OpenRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(ats, 4)
    async with open_rig(adopt=False) as rig:
        await adopt_pages(1, rig, monkeypatch)
        delete(ats, 1)
        insert(ats, 9, "a1", job_id="J2")

        await rig.adopt()
        assert await rig.calls() == [("a1", "applied", "J2")]
