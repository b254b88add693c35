"""Text from outside cannot steer a terminal, forge a line, or look like another text."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc_sync.core.visible import visible, visible_json, visible_lines


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("refusé · 100 %", "refusé · 100 %"),
        ("entretien\u00a0: RH\u202f!", "entretien\u00a0: RH\u202f!"),  # French typography
        ("👩\u200d💻", "👩\u200d💻"),
        ("\x1b]8;;http://evil\x07ok\x1b]8;;\x07", r"\x1b]8;;http://evil\x07ok\x1b]8;;\x07"),
        ("a\nfailed b\r\tc", r"a\nfailed b\r\tc"),
        ("\x9b2J\x7f\x85", r"\x9b2J\x7f\x85"),
        ("\u202eabc\u2066\u200e\u061c\u2028\u2029", r"\u202eabc\u2066\u200e\u061c\u2028\u2029"),
        ("\ud800", r"\ud800"),
    ],
)
def test_it_is_shown_as_an_escape(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text())
def test_nothing_is_left_that_is_obeyed(text: str) -> None:
    shown = visible(text)

    assert not [c for c in shown if unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"}]
    # Explicit directional formatting of UAX #9.
    assert not [
        c
        for c in shown
        if unicodedata.bidirectional(c) in {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}
    ]
    assert visible(shown) == shown
    assert visible_lines(text).split("\n") == [visible(line) for line in text.split("\n")]


@pytest.mark.parametrize("indent", [None, 2])
@given(text=st.text())
def test_json_means_the_same(text: str, indent: int | None) -> None:
    shown = visible_json(json.dumps({"a": text}, ensure_ascii=False, indent=indent))

    assert json.loads(shown) == {"a": text}
    assert visible_lines(shown) == shown
