"""What a row says: every way in which it can be complete, odd, foreign or useless."""

from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc_sync.core.content import Content
from cdc_sync.core.rows import (
    FusePolicy,
    Ignored,
    OutOfScope,
    Reportable,
    Row,
    StatusRules,
    Unreportable,
    WatchRules,
    by_application,
    current,
    interpret,
)
from cdc_sync.core.status_url import AllowedHosts

OUT_OF_PLACE = "cannot stand in a URL's path: a proxy that decodes the path would lead it elsewhere"

BASE = "https://ats-partner.hellowork.com"
CHANGED_AT = 1_700_000_000_000
RULES = WatchRules(
    watch="applications",
    status=StatusRules(map={"Embauché": "hired", "Vide": " "}, unmapped="send", deleted="deleted"),
    baseline="adopt",
    first_status="send",
    settle={},
    default_settle=0,
    deletion_grace=5_000,
    extra={"communicationDelay": frozenset({"rejected_and_contacted_by_recruiter"}), 'client "id"': frozenset()},
    base_url=BASE,
    own_urls=True,
    allowed=AllowedHosts(frozenset({"ats-partner.hellowork.com"})),
    fuse=FusePolicy(max_changes=1_000, max_deletions=100, window=600_000),
)
ROW = Row(
    key=("7",),
    in_scope=True,
    application_id="42",
    status_url=None,
    status="Embauché",
    job_id="2022-001-developer",
    created="1672563600000000",
    event_date="1673341200000000",
    source='"hellowork.com"',
    deleted=False,
    extra=(None, None),
)
CONTENT = Content(
    status="hired",
    job_id="2022-001-developer",
    deleted=False,
    created=1_672_563_600_000,
    event_date=1_673_341_200_000,
    source='"hellowork.com"',
    extra=None,
    url=f"{BASE}/v1/applications/42/status",
)


def reading(rules: WatchRules = RULES, **changes: Any) -> Any:
    return interpret(ROW._replace(**changes), rules, CHANGED_AT)


def content(rules: WatchRules = RULES, **changes: Any) -> Content:
    found = reading(rules, **changes)
    assert isinstance(found, Reportable)
    return found.content


def unmapped(what: Any) -> WatchRules:
    return replace(RULES, status=RULES.status._replace(unmapped=what))


@pytest.mark.parametrize(
    ("application_id", "status_url", "found", "url"),
    [
        ("42", None, "42", f"{BASE}/v1/applications/42/status"),
        ("a/b", None, "a/b", f"{BASE}/v1/applications/a%2Fb/status"),
        # A blank is part of an id: the ATS has it from HelloWork.
        (" 42", None, " 42", f"{BASE}/v1/applications/%2042/status"),
        (" \n", f"{BASE}/v1/applications/42/status", "42", f"{BASE}/v1/applications/42/status"),
        ("42", " ", "42", f"{BASE}/v1/applications/42/status"),
        (None, f"{BASE}/v1/applications/a%2Fb/status", "a/b", f"{BASE}/v1/applications/a%2Fb/status"),
        # The column says who it is, the URL where to call.
        ("42", f"{BASE}/v1/applications/43/status", "42", f"{BASE}/v1/applications/43/status"),
    ],
)
def test_who_it_is_and_where_to_call(application_id: str, status_url: str | None, found: str, url: str) -> None:
    expected = Reportable(found, ("7",), CONTENT._replace(url=url), refused=None)

    assert reading(application_id=application_id, status_url=status_url) == expected


@pytest.mark.parametrize("label", [None, "", " "])
def test_a_row_without_a_status_has_the_one_that_the_map_gives_it(label: str | None) -> None:
    rules = replace(RULES, status=RULES.status._replace(map={"": "received"}))

    assert content(rules, status=label).status == "received"


NO_ID_IN_URL = "its status URL has no application id: expected …/v1/applications/{id}/status"


@pytest.mark.parametrize(
    ("application_id", "status_url", "reported", "reason"),
    [
        ("\u00a0", None, "\u00a0", rf"the application's id '\xa0' {OUT_OF_PLACE}"),
        ("a/../42", None, "a/../42", f"the application's id 'a/../42' {OUT_OF_PLACE}"),
        (
            None,
            f"{BASE}/v1/applications/a%2F..%2F42/status",
            "a/../42",
            f"the application's id 'a/../42' {OUT_OF_PLACE}",
        ),
        (None, "42", None, NO_ID_IN_URL),
        (None, f"{BASE}/v1/applications/%00/status", "\0", rf"the application's id '\x00' {OUT_OF_PLACE}"),
    ],
)
def test_an_unusable_id_is_named_unless_the_row_is_out_of_scope(
    application_id: str | None, status_url: str | None, reported: str | None, reason: str
) -> None:
    row = ROW._replace(application_id=application_id, status_url=status_url)

    assert interpret(row, RULES, CHANGED_AT) == Unreportable(reported, ("7",), reason)
    assert interpret(row._replace(in_scope=False), RULES, CHANGED_AT) == OutOfScope(None, ("7",))


UNDATABLE = "its creation date is infinite, or its year is outside 1 to 9999"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"status": None}, "it has no status"),
        ({"status": " \t"}, "it has no status"),
        ({"status": "Vide"}, "it has no status"),
        ({"job_id": None}, "it has no job id"),
        ({"job_id": "\u00a0"}, "it has no job id"),
        ({"created": None}, "it has no creation date"),
        ({"created": "infinity"}, UNDATABLE),
        ({"created": "253402300800000000"}, UNDATABLE),
        ({"deleted": True, "job_id": None}, "it has no job id"),
    ],
)
@pytest.mark.parametrize("what", ["send", "ignore", "reject"])
def test_what_every_call_needs(what: str, changes: dict[str, Any], reason: str) -> None:
    rules = unmapped(what)

    assert reading(rules, **changes) == Unreportable("42", ("7",), reason)


@pytest.mark.parametrize("text", [None, "", "infinity", "-infinity", "253402300800000000", "2023-01-10"])
def test_without_a_usable_date_the_event_has_the_date_of_the_change(text: str | None) -> None:
    assert content(event_date=text) == CONTENT._replace(event_date=CHANGED_AT)


def test_labels_outside_the_map() -> None:
    assert content(unmapped("send"), status="Refusé").status == "Refusé"
    # A label is the ATS's own free text: letter case and blanks are part of it. A status is no label.
    for label in ("Refusé", "embauché", "Embauché ", "hired"):
        assert reading(unmapped("ignore"), status=label) == Ignored("42", ("7",))
    assert reading(unmapped("reject"), status="Refusé") == Reportable(
        "42",
        ("7",),
        CONTENT._replace(status="Refusé"),
        refused="the label 'Refusé' is not in status.map, and status.unmapped is reject",
    )


@pytest.mark.parametrize("status", ["Embauché", "Refusé", "", None])
@pytest.mark.parametrize("what", ["send", "ignore", "reject"])
def test_a_soft_deleted_row_is_deleted_whatever_its_label(what: str, status: str | None) -> None:
    expected = Reportable("42", ("7",), CONTENT._replace(status="deleted", deleted=True), refused=None)

    assert reading(unmapped(what), status=status, deleted=True) == expected


@pytest.mark.parametrize(
    ("source", "sent"),
    [
        (None, None),
        ("null", None),
        ('"hellowork.com"', '"hellowork.com"'),
        ('""', '""'),
        ('{"a": 1.50}', '{"a": 1.50}'),
        ("12", '"12"'),
        ("1e400", '"1e400"'),
        ('["a", "b"]', r'"[\"a\", \"b\"]"'),
    ],
)
def test_a_source_is_a_string_or_an_object(source: str | None, sent: str | None) -> None:
    assert content(source=source).source == sent


@pytest.mark.parametrize(
    ("status", "values", "sent"),
    [
        ("Embauché", ("3", None), None),
        ("Embauché", ("null", " null "), None),
        ("Embauché", ("3", '"c1"'), r'{"client \"id\"": "c1"}'),
        ("rejected_and_contacted_by_recruiter", ("3", None), '{"communicationDelay": 3}'),
        ("rejected_and_contacted_by_recruiter", (None, '"c1"'), r'{"client \"id\"": "c1"}'),
        (
            "rejected_and_contacted_by_recruiter",
            ("3", '{"a": [1]}'),
            r'{"communicationDelay": 3, "client \"id\"": {"a": [1]}}',
        ),
    ],
)
def test_extra_fields_by_status_as_sent_and_not_if_null(
    status: str, values: tuple[str | None, ...], sent: str | None
) -> None:
    assert content(status=status, extra=values).extra == sent


ODD_TEXTS = (
    st.none() | st.sampled_from(["", " ", "null", "..", "infinity", "0", "\0", "é/\u202e"]) | st.text(max_size=8)
)


@given(
    row=st.builds(
        Row,
        key=st.tuples(st.text()),
        in_scope=st.booleans(),
        application_id=ODD_TEXTS,
        status_url=ODD_TEXTS | st.text(max_size=8).map(lambda text: f"{BASE}/v1/applications/{text}/status"),
        status=ODD_TEXTS,
        job_id=ODD_TEXTS,
        created=ODD_TEXTS | st.integers().map(str),
        event_date=ODD_TEXTS | st.integers().map(str),
        source=st.none() | st.sampled_from(["null", "[]", '""', "{}", "1"]),
        deleted=st.booleans(),
        extra=st.tuples(*[st.none() | st.sampled_from(["null", "1", '"x"'])] * 2),
        digest=st.none(),
        unreadable=st.none(),
        id_unreadable=st.just(value=False),
    ),
    what=st.sampled_from(["send", "ignore", "reject"]),
)
def test_no_row_can_break_its_reading(row: Row, what: str) -> None:
    found = interpret(row, unmapped(what), CHANGED_AT)

    assert found.key == row.key
    match found:
        case Reportable(application_id, _, said, _):
            assert row.in_scope
            assert application_id.strip()
            assert said.status.strip()
            assert said.job_id == row.job_id
            assert said.deleted is row.deleted
        case Unreportable():
            assert row.in_scope
            assert found.reason
        case OutOfScope(application_id):
            has_no_id = not (row.application_id or row.status_url or "").strip()
            assert not row.in_scope or (has_no_id and application_id is None)
        case Ignored():
            assert row.in_scope
            assert what == "ignore"
            assert not row.deleted


FAILS = "columns.created cannot be read: division by zero"


def test_a_row_on_which_an_expression_fails_is_unreportable() -> None:
    assert reading(unreadable=FAILS) == Unreportable("42", ("7",), FAILS, unreadable=True)
    assert reading(unreadable=FAILS, in_scope=False) == OutOfScope("42", ("7",))
    assert reading(unreadable=FAILS, application_id=None) == OutOfScope(None, ("7",))


def test_a_row_whose_id_cannot_be_read_is_of_no_application_that_is_known() -> None:
    row = ROW._replace(application_id=None, unreadable=FAILS, id_unreadable=True)

    assert interpret(row, RULES, CHANGED_AT) == Unreportable(None, ("7",), FAILS, unreadable=True)
    assert interpret(row._replace(in_scope=False), RULES, CHANGED_AT) == OutOfScope(None, ("7",))


def test_a_row_whose_creation_cannot_be_read_may_be_the_latest() -> None:
    unreadable = ROW._replace(key=("unreadable",), created=None, unreadable=FAILS)

    for rows in permutations([LIVE, LATER, unreadable, DELETED]):
        assert current(rows) == unreadable
    assert current([unreadable._replace(deleted=True), LIVE]) == LIVE
    assert current([unreadable._replace(created=LIVE.created), LATER]) == LATER


LIVE = ROW._replace(key=("live",))
DELETED = ROW._replace(key=("deleted",), deleted=True, created="1700000000000000")
ELSEWHERE = ROW._replace(key=("elsewhere",), in_scope=False, created="1700000000000000")
LATER = ROW._replace(key=("later",), created="1672563600001000")
UNDATED = ROW._replace(key=("undated",), created=None)
ENDLESS = ROW._replace(key=("endless",), created="infinity")
GONE_ELSEWHERE = ROW._replace(key=("gone elsewhere",), in_scope=False, deleted=True)


@pytest.mark.parametrize(
    ("rows", "speaker"),
    [
        ([LIVE], LIVE),
        ([DELETED], DELETED),
        ([LIVE, DELETED], LIVE),
        ([LIVE, ELSEWHERE], LIVE),
        ([LIVE, LATER], LATER),
        ([LIVE, UNDATED], LIVE),
        ([LIVE, ENDLESS], LIVE),
        # Live before in scope: what left the scope is no deletion, though its old row is marked deleted.
        ([ELSEWHERE, DELETED], ELSEWHERE),
        ([DELETED, GONE_ELSEWHERE], DELETED),
        ([LIVE, LATER, DELETED, ELSEWHERE, UNDATED, GONE_ELSEWHERE], LATER),
    ],
)
def test_the_row_that_speaks_is_found_in_whatever_order_they_come(rows: list[Row], speaker: Row) -> None:
    assert {current(order) for order in permutations(rows)} == {speaker}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("status", {"status": "x" * 10_001}),
        ("job id", {"job_id": "x" * 10_001}),
        ("source", {"source": '"' + "x" * 100_000}),
        ("extra field communicationDelay", {"extra": ("1" * 100_001, None)}),
    ],
)
def test_a_text_that_no_call_can_carry_is_said(name: str, changes: dict[str, Any]) -> None:
    found = reading(**changes)

    assert isinstance(found, Unreportable)
    assert found.application_id == "42"
    assert found.reason.startswith(f"its {name} has more than 10")
    assert len(found.reason) < 150


@pytest.mark.parametrize(
    ("changes", "limit"),
    [
        ({"application_id": "4" * 301}, 300),
        ({"application_id": "4" * 10_001}, 300),
        ({"application_id": None, "status_url": f"{BASE}/v1/applications/{'4' * 301}/status"}, 300),
        ({"application_id": None, "status_url": f"{BASE}/v1/applications/{'%C3%A9' * 301}/status"}, 300),
        ({"status_url": f"{BASE}/v1/" + "x" * 10_001}, 10_000),
    ],
)
def test_an_id_that_is_too_long_or_may_have_been_cut_is_nobodys(changes: dict[str, Any], limit: int) -> None:
    found = reading(**changes)

    assert isinstance(found, Unreportable)
    assert found.application_id is None
    assert f"has more than {limit} characters" in found.reason
    assert len(found.reason) < 150
    assert reading(**changes, in_scope=False) == OutOfScope(None, ("7",))


@pytest.mark.parametrize("job_id", [None, "", " "])
def test_a_row_that_lacks_nothing_but_a_job_says_all_the_rest(job_id: str | None) -> None:
    found = reading(job_id=job_id)

    assert found == Unreportable("42", ("7",), "it has no job id")
    assert found.incomplete == Reportable("42", ("7",), CONTENT._replace(job_id=""), refused=None)
    assert reading(replace(RULES, last_known_job=False), job_id=job_id).incomplete is None
    assert reading(job_id=job_id, created=None) == Unreportable("42", ("7",), "it has no creation date")


def test_rows_are_found_by_the_id_that_they_carry_usable_or_not() -> None:
    rows = [
        ROW._replace(key=("1",), application_id="a1"),
        ROW._replace(key=("2",), application_id=None, status_url="https://any.example/v1/applications/a1/status"),
        ROW._replace(key=("3",), application_id="a2"),
        ROW._replace(key=("4",), application_id=".."),
        ROW._replace(key=("5",), application_id=None, status_url=None),
    ]

    assert by_application(rows, {"a1", ".."}) == {"a1": rows[:2], "..": [rows[3]]}
