"""The example configurations in config/ are valid as they stand, and nothing in them is suspicious."""

from pathlib import Path

import pytest

from cdc_sync.config import parse, warnings

_FOLDER = Path(__file__).parents[2] / "config"
EXAMPLES = sorted({*_FOLDER.rglob("*.yaml")} - {_FOLDER / "compose.yaml", _FOLDER / "kubernetes.yaml"})
ENVIRON = {"HELLOWORK_API_KEY": "a-key", "ADMIN_TOKEN": "a-token-of-16-letters"}


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_an_example_is_valid_as_it_stands(file: Path, tmp_path: Path) -> None:
    text = file.read_text(encoding="utf-8")
    for customer in ("acme", "beta"):
        (tmp_path / customer).write_text("a-key")

    assert warnings(parse(text.replace("/etc/cdc-sync/keys", str(tmp_path)), name=file.name, environ=ENVIRON)) == []
    assert all(len(line) <= 120 and line == line.rstrip() for line in text.splitlines())
