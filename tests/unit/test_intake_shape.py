"""What voids row digests."""

from collections.abc import Mapping
from dataclasses import replace

from support.builders import some_rules

from cdc_sync.ats.intake import shape


def shape_with(extra: Mapping[str, frozenset[str]]) -> str:
    return shape("", replace(some_rules(), extra=extra))


def test_two_extra_fields_that_change_places_are_another_shape() -> None:
    always, once = frozenset[str](), frozenset({"hired"})

    assert shape_with({"a": always, "b": always}) != shape_with({"b": always, "a": always})
    assert shape_with({"a": once, "b": always}) != shape_with({"a": always, "b": once})
    assert shape_with({"a": frozenset({"x", "y"})}) == shape_with({"a": frozenset({"y", "x"})})
