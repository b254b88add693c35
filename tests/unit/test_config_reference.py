"""The page of every key is fresh, and has every key."""

import re
from pathlib import Path

from configuration_reference import reference
from support.keys import ANY_NAME, all_sections

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_page_is_fresh() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), (
        "write it anew: python tools/configuration_reference.py > docs/configuration.md"
    )


def test_the_page_has_every_key_of_every_section() -> None:
    page = reference()
    parts = dict(re.findall(r"^## `([^`]+)`\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    parts[""] = page.partition("\n## ")[0]
    for path, keys in all_sections():
        heading = ".".join(path).replace(f".{ANY_NAME}", ".NAME")
        for key in keys:
            below = f"{heading}.{key}" if heading else key
            has_item = f"- **`{key}`**" in parts.get(heading, "")
            assert has_item or any(part.split("[")[0].startswith(below) for part in parts), f"{heading}: {key}"


def test_no_line_is_wider_than_the_others() -> None:
    assert all(len(line) <= 120 and line == line.rstrip() for line in reference().splitlines())
