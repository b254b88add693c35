"""The records' few derived values."""

from dataclasses import replace

import pytest
from support.builders import a_content, a_known_entry, some_rules
from support.sending import an_entry

from cdc_sync.core.content import Content
from cdc_sync.core.outbox import Applying, Entry, Known, completed, former_row
from cdc_sync.core.rows import Observation, Reportable, Row, Unreportable

URL = "https://ats-partner.hellowork.com/v1/applications/1/status"
TOLD, QUEUED = a_content("NEW"), a_content("HIRED")


@pytest.mark.parametrize(
    ("snapshot", "entry", "latest"),
    [
        (None, None, None),
        (TOLD, None, TOLD),
        (TOLD, a_known_entry(QUEUED, attempted=False), QUEUED),
        (None, a_known_entry(QUEUED, attempted=True), QUEUED),
    ],
)
def test_the_latest_state_is_the_pending_entry_else_the_snapshot(
    snapshot: Content | None, entry: Entry | None, latest: Content | None
) -> None:
    assert Known(number=1, key=("1",), in_scope=True, snapshot=snapshot, entry=entry).latest == latest


@pytest.mark.parametrize(
    ("built", "url"),
    [
        ({}, "https://ats-partner.hellowork.com/v1/applications/1/status"),
        (
            {"applications": "https://ats-partner.hellowork.com"},
            "https://ats-partner.hellowork.com/v1/applications/1/status",
        ),
        ({"applications": "https://moved.example/x"}, "https://moved.example/x/v1/applications/1/status"),
        ({"another": "https://moved.example"}, "https://ats-partner.hellowork.com/v1/applications/1/status"),
    ],
    ids=["of its row", "as it was", "moved", "another watch moved"],
)
def test_an_entry_is_addressed_as_the_configuration_says_now(built: dict[str, str], url: str) -> None:
    before = an_entry("1", base_url="https://ats-partner.hellowork.com")

    entry = before.addressed(built)

    assert entry.content.url == url
    assert entry._replace(content=entry.content._replace(url=URL)) == before


def known_with(told: Content | None, waiting: Entry | None = None) -> dict[str, Known]:
    return {"1": Known(1, ("7",), in_scope=True, snapshot=told, entry=waiting)}


@pytest.mark.parametrize(
    ("known", "job"),
    [
        ({}, None),
        (known_with(None), None),
        (known_with(QUEUED._replace(job_id="J1")), "J1"),
        (known_with(QUEUED._replace(job_id="J1"), a_known_entry(QUEUED._replace(job_id="J2"), attempted=False)), "J2"),
    ],
    ids=["unknown", "never sent", "acknowledged", "pending"],
)
def test_a_row_that_lost_its_job_has_the_last_known_one(known: dict[str, Known], job: str | None) -> None:
    says = Reportable("1", ("7",), QUEUED._replace(job_id=""), None)
    jobless = Unreportable("1", ("7",), "it has no job id", incomplete=says)

    found = completed(jobless, known.get("1"))

    if job is None:
        assert found is jobless
    else:
        assert found == replace(says, content=QUEUED._replace(job_id=job))


KNOWN = a_content()
CREATED = KNOWN.created
ROW = Row(("7",), True, None, None, "applied", "J1", f"{CREATED * 1000}", None, None, False, ())  # noqa: FBT003


def meaning(row: Row, snapshot: Content | None = KNOWN) -> Observation | None:
    """What a row means that has the key of the application "a1"."""
    known = Known(1, ("7",), in_scope=True, snapshot=snapshot, entry=None)
    return former_row(row, "a1", known, some_rules(), read_at=CREATED)


@pytest.mark.parametrize(
    "row",
    [
        ROW._replace(created=f"{(CREATED + 1) * 1000}"),
        ROW._replace(created=None),
        ROW._replace(created="infinity"),
        ROW._replace(in_scope=False, created=None),
        ROW._replace(application_id="a2"),
    ],
    ids=["of another date", "without a date", "of no date", "out of scope", "of another application"],
)
def test_a_row_of_another_creation_date_or_id_is_another_one(row: Row) -> None:
    assert meaning(row) is None


def test_a_row_that_cannot_be_read_may_have_any_id() -> None:
    found = meaning(ROW._replace(created=None, unreadable="it fails"))
    assert found == Unreportable(None, ("7",), "it fails", unreadable=True)


def test_a_row_that_has_its_id_again_is_the_applications() -> None:
    found = meaning(ROW._replace(application_id="a1"))
    assert isinstance(found, Reportable)
    assert found.application_id == "a1"


def test_a_later_entry_of_the_same_revision_is_not_the_one_whose_call_had_begun() -> None:
    entry = an_entry("1", base_url="https://ats-partner.hellowork.com")
    applying = Applying(entry.watch, [entry.application_id], {entry.id: entry})

    assert applying.has_begun(*entry.id, entry.revision, entry.content.status)
    assert not applying.has_begun(*entry.id, entry.revision, "another status")
