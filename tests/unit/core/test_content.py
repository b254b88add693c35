"""What counts as news, over every pair of small contents."""

import pytest
from support.builders import a_content

from cdc_sync.core.content import Content

BASE = a_content("NEW_STATUS", source='"hellowork.com"')


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
