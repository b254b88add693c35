"""What voids a sweep's position and row digests."""

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

from support.builders import some_rules

from cdc_sync.pipeline.intake import Intake


def shape_with(extra: Mapping[str, frozenset[str]]) -> str:
    intake = object.__new__(Intake)
    intake.rules, intake.reader = replace(some_rules(), extra=extra), cast("Any", SimpleNamespace(shape=""))
    return intake.shape


def test_two_extra_fields_that_change_places_are_another_shape() -> None:
    always, once = frozenset[str](), frozenset({"hired"})

    assert shape_with({"a": always, "b": always}) != shape_with({"b": always, "a": always})
    assert shape_with({"a": once, "b": always}) != shape_with({"a": always, "b": once})
    assert shape_with({"a": frozenset({"x", "y"})}) == shape_with({"a": frozenset({"y", "x"})})
