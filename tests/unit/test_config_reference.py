"""The page of every key is fresh, and has every key."""

from pathlib import Path

from configuration_reference import reference

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_page_is_fresh() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), (
        "write it anew: python tools/configuration_reference.py > docs/configuration.md"
    )
