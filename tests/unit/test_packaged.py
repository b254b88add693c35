"""The package's tables."""

from pathlib import Path

import pytest
import yaml

import cdc_sync
from cdc_sync import packaged

PACKAGE = Path(cdc_sync.__file__).parent


@pytest.mark.exhaustive
def test_tables_are_the_same_where_libyaml_is_missing() -> None:
    for file in PACKAGE.rglob("*.yaml"):
        path = file.relative_to(PACKAGE).as_posix()
        assert packaged.data(path) == yaml.safe_load(packaged.text(path)), path
