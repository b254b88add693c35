"""What counts as news, over every pair of small contents."""

from typing import Any

import pytest

from cdc_sync.core.content import Content

BASE = Content(
    status="NEW_STATUS",
    job_id="2022-001-developer",
    deleted=False,
    created=1_672_563_600_000,
    event_date=1_673_341_200_000,
    source='"hellowork.com"',
    extra=None,
    url="https://ats-partner.hellowork.com/v1/applications/1/status",
)
OTHER_VALUES: dict[str, Any] = {
    "status": "HIRED",
    "job_id": "2022-002-tester",
    "deleted": True,
    "created": 0,
    "event_date": 0,
    "source": None,
    "extra": '{"communicationDelay": 3}',
    "url": "https://ats-partner.hellowork.com/v1/applications/2/status",
    "account": "acme",
}


def test_every_field_is_either_compared_or_rides_along() -> None:
    assert OTHER_VALUES.keys() == set(Content._fields)


def test_a_deletion_keeps_everything_that_the_row_said_but_status_and_date() -> None:
    told = BASE._replace(extra='{"delay": 3, "tenant": "x"}')

    gone = told.as_deleted("deleted", 1_700_000_000_000, {"tenant", "delay"})

    assert gone == told._replace(status="deleted", deleted=True, event_date=1_700_000_000_000)


@pytest.mark.parametrize(
    ("extra", "kept"), [(None, None), ('{"delay": 3, "tenant": "x"}', '{"tenant": "x"}'), ('{"delay": 3}', None)]
)
def test_a_deletion_leaves_out_the_extra_fields_of_other_statuses(extra: str | None, kept: str | None) -> None:
    assert BASE._replace(extra=extra).as_deleted("deleted", 0, {"tenant"}).extra == kept


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (BASE._replace(event_date=BASE.event_date + 1, status="another", job_id="another", deleted=True), True),
        (BASE._replace(url="https://other.example"), False),
        (BASE._replace(source='"other"'), False),
        (BASE._replace(created=BASE.created + 1), False),
        (BASE._replace(extra='{"other": 1}'), False),
    ],
    ids=["what is compared, and the event's date", "url", "source", "created", "extra"],
)
def test_what_rides_along(other: Content, *, same: bool) -> None:
    assert BASE.same_metadata(other) is same
