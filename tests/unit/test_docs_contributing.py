"""CONTRIBUTING.md leads a newcomer to files that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
CELLS = re.findall(r"^\| [^|`]+ \| ([^|]*`[^|]+) \|$", PAGE, re.MULTILINE)

_PATH = re.compile(r".*/$|.*\.(?:py|sql|yaml|po|md)$")


def missing(cell: str) -> list[str]:
    """The paths of a cell that lead nowhere; a bare name is in the folder of the path before it."""
    lost, folder = list[str](), ROOT
    for name in filter(_PATH.match, re.findall(r"`([^`]+)`", cell)):
        found = next((base / name for base in (ROOT, folder) if (base / name).exists()), None)
        if found is None:
            lost.append(name)
        elif "/" in name.rstrip("/") or name.endswith("/"):
            folder = found if found.is_dir() else found.parent
    return lost


def test_each_row_leads_to_files() -> None:
    assert [lost for cell in CELLS for lost in missing(cell)] == []
    assert len(CELLS) > 20
