"""The two documented bodies to the byte, and that no content makes anything but the JSON that was meant."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import a_content

from cdc_sync.core.content import Content, request

CONTENT = a_content("NEW_STATUS", source='"hellowork.com"')


def body(content: Content) -> bytes:
    return request("", content)[0]


def idempotency_key(application_id: str, content: Content) -> str:
    return request(application_id, content)[1]


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
