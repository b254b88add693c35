"""The texts of what `cdc-sync check` finds in the ATS's database: each is used, and what is used is there."""

import ast
import re
from pathlib import Path
from typing import get_args

import yaml

from cdc_sync.core.findings import State
from cdc_sync.source import check, check_watch

_FOLDER = Path(check_watch.__file__).parent
_TEXTS = yaml.safe_load((_FOLDER / "findings.yaml").read_text(encoding="utf-8"))
_NAMES = {f"{one}/{what}" for one, texts in _TEXTS.items() if one != "unanswered" for what in texts}


def _used() -> set[str]:
    """Patterns of the names that the modules have, of which a part may be put in."""
    found = set[str]()
    for module in (check, check_watch):
        for node in ast.walk(ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (str(each.value) if isinstance(each, ast.Constant) else "[a-z-]+" for each in node.values)
                found.add("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return {name for name in found if re.fullmatch(r"[a-z-]+/[a-z-]+|\[a-z-\]\+/\S+|[a-z-]+/\[a-z-\]\+", name)}


def test_every_text_is_used_and_every_used_one_is_there() -> None:
    used = _used()
    assert {name for name in _NAMES if not any(re.fullmatch(pattern, name) for pattern in used)} == set()
    assert {pattern for pattern in used if not any(re.fullmatch(pattern, name) for name in _NAMES)} == set()


def test_every_text_has_one_state_and_what_is_well_has_no_remedy() -> None:
    for name in _NAMES:
        one, _, what = name.partition("/")
        text = _TEXTS[one][what]
        (state,) = set(get_args(State)) & set(text)
        assert set(text) <= ({state} if state == "ok" else {state, "remedy"}), name
