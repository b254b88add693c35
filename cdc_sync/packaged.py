"""The texts and tables in files of the package."""

from functools import cache
from importlib.resources import files
from typing import Any

import yaml

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # not in every build; the other takes ten times as long


@cache
def text(path: str) -> str:
    """A file by its path in the package."""
    return files("cdc_sync").joinpath(path).read_text("utf-8")


@cache
def data(path: str) -> Any:
    """The content of a YAML file."""
    return yaml.load(text(path), _LOADER)  # noqa: S506 - both are safe
