"""A sweep's place as text: what cannot be understood, or means something else now, is nothing to go on with."""

import json
import os
from typing import Any

import pytest

from cdc_sync.pipeline.sweep import FINISHED, SweepPosition, size_of

LAST = 1_000
PLACE = SweepPosition(
    shape="as it was",
    last=LAST,
    after=('é "1"', "2"),
    rows=7,
    at=5,
    seconds=1.5,
    repaired={"gone": 3},
    marks=bytearray(os.urandom(size_of(LAST))),
)


def test_it_survives() -> None:
    assert SweepPosition.from_text(PLACE.to_text(), PLACE.shape) == PLACE


def test_before_the_first_page_it_survives_too() -> None:
    place = SweepPosition("as it was", last=0, marks=bytearray(b"\0"))

    assert SweepPosition.from_text(place.to_text(), "as it was") == place


@pytest.mark.parametrize("text", [None, FINISHED])
def test_where_no_sweep_was_interrupted(text: str | None) -> None:
    assert SweepPosition.from_text(text, PLACE.shape) is None


def test_of_something_else() -> None:
    assert SweepPosition.from_text(PLACE.to_text(), "as it is now") is None


def changed(**fields: Any) -> str:
    return json.dumps({**json.loads(PLACE.to_text()), **fields})


def without(name: str) -> str:
    return json.dumps({key: value for key, value in json.loads(PLACE.to_text()).items() if key != name})


def damaged(marks: str) -> str:
    """One bit of the compressed marks is another."""
    middle = len(marks) // 2
    return marks[:middle] + ("A" if marks[middle] != "A" else "B") + marks[middle + 1 :]


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "7",
        "null",
        PLACE.to_text()[:-9],
        without("after"),
        without("marks"),
        without("last"),
        changed(last="1000"),
        changed(after=7),
        changed(marks="no base64!"),
        changed(marks="AAAA"),
        changed(marks=None),
        changed(last=LAST + 8),
        changed(marks=damaged(json.loads(PLACE.to_text())["marks"])),
        changed(unknown=1),
    ],
)
def test_that_cannot_be_understood(text: str) -> None:
    assert SweepPosition.from_text(text, PLACE.shape) is None


@pytest.mark.parametrize(("order", "bound"), [("none", 170_000), ("the key's", 1_000)])
def test_its_size_for_a_million_records(order: str, bound: int) -> None:
    """Marks in no order at all do not compress; those of a table whose keys grow as its records do nearly vanish."""
    size = size_of(1_000_000)
    half = b"\xff" * (size // 2) + b"\0" * (size - size // 2)
    marks = bytearray(os.urandom(size) if order == "none" else half)
    place = SweepPosition("as it was", 1_000_000, ("1",), marks=marks)

    text = place.to_text()

    assert len(text) < bound
    assert SweepPosition.from_text(text, "as it was") == place
