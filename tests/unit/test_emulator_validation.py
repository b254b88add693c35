"""The rules that HelloWork documents for a status call, one by one."""

import json
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cdc_sync.emulator.validation import MAX_BODY_BYTES, MAX_NESTING, OWN_SIDE_STATUSES, Reading, read_call

# As on HelloWork's page, white space apart.
DOCUMENTED_WITH_TEXT_SOURCE = b"""
    {"status": "NEW_STATUS", "eventDate": "2023-01-10T09:00:00.000Z", "created": "2023-01-01T09:00:00.000Z",
     "jobId": "2022-001-developer", "source": "hellowork.com"}"""
DOCUMENTED_WITH_OBJECT_SOURCE = b"""
    {"status": "NEW_STATUS", "eventDate": "2023-01-10T09:00:00.000Z", "created": "2023-01-01T09:00:00.000Z",
     "jobId": "2022-001-developer",
     "source": {"sourceTypeId": "DIRECT_SOURCING", "sourceSubTypeId": "ClientId", "sourceId": "CVCatcherWebsite"}}"""

GOOD: dict[str, object] = {
    "status": "NEW_STATUS",
    "eventDate": "2023-01-10T09:00:00.000Z",
    "created": "2023-01-01T09:00:00.000Z",
    "jobId": "2022-001-developer",
}
JSON_TYPE = "application/json"
ABSENT = object()


def read_body(raw: bytes, content_type: str | None) -> Reading:
    return read_call("/v1/applications/a-1/status", raw, content_type)


def read_path(path: str) -> Reading:
    return read_call(path, json.dumps(GOOD).encode(), JSON_TYPE)


def violations(**changes: object) -> tuple[str, ...]:
    body = {name: value for name, value in {**GOOD, **changes}.items() if value is not ABSENT}
    return raw_violations(json.dumps(body).encode())


def raw_violations(raw: bytes) -> tuple[str, ...]:
    return read_body(raw, JSON_TYPE).violations


@pytest.mark.parametrize("raw", [DOCUMENTED_WITH_TEXT_SOURCE, DOCUMENTED_WITH_OBJECT_SOURCE])
def test_documented_examples_are_good(raw: bytes) -> None:
    reading = read_body(raw, JSON_TYPE)
    assert reading.violations == ()
    assert reading.warnings == ()
    assert reading.body == json.loads(raw)
    assert reading.raw == raw.decode()


TEXT = "a non-empty string"
DATE = "a real date like 2023-01-10T09:00:00.000Z (UTC, milliseconds, Z)"
SOURCE = "a string or an object, or left out"


@pytest.mark.parametrize(
    ("name", "value", "violation"),
    [
        ("status", ABSENT, f"status is missing: it must be {TEXT}"),
        ("status", "", f'status must be {TEXT}, not ""'),
        ("status", None, f"status must be {TEXT}, not null"),
        ("status", 3, f"status must be {TEXT}, not 3"),
        ("status", True, f"status must be {TEXT}, not true"),
        ("status", ["x"], f'status must be {TEXT}, not ["x"]'),
        ("jobId", ABSENT, f"jobId is missing: it must be {TEXT}"),
        ("jobId", "", f'jobId must be {TEXT}, not ""'),
        ("jobId", 17, f"jobId must be {TEXT}, not 17"),
        ("jobId", {}, f"jobId must be {TEXT}, not {{}}"),
        ("eventDate", ABSENT, f"eventDate is missing: it must be {DATE}"),
        ("created", ABSENT, f"created is missing: it must be {DATE}"),
        ("created", None, f"created must be {DATE}, not null"),
        ("created", 1673341200000, f"created must be {DATE}, not 1673341200000"),
        ("eventDate", "2023-01-10T09:00:00Z", f'eventDate must be {DATE}, not "2023-01-10T09:00:00Z"'),
        ("eventDate", "2023-01-10T09:00:00.000000Z", f'eventDate must be {DATE}, not "2023-01-10T09:00:00.000000Z"'),
        (
            "eventDate",
            "2023-01-10T09:00:00.000+00:00",
            f'eventDate must be {DATE}, not "2023-01-10T09:00:00.000+00:00"',
        ),
        ("eventDate", "2023-01-10 09:00:00.000Z", f'eventDate must be {DATE}, not "2023-01-10 09:00:00.000Z"'),
        ("eventDate", "2023-01-10t09:00:00.000z", f'eventDate must be {DATE}, not "2023-01-10t09:00:00.000z"'),
        ("eventDate", "2023-01-10T09:00:00.000Z\n", f'eventDate must be {DATE}, not "2023-01-10T09:00:00.000Z\\n"'),
        ("eventDate", "٢٠٢٣-01-10T09:00:00.000Z", f'eventDate must be {DATE}, not "٢٠٢٣-01-10T09:00:00.000Z"'),
        ("created", "2023-02-29T09:00:00.000Z", f'created must be {DATE}, not "2023-02-29T09:00:00.000Z"'),
        ("created", "2023-13-01T09:00:00.000Z", f'created must be {DATE}, not "2023-13-01T09:00:00.000Z"'),
        ("created", "2023-01-01T24:00:00.000Z", f'created must be {DATE}, not "2023-01-01T24:00:00.000Z"'),
        ("created", "2023-01-01T23:59:60.000Z", f'created must be {DATE}, not "2023-01-01T23:59:60.000Z"'),
        ("created", "0000-01-01T00:00:00.000Z", f'created must be {DATE}, not "0000-01-01T00:00:00.000Z"'),
        ("source", None, f"source must be {SOURCE}, not null"),
        ("source", 5, f"source must be {SOURCE}, not 5"),
        ("source", False, f"source must be {SOURCE}, not false"),
        ("source", [], f"source must be {SOURCE}, not []"),
        ("applicationId", "a-1", "applicationId must not be in the body: it travels in the URL only"),
    ],
)
def test_each_rule_names_the_field_what_was_found_and_what_was_expected(
    name: str, value: object, violation: str
) -> None:
    assert violations(**{name: value}) == (violation,)


def test_every_violation_is_named() -> None:
    named = " ".join(read_body(b'{"source": null, "applicationId": "a"}', "text/plain").violations)
    for subject in ("Content-Type", "status", "jobId", "eventDate", "created", "source", "applicationId"):
        assert f"{subject} " in named


@pytest.mark.parametrize("source", ["", "hellowork.com", {}, {"sourceId": ["deep", {"deeper": None}]}])
def test_source_may_be_any_string_or_object(source: object) -> None:
    assert violations(source=source) == ()


def test_unknown_fields_are_accepted() -> None:
    assert violations(communicationDelay=3, delay=None, Status="x") == ()


@pytest.mark.parametrize("date", ["2024-02-29T00:00:00.000Z", "0001-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z"])
def test_real_dates_are_accepted(date: str) -> None:
    assert violations(created=date, eventDate=date) == ()


@given(st.datetimes(timezones=st.just(UTC)))
@example(datetime(1, 1, 1, tzinfo=UTC))
def test_every_instant_in_the_documented_format_is_accepted(instant: datetime) -> None:
    date = f"{instant:%m-%dT%H:%M:%S}"
    assert violations(eventDate=f"{instant.year:04}-{date}.{instant.microsecond // 1000:03}Z") == ()


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: json.dumps(text).encode()))
def test_no_body_of_another_shape_passes_and_none_is_fatal(raw: bytes) -> None:
    assert raw_violations(raw) != ()


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_only_a_string_or_an_object_passes_as_source(source: object) -> None:
    raw = json.dumps({**GOOD, "source": source}).encode()
    reading = read_body(raw, JSON_TYPE)
    if reading.body is not None:  # NaN and infinities are no JSON
        assert (reading.violations == ()) == isinstance(source, str | dict)


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        'application/json ;charset="UTF-8"',
        "application/json; charset=utf-8; x=y",
        "application/json; x=y; charset=utf-8 ; z",
    ],
)
def test_json_content_types_are_accepted(content_type: str) -> None:
    assert read_body(json.dumps(GOOD).encode(), content_type).violations == ()


@pytest.mark.parametrize(
    ("content_type", "shown"),
    [
        (None, "null"),
        ("text/plain", '"text/plain"'),
        ("application/jsonp", '"application/jsonp"'),
        ("application/json; charset=latin-1", '"application/json; charset=latin-1"'),
        ("application/json; x=y; charset=latin-1", '"application/json; x=y; charset=latin-1"'),
        ("application/json; charset=utf-8; Charset=latin-1", '"application/json; charset=utf-8; Charset=latin-1"'),
    ],
)
def test_other_content_types_are_refused(content_type: str | None, shown: str) -> None:
    expected = f"Content-Type must be application/json, in UTF-8, not {shown}"
    assert read_body(json.dumps(GOOD).encode(), content_type).violations == (expected,)


@pytest.mark.parametrize(
    ("raw", "violation"),
    [
        (b"", "the body must be JSON: Expecting value"),
        (b'{"status": "x",}', "the body must be JSON: "),
        (b"{'status': 'x'}", "the body must be JSON: "),
        (b'{"status": NaN}', "the body must be JSON: NaN is no finite number"),
        (b'{"status": 1e999}', "the body must be JSON: 1e999 is no finite number"),
        (
            b'{"a": 1, "status": "x", "status": "y"}',
            'the body must be JSON: "status" occurs more than once in an object',
        ),
        (b"\xef\xbb\xbf{}", "the body must be JSON: "),
        (b'"text"', 'the body must be a JSON object, not "text"'),
        (b"[]", "the body must be a JSON object, not []"),
        (b"null", "the body must be a JSON object, not null"),
        (b'{"status": "\xff"}', "the body must be JSON: 'utf-8' codec can't decode byte"),
        (b"[" * 30_000, "the body must be JSON: maximum recursion depth exceeded"),
        (
            b"[" * (MAX_NESTING + 1) + b"]" * (MAX_NESTING + 1),
            f"the body must be JSON: it is nested deeper than {MAX_NESTING} levels",
        ),
    ],
)
def test_what_is_no_json_object(raw: bytes, violation: str) -> None:
    [found] = raw_violations(raw)
    assert found.startswith(violation)


def test_the_size_limit_is_inclusive() -> None:
    def padded(size: int) -> bytes:
        raw = json.dumps(GOOD).encode()
        return raw + b" " * (size - len(raw))

    assert raw_violations(padded(MAX_BODY_BYTES)) == ()
    assert raw_violations(padded(MAX_BODY_BYTES + 1)) == (f"the body must not exceed {MAX_BODY_BYTES} bytes",)


def test_a_long_value_is_shortened_in_the_message() -> None:
    [violation] = violations(created="x" * 1_000)
    assert len(violation) < 200


def test_own_side_statuses_are_accepted_with_a_warning() -> None:
    assert {"sending", "sent", "error", "not_found", "unknown"} == OWN_SIDE_STATUSES
    for status in OWN_SIDE_STATUSES:
        reading = read_body(json.dumps({**GOOD, "status": status}).encode(), JSON_TYPE)
        assert reading.violations == ()
        assert reading.warnings == (
            f'status "{status}" describes HelloWork\'s own side of the exchange: an ATS has no reason to send it',
        )
    assert read_body(json.dumps({**GOOD, "status": "Sent"}).encode(), JSON_TYPE).warnings == ()


@given(st.text(min_size=1).filter(lambda text: text.isprintable()))
@example("a/b ?#é%2F")
def test_any_id_survives_its_percent_encoding(application_id: str) -> None:
    reading = read_path(f"/v1/applications/{quote(application_id, safe='')}/status?trace=1")
    assert (reading.application_id, reading.violations) == (application_id, ())


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1/applications/a",
        "/v1/applications//status",
        "/v1/applications/status",
        "/v1/applications/a/b/status",
        "/v1/applications/a/status/",
        "/V1/applications/a/status",
        "/x/v1/applications/a/status",
        "/v1/applications/a?/status",
    ],
)
def test_other_paths_name_no_application(path: str) -> None:
    assert read_path(path).application_id is None


@pytest.mark.parametrize("segment", ["a%", "a%2", "a%zz", "%ff", "é"])
def test_a_badly_encoded_id_is_a_violation(segment: str) -> None:
    reading = read_path(f"/v1/applications/{segment}/status")
    assert reading.application_id == segment
    assert "percent-encoded" in " ".join(reading.violations)
