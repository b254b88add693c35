"""The pieces of configuration in docs/configuring-columns.md are valid."""

import re
from pathlib import Path

import pytest
import yaml
from support.configurations import LEAST
from support.installation import merged

from cdc_sync.config import parse, warnings

PAGE = Path(__file__).parents[2] / "docs" / "configuring-columns.md"
PIECES = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("piece", PIECES)
def test_a_piece_is_valid_in_a_watch(piece: str) -> None:
    least = yaml.safe_load(LEAST)
    document = merged(least, {"watches": {"applications": yaml.safe_load(piece)}})

    assert warnings(parse(yaml.safe_dump(document), name="a piece", environ={})) == []
