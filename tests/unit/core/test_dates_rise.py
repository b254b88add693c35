"""The dates of an application's calls rise, whatever its rows say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import CREATED, NOW, SECOND, a_content, a_known_entry

from cdc_sync.core.content import LATEST, Content
from cdc_sync.core.diff import in_order
from cdc_sync.core.outbox import Entry

ACKNOWLEDGED = a_content("rejected", event_date=NOW)
CHANGED_AT = NOW + 5 * SECOND


def dated(event_date: int) -> Content:
    return a_content("seen", event_date=event_date)


@pytest.mark.parametrize(
    ("own", "changed_at", "sent"),
    [
        (NOW + 1, CHANGED_AT, NOW + 1),
        (NOW, CHANGED_AT, CHANGED_AT),
        (NOW - SECOND, CHANGED_AT, CHANGED_AT),
        (CREATED, NOW - SECOND, NOW + 1),  # the clock of the change is behind too
        (NOW, 0, NOW + 1),
    ],
    ids=["later", "the same", "earlier", "the change is earlier too", "no time of the change"],
)
def test_a_date_that_is_not_later_gives_way_to_the_changes_own(own: int, changed_at: int, sent: int) -> None:
    assert in_order(dated(own), changed_at, ACKNOWLEDGED, None) == dated(sent)


DATES = st.integers(0, LATEST - 100)


@given(st.lists(st.tuples(DATES, DATES, st.booleans(), st.booleans()), min_size=1))
def test_dates_rise_over_any_story(story: list[tuple[int, int, bool, bool]]) -> None:
    """Each state is attempted or not, and acknowledged or not, before the next takes its place."""
    acknowledged: Content | None = None
    pending: Entry | None = None
    received: list[int] = []
    for own, changed_at, is_attempted, is_acknowledged in story:
        content = in_order(dated(own), changed_at, acknowledged, pending)

        assert content._replace(event_date=own) == dated(own), "nothing but the date is touched"
        assert in_order(content, changed_at, acknowledged, pending) is content, "it is decided once"
        assert all(content.event_date > date for date in received)
        if content.event_date != own:
            # What took the place of an attempted entry counts too, be it not attempted itself.
            assert own <= max(received + ([pending.content.event_date] if pending is not None else []))
            assert content.event_date >= max(changed_at, content.created)
        if is_attempted:
            received.append(content.event_date)
            if is_acknowledged:
                acknowledged, pending = content, None
                continue
        was_attempted = pending is not None and pending.attempted
        pending = a_known_entry(content, attempted=is_attempted or was_attempted)
