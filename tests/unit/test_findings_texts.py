"""The texts of what `cdc-sync check` finds in the ATS's database and at HelloWork: each is used, and there."""

import ast
import re
from importlib.resources import files
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from cdc_sync.ats import check, check_watch
from cdc_sync.cli import check as command

_MODULES = {
    "ats/findings.yaml": (check, check_watch),
    "cli/check.yaml": (command,),
}


def _texts(of: str) -> dict[str, dict[str, str]]:
    """The texts by `check/what was found`."""
    text = files("cdc_sync").joinpath(of).read_text(encoding="utf-8")
    found: dict[str, dict[str, dict[str, str]]] = yaml.safe_load(text)
    return {
        f"{one}/{what}": each for one, texts in found.items() if one != "unanswered" for what, each in texts.items()
    }


def _used(modules: tuple[ModuleType, ...]) -> set[str]:
    """Patterns of the names that the modules have, of which a part may be put in."""
    found = set[str]()
    for module in modules:
        for node in ast.walk(ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (str(each.value) if isinstance(each, ast.Constant) else "[a-z-]+" for each in node.values)
                found.add("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    found.discard("cdc-sync/[a-z-]+")  # the user agent
    return {name for name in found if re.fullmatch(r"[a-z-]+/[a-z-]+|\[a-z-\]\+/\S+|[a-z-]+/\[a-z-\]\+", name)}


@pytest.mark.parametrize("of", _MODULES)
def test_every_text_is_used_and_every_used_one_is_there(of: str) -> None:
    used, names = _used(_MODULES[of]), _texts(of)
    assert {name for name in names if not any(re.fullmatch(pattern, name) for pattern in used)} == set()
    assert {pattern for pattern in used if not any(re.fullmatch(pattern, name) for name in names)} == set()
