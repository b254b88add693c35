"""What the emulator refuses: a call that HelloWork's page does not allow."""

import json

import pytest

from cdc_sync.emulator.validation import violations

DOCUMENTED_WITH_TEXT_SOURCE = """
    {"status": "NEW_STATUS", "eventDate": "2023-01-10T09:00:00.000Z", "created": "2023-01-01T09:00:00.000Z",
     "jobId": "2022-001-developer", "source": "hellowork.com"}"""
DOCUMENTED_WITH_OBJECT_SOURCE = """
    {"status": "NEW_STATUS", "eventDate": "2023-01-10T09:00:00.000Z", "created": "2023-01-01T09:00:00.000Z",
     "jobId": "2022-001-developer",
     "source": {"sourceTypeId": "DIRECT_SOURCING", "sourceSubTypeId": "ClientId", "sourceId": "CVCatcherWebsite"}}"""

GOOD = {
    "status": "NEW_STATUS",
    "eventDate": "2023-01-10T09:00:00.000Z",
    "created": "2023-01-01T09:00:00.000Z",
    "jobId": "2022-001-developer",
}
ABSENT = object()


def found(**changes: object) -> list[str]:
    body = {name: value for name, value in {**GOOD, **changes}.items() if value is not ABSENT}
    return list(violations(body, "application/json"))


@pytest.mark.parametrize("raw", [DOCUMENTED_WITH_TEXT_SOURCE, DOCUMENTED_WITH_OBJECT_SOURCE])
def test_the_documented_examples_are_good(raw: str) -> None:
    assert list(violations(json.loads(raw), "application/json")) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("status", ""),
        ("jobId", 17),
        ("eventDate", ABSENT),
        ("created", 1673341200000),
        ("eventDate", "2023-01-10T09:00:00.000Z\n"),
        ("eventDate", "٢٠٢٣-01-10T09:00:00.000Z"),
        ("created", "0000-01-01T00:00:00.000Z"),
        ("source", None),
        ("applicationId", "a-1"),
    ],
)
def test_each_rule_names_the_field(name: str, value: object) -> None:
    assert {each.partition(":")[0].partition(".")[0] for each in found(**{name: value})} == {name}
