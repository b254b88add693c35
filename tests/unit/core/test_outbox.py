"""The records' few derived values."""

import pytest
from support.builders import a_content, a_known_entry, some_rules
from support.sending import an_entry

from cdc_sync.core.content import Content
from cdc_sync.core.outbox import Entry, Known, former_row
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
