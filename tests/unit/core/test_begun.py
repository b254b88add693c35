"""An entry whose call begins, and an apply that decides about its application meanwhile."""

from typing import Any

import pytest
from support.builders import HOUR, MINUTE, NOW, SECOND, WATCH
from support.sending import an_entry

from cdc_sync.core.outbox import Applying, Entry
from cdc_sync.core.replies import LONGEST_COUNTED, LONGEST_UNASKED, begun

BASE_URL = "https://api.example"


def an_old_one(*, due_at: int = NOW, first: int | None = None, not_found: int | None = None) -> Entry:
    entry = an_entry(base_url=BASE_URL)
    return entry._replace(attempted=False, attempts=0, due_at=due_at, first_attempt_at=first, not_found_since=not_found)


def test_a_first_attempt_is_counted() -> None:
    entry = begun(an_old_one(), NOW + HOUR)

    assert (entry.attempted, entry.attempts) == (True, 1)
    assert (entry.first_attempt_at, entry.not_found_since) == (NOW + HOUR, None)


@pytest.mark.parametrize("late", [0, LONGEST_COUNTED])
def test_a_short_time_in_which_nobody_tried_it_counts(late: int) -> None:
    assert begun(an_old_one(first=NOW - SECOND), NOW + late).first_attempt_at == NOW - SECOND


def test_a_long_one_does_not() -> None:
    entry = begun(an_old_one(first=NOW - SECOND, not_found=NOW - SECOND), NOW + HOUR)

    assert entry.first_attempt_at == NOW - SECOND + HOUR - LONGEST_COUNTED
    assert entry.not_found_since == NOW - SECOND + HOUR - LONGEST_UNASKED


def test_no_attempt_is_ahead() -> None:
    entry = begun(an_old_one(first=NOW + HOUR, not_found=NOW + HOUR), NOW + MINUTE)

    assert (entry.first_attempt_at, entry.not_found_since) == (NOW + MINUTE, NOW + MINUTE)


@pytest.mark.parametrize("other", [{"watch": "another"}, {"application_id": "a2"}, {"revision": 2}])
def test_an_apply_knows_the_entry_whose_call_had_begun_and_no_other(other: dict[str, Any]) -> None:
    entry = an_entry(base_url=BASE_URL)
    applying = Applying(WATCH, ["a1"], {(WATCH, "a1"): entry})

    assert applying.has_begun(entry)
    assert not applying.has_begun(entry._replace(**other))
