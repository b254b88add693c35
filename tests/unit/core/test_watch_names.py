"""Which watches a pattern means, and how many of many are named."""

import pytest

from cdc_sync.core.watch_names import listed, matches

NAMES = ("applications", "applications@tenant_42", "applications@tenant_421", "Applications@été", "a@100%", "a@[x]?")


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("applications@tenant_42", ["applications@tenant_42"]),
        ("applications@tenant_4%", ["applications@tenant_42", "applications@tenant_421"]),
        ("*@tenant_*1", ["applications@tenant_421"]),
        ("applications@tenant-42", []),
        ("%été", ["Applications@été"]),
        ("a@100%", ["a@100%"]),
        ("a@[x]?", ["a@[x]?"]),
        ("a@[a-z]?", []),
        ("a%", [name for name in NAMES if name.startswith("a")]),
        ("%%**", list(NAMES)),
        ("applications@tenant_42%2", []),
        ("%@%@%", []),
        ("", []),
    ],
)
def test_a_pattern_means_names(pattern: str, found: list[str]) -> None:
    assert [name for name in NAMES if matches(pattern, name)] == found


@pytest.mark.parametrize(
    ("number", "text"),
    [(10, ", ".join(f"w{n}" for n in range(10))), (11, "w0, w1, w2, w3, w4, w5, w6, w7, w8, w9 and 1 more")],
)
def test_of_many_names_ten_are_listed(number: int, text: str) -> None:
    assert listed([f"w{n}" for n in range(number)]) == text
