"""Cutting fields out of an object leaves the others as they were written."""

import json

from hypothesis import given
from hypothesis import strategies as st

from cdc_sync.core.content import only_fields

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
).map(json.dumps) | st.sampled_from(["1.10", "1e400", " 7 ", '\n{"a" : [1.0 ,2]}\t', "12345678901234567890.5"])
OBJECTS = st.dictionaries(st.text(max_size=8), VALUES, min_size=1, max_size=5)


def written(fields: dict[str, str]) -> str:
    return "{" + ", ".join(f"{json.dumps(name)}: {value}" for name, value in fields.items()) + "}"


@given(fields=OBJECTS, data=st.data())
def test_what_stays_is_what_was_written(fields: dict[str, str], data: st.DataObject) -> None:
    names = data.draw(st.sets(st.sampled_from(sorted(fields))))

    kept = only_fields(written(fields), names)

    expected = {name: value.rstrip() for name, value in fields.items() if name in names}
    assert kept == (written(expected) if expected else None)


def test_with_a_value_that_is_nested_deeper_than_python_can_follow_nothing_is_left() -> None:
    deep = "[" * 50_000 + "]" * 50_000

    assert only_fields(written({"delay": "3", "deep": deep}), {"delay"}) is None
