"""The texts and tables in files of the package."""

import re
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # not in every build; the other takes ten times as long


@cache
def text(path: str) -> str:
    """A file by its path in the package."""
    return files("cdc_sync").joinpath(path).read_text("utf-8")


def sections(sql: str) -> dict[str, str]:
    """The parts of a text of SQL by name (`-- name: …`), without comment lines."""
    _, *parts = re.split(r"^-- name: (\w+)\n", sql, flags=re.MULTILINE)
    bodies = (re.sub(r"^--.*\n?", "", body, flags=re.MULTILINE).strip("\n") for body in parts[1::2])
    return dict(zip(parts[::2], bodies, strict=True))


@cache
def data(path: str) -> Any:
    """The content of a YAML file."""
    return yaml.load(text(path), _LOADER)  # noqa: S506 - both are safe
