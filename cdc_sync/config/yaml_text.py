"""YAML that we write for people."""

import math
from typing import Any

import yaml


def block(document: Any) -> str:
    """A document as YAML, as people write it: its innermost lists and mappings each on one line."""
    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=1000, default_flow_style=None)
    return text.rstrip("\n")


def in_yaml(value: str, style: str | None = None) -> str:
    """A text as YAML on one line, in the given kind of quotes; nothing in it is taken for a reference."""
    written = value.replace("${", "$${")
    text: str = yaml.safe_dump(written, default_style=style, allow_unicode=True, width=math.inf)
    return text.removesuffix("...\n").rstrip()
