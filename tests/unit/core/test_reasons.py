"""Reasons keep their code and values on their way through the store, and stay sentences for everybody else."""

import copy
import json

from cdc_sync.core.reasons import Reason, as_text, coded, fields_of, filled, from_text, joined

_INNER = coded("http-answer", "HTTP %(status)s: %(answer)s", status=503, answer='"100 %"')
_OUTER = coded("given-up", "given up after %(attempts)s attempts: %(reason)s", attempts=3, reason=_INNER)


def test_a_reason_is_its_english_sentence() -> None:
    assert _OUTER == 'given up after 3 attempts: HTTP 503: "100 %"'
    assert json.dumps({"reason": _INNER}) == '{"reason": "HTTP 503: \\"100 %\\""}'
    assert copy.deepcopy(_OUTER) is _OUTER


def test_what_is_stored_is_read_with_its_code_and_values_also_of_a_reason_inside() -> None:
    found = from_text(as_text(_OUTER))
    assert isinstance(found, Reason)
    assert (found, found.code, found.values) == (_OUTER, "given-up", _OUTER.values)
    inner = found.values["reason"]
    assert isinstance(inner, Reason)
    assert (inner.code, inner.values) == ("http-answer", _INNER.values)


def test_a_sentence_that_an_earlier_version_stored_stays_one() -> None:
    assert as_text("HTTP 503") == "HTTP 503"
    assert from_text("HTTP 503") == "HTTP 503"
    assert not isinstance(from_text("HTTP 503"), Reason)
    assert as_text(None) is from_text(None) is None
    for odd in ('{"reason":', '{"reason":"x"}'):
        assert from_text(odd) == odd
    assert fields_of("HTTP 503") == {"reason": "HTTP 503"}


def test_a_value_that_is_no_number_is_kept_as_text_and_a_number_as_a_whole_one() -> None:
    assert coded("url-port", "%(port)s is not a TCP port", port=None).values == {"port": "None"}
    assert coded("lag", "more than %(seconds)s s", seconds=60.4).values == {"seconds": 60}


def test_several_reasons_are_one() -> None:
    assert joined(["a"]) == "a"
    assert joined(["a", "b", "c"]) == "a; b; c"


def test_a_text_of_a_file_has_its_places_in_braces() -> None:
    made = filled("disk", "{answer} on {place}", answer="no room", place="/var")
    assert (made, made.code, made.values) == ("no room on /var", "disk", {"answer": "no room", "place": "/var"})
