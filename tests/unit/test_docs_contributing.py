"""CONTRIBUTING.md leads a newcomer to files and names that exist."""

import re
from pathlib import Path

from cdc_sync.ats.capture import Capture
from cdc_sync.ats.intake import Intake

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| ([^|`][^|]*) \| ([^|]*`[^|]+) \|$", PAGE, re.MULTILINE)

_PATH = re.compile(r".*/$|.*\.(?:py|sql|yaml|j2|po|md)$")
_NAME = re.compile(r"[A-Za-z_]+$")


def places(cell: str) -> list[tuple[str, list[Path]]]:
    """What a cell names as a path, and where that is; a bare name is in the folder of the path before it."""
    found, folder = list[tuple[str, list[Path]]](), ROOT
    for name in re.findall(r"`([^`]+)`", cell):
        if _PATH.match(name):
            from_root = [*ROOT.glob(_glob(name))]
            found.append((name, from_root or [*folder.glob(_glob(name))]))
            if from_root:
                folder = ROOT / name if name.endswith("/") else (ROOT / name).parent
    return found


def _glob(name: str) -> str:
    return re.sub(r"N+_….", "[0-9]*.", name).rstrip("/")


def test_each_row_leads_to_files_that_have_what_it_names() -> None:
    for what, cell in ROWS:
        found = places(cell)
        files = [file for _, matches in found for file in matches if file.is_file()]
        text = "\n".join(file.read_text(encoding="utf-8") for file in files)

        assert [name for name, matches in found if not matches] == [], what
        assert [name for name in re.findall(r"`([^`]+)`", cell) if _NAME.match(name) and name not in text] == [], what


def test_a_path_that_does_not_exist_is_found() -> None:
    assert [bool(matches) for _, matches in places("`cdc_sync/core/diff.py`, `batch.py`, `nowhere.py`")] == [
        True,
        True,
        False,
    ]


def test_there_are_rows() -> None:
    assert len(ROWS) > 40


def test_another_kind_of_capture_implements_methods_that_exist() -> None:
    section = PAGE.partition("## Another kind of capture")[2]
    methods = [
        name
        for cell in re.findall(r"^ +\| (`[^|]+) \|", section, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", cell)
    ]

    assert [name for name in methods if not hasattr(Capture, name)] == []
    assert [name for name in re.findall(r"`Intake\.(\w+)`", section) if not hasattr(Intake, name)] == []
    assert len(methods) > 5
