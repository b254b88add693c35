"""The examples in config/ and configuring-columns.md are valid as they stand, and nothing in them is suspicious."""

import re
from pathlib import Path

import pytest
import yaml
from support.configurations import LEAST
from support.installation import merged

from cdc_sync.config import parse, warnings

_FOLDER = Path(__file__).parents[2] / "config"
EXAMPLES = sorted({*_FOLDER.rglob("*.yaml")} - {_FOLDER / "compose.yaml", _FOLDER / "kubernetes.yaml"})
ENVIRON = {"HELLOWORK_API_KEY": "a-key", "ADMIN_TOKEN": "a-token-of-16-letters"}
PAGE = _FOLDER.parent / "docs" / "configuring-columns.md"
PIECES = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_an_example_is_valid_as_it_stands(file: Path, tmp_path: Path) -> None:
    text = file.read_text(encoding="utf-8")
    for customer in ("acme", "beta"):
        (tmp_path / customer).write_text("a-key")

    assert warnings(parse(text.replace("/etc/cdc-sync/keys", str(tmp_path)), name=file.name, environ=ENVIRON)) == []
    assert all(len(line) <= 120 and line == line.rstrip() for line in text.splitlines())


@pytest.mark.parametrize("piece", PIECES)
def test_a_piece_of_the_page_is_valid_in_a_watch(piece: str) -> None:
    document = merged(yaml.safe_load(LEAST), {"watches": {"applications": yaml.safe_load(piece)}})

    assert warnings(parse(yaml.safe_dump(document), name="a piece", environ={})) == []
