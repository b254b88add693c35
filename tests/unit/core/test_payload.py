"""The two documented bodies to the byte, and that no content makes anything but the JSON that was meant."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc_sync.core.content import Content, request

CONTENT = Content(
    status="NEW_STATUS",
    job_id="2022-001-developer",
    deleted=False,
    created=1_672_563_600_000,
    event_date=1_673_341_200_000,
    source='"hellowork.com"',
    extra=None,
    url="https://ats-partner.hellowork.com/v1/applications/1/status",
)
SOURCE_OBJECT = '{"sourceTypeId": "DIRECT_SOURCING", "sourceSubTypeId": "ClientId", "sourceId": "CVCatcherWebsite"}'


def body(content: Content) -> bytes:
    return request("", content)[0]


def idempotency_key(application_id: str, content: Content) -> str:
    return request(application_id, content)[1]


WITH_SOURCE_TEXT = """
    {"status": "NEW_STATUS", "eventDate": "2023-01-10T09:00:00.000Z", "created": "2023-01-01T09:00:00.000Z",
     "jobId": "2022-001-developer", "source": "hellowork.com"}
"""
WITH_SOURCE_OBJECT = """
    {"status": "NEW_STATUS", "eventDate": "2023-01-10T09:00:00.000Z", "created": "2023-01-01T09:00:00.000Z",
     "jobId": "2022-001-developer",
     "source": {"sourceTypeId": "DIRECT_SOURCING", "sourceSubTypeId": "ClientId", "sourceId": "CVCatcherWebsite"}}
"""
# Python's strings, unlike PostgreSQL's, may have half a surrogate pair; JSON writes it as an escape.
TEXTS = st.text(st.characters(exclude_categories=()))
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
OTHER_NAMES = TEXTS.filter(lambda name: name not in {"status", "eventDate", "created", "jobId", "source"})
INSTANTS = st.integers(-62_135_596_800_000, 253_402_300_799_999)
CONTENTS = st.builds(
    Content,
    status=TEXTS,
    job_id=TEXTS,
    deleted=st.booleans(),
    created=INSTANTS,
    event_date=INSTANTS,
    source=st.none() | st.builds(json.dumps, TEXTS | st.dictionaries(TEXTS, JSON_VALUES)),
    extra=st.none() | st.builds(json.dumps, st.dictionaries(OTHER_NAMES, JSON_VALUES)),
    url=st.sampled_from([CONTENT.url, "https://ats-partner.hellowork.com/v1/applications/2/status"]),
)


def pairs(text: str | bytes) -> list[tuple[str, Any]]:
    """A JSON object with its order and its repetitions."""
    found: list[tuple[str, Any]] = json.loads(text, object_pairs_hook=list)
    return found


def without_white_space(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize(
    ("source", "documented"), [('"hellowork.com"', WITH_SOURCE_TEXT), (SOURCE_OBJECT, WITH_SOURCE_OBJECT)]
)
def test_the_documented_examples(source: str, documented: str) -> None:
    sent = body(CONTENT._replace(source=source))

    assert json.loads(sent) == json.loads(documented)
    assert pairs(sent) == pairs(documented)
    assert without_white_space(sent.decode("ascii")) == without_white_space(documented)


def test_a_source_that_is_not_known_is_left_out() -> None:
    assert [name for name, _ in pairs(body(CONTENT._replace(source=None)))] == [
        "status", "eventDate", "created", "jobId",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("extra", "further"),
    [
        (None, []),
        ("{}", []),
        (" { } ", []),
        ('{"communicationDelay": 3}', [("communicationDelay", 3)]),
        (' {"b": "}", "a": [{"c": null}]}\n', [("b", "}"), ("a", [[("c", None)]])]),
    ],
)
def test_extra_fields_come_last_in_their_order(extra: str | None, further: list[tuple[str, Any]]) -> None:
    assert pairs(body(CONTENT._replace(extra=extra)))[5:] == further


def test_numbers_of_the_source_are_not_touched() -> None:
    source = '{"ref": 12345678901234567890.10, "big": 1e400}'

    assert f'"source": {source}'.encode() in body(CONTENT._replace(source=source))


@given(CONTENTS)
def test_any_content_becomes_the_json_object_that_was_meant(content: Content) -> None:
    sent = pairs(body(content))
    names = [name for name, _ in sent]
    fields = dict(sent)

    assert names[:4] == ["status", "eventDate", "created", "jobId"]
    assert len(names) == len(set(names))
    assert fields["status"] == content.status
    assert fields["jobId"] == content.job_id
    assert ("source" in fields) is (content.source is not None)
    if content.source is not None:
        assert fields["source"] == json.loads(content.source, object_pairs_hook=list)
    if content.extra is not None:
        assert sent[len(sent) - len(pairs(content.extra)) :] == pairs(content.extra)


@given(CONTENTS)
def test_what_was_deleted_is_told_by_the_status_alone(content: Content) -> None:
    assert body(content._replace(deleted=False)) == body(content._replace(deleted=True))


def test_the_idempotency_key_is_always_the_same_for_the_same_call() -> None:
    # Written out: a key that changes with a release would make every retry across the update a second call.
    assert idempotency_key("1", CONTENT) == "7e6b05d984a169fbef340f879c62bd78eabc5d5d"
    assert idempotency_key("1", CONTENT._replace()) == idempotency_key("1", CONTENT)


@pytest.mark.parametrize(
    ("application_id", "content"),
    [
        ("2", CONTENT),
        ("1", CONTENT._replace(status="HIRED")),
        ("1", CONTENT._replace(job_id="other")),
        ("1", CONTENT._replace(event_date=CONTENT.event_date + 1)),
        ("1", CONTENT._replace(created=CONTENT.created + 1)),
        ("1", CONTENT._replace(source=None)),
        ("1", CONTENT._replace(extra='{"a": 1}')),
        ("1", CONTENT._replace(url=CONTENT.url + "/")),
        # The same characters, cut elsewhere.
        ("1h", CONTENT._replace(url=CONTENT.url[1:])),
    ],
)
def test_another_call_has_another_idempotency_key(application_id: str, content: Content) -> None:
    assert idempotency_key(application_id, content) != idempotency_key("1", CONTENT)


@given(CONTENTS)
def test_an_idempotency_key_can_stand_in_a_header(content: Content) -> None:
    key = idempotency_key("Ünïcode/1", content)

    assert len(key) == 40
    assert set(key) <= set("0123456789abcdef")
