"""The design's table "What a reply means", whole: every status code, with and without `Retry-After`."""

import pytest

from cdc_sync.core.replies import LONGEST_RETRY_AFTER, Meaning, Reply, meaning_of

NOW = 1_445_412_480_000  # Wed, 21 Oct 2015 07:28:00 GMT
MINUTE_LATER = "Wed, 21 Oct 2015 07:29:00 GMT"

# One line per row of the table; together they name every status code once.
TABLE: list[tuple[str, list[int], Meaning]] = [
    ("acknowledged", [*range(200, 300)], Meaning("acknowledged")),
    ("HelloWork does not know it", [404], Meaning("not found")),
    ("our credentials", [401, 403, 407], Meaning("refused credentials")),
    ("throttled", [429], Meaning("throttled", None)),
    ("unavailable", [408, 425, *range(500, 600)], Meaning("unavailable")),
    ("redirects", [*range(300, 400)], Meaning("unavailable")),
    (
        "rejected",
        [code for code in range(400, 500) if code not in {401, 403, 404, 407, 408, 425, 429}],
        Meaning("rejected"),
    ),
    ("no final status at all", [*range(100, 200), 0, 99, 600, 999], Meaning("unavailable")),
]
ROWS = [(code, meaning) for _, codes, meaning in TABLE for code in codes]
SETTLED = {*range(200, 300)}
"""Codes whose meaning is settled before `Retry-After` is looked at."""


def test_the_table_names_every_status_code_once() -> None:
    codes = sorted(code for code, _ in ROWS)

    assert codes == sorted({*codes, *range(100, 600)})


@pytest.mark.parametrize(("row", "codes", "meaning"), TABLE, ids=[row for row, _, _ in TABLE])
@pytest.mark.parametrize("content_type", ["", "application/json", "text/plain"])
def test_each_row_of_the_table(row: str, codes: list[int], meaning: Meaning, content_type: str) -> None:
    meanings = {meaning_of(Reply(code, content_type), NOW) for code in codes}

    assert meanings == {meaning}, row


@pytest.mark.parametrize(
    ("content_type", "meaning"),
    [
        ("Text/HTML;charset=UTF-8", Meaning("unavailable")),
        (" text/html ", Meaning("unavailable")),
        ("text/plain", Meaning("acknowledged")),
        ("text/html5", Meaning("acknowledged")),
        ("application/json; profile=text/html", Meaning("acknowledged")),
        ("", Meaning("acknowledged")),
        (";", Meaning("acknowledged")),
    ],
)
@pytest.mark.parametrize("status", [200, 204, 299])
def test_a_web_page_is_no_acknowledgement(status: int, content_type: str, meaning: Meaning) -> None:
    assert meaning_of(Reply(status, content_type), NOW) == meaning


def test_a_retry_after_throttles_whatever_the_status_unless_that_settles_it() -> None:
    for code, meaning in ROWS:
        expected = meaning if code in SETTLED else Meaning("throttled", 7_000)
        assert meaning_of(Reply(code, retry_after="7"), NOW) == expected, code


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        ("0", 0),
        (" 120 ", 120_000),
        ("3601", 3_600_000),
        ("000000000000005", 5_000),
        ("9" * 5_000, LONGEST_RETRY_AFTER),
        (MINUTE_LATER, 60_000),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Wed, 21 Oct 2015 07:27:59 GMT", 0),
        ("Wed, 21 Oct 2015 08:28:01 GMT", LONGEST_RETRY_AFTER),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_RETRY_AFTER),
        ("Wednesday, 21-Oct-15 07:29:00 GMT", 60_000),
        ("Wed, 21 Oct 2015 07:29:00 -0000", 60_000),
        ("Wed, 21 Oct 2015 09:29:00 +0200", 60_000),
    ],
)
def test_a_retry_after_in_seconds_or_as_a_date(value: str, wait: int) -> None:
    assert meaning_of(Reply(503, retry_after=value), NOW) == Meaning("throttled", wait)


@pytest.mark.parametrize(
    ("date", "wait"),
    [
        ("Wed, 21 Oct 2015 07:28:50 GMT", 10_000),
        ("Wed, 21 Oct 2015 07:30:00 GMT", 0),
        # None that can be read: our own clock.
        ("yesterday", 60_000),
        ("", 60_000),
    ],
)
def test_a_retry_after_date_is_compared_with_the_reply_s_own(date: str, wait: int) -> None:
    assert meaning_of(Reply(503, retry_after=MINUTE_LATER, date=date), NOW) == Meaning("throttled", wait)


@pytest.mark.parametrize(
    "value",
    [
        "", " ", "soon", "-5", "+5", "1.5", "1e3", "0x10", "1_000", "5s", "٣", "²", "5, 6", ",", "Wed",
        "2015-10-21T07:29:00Z", "Wed, 21 Oct 2015", "Wed, 32 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2015 25:28:00 GMT",
        "Wed, 21 Oct 2015 07:28:00 +9999",
        "Wed, 21 Oct 99999999999999999999 07:28:00 GMT",
    ],
)  # fmt: skip
def test_a_retry_after_that_says_nothing_is_as_if_it_were_not_there(value: str) -> None:
    for code, meaning in ROWS:
        assert meaning_of(Reply(code, retry_after=value), NOW) == meaning, code


def test_no_reply_at_all_is_unavailable() -> None:
    assert meaning_of(Reply(failure="connection refused"), NOW) == Meaning("unavailable")
