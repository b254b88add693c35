"""Configurations for tests: the least that is valid, with one thing put somewhere."""

from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from cdc_sync.config import Config, ConfigurationError, Problem, Watch, parse

WATCH = "watches.applications"
LEAST = """\
watches:
  applications:
    table: public.applications
    key: [id]
    columns: {application_id: hellowork_id, status: status, job_id: job_id, created: created_at}
"""


def a_text(changes: Mapping[str, Any]) -> str:
    """The least configuration, as YAML, with values put at dotted paths."""
    document = yaml.safe_load(LEAST)
    for path, value in changes.items():
        *above, last = path.split(".")
        section = document
        for key in above:
            section = section.setdefault(key, {})
        section[last] = value
    text: str = yaml.safe_dump(document, sort_keys=False)
    return text


def a_config(changes: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None) -> Config:
    """The least configuration with values put at dotted paths."""
    return parse(a_text(changes or {}), name="config.yaml", environ=environ or {})


def a_watch(changes: Mapping[str, Any] | None = None) -> Watch:
    """The only watch of the least configuration, with values put at dotted paths inside it."""
    return a_config({f"{WATCH}.{path}": value for path, value in (changes or {}).items()}).watches["applications"]


def problems_of(text: str, environ: Mapping[str, str] | None = None) -> list[Problem]:
    """What is wrong with a text; there must be something."""
    with pytest.raises(ConfigurationError) as raised:
        parse(text, name="config.yaml", environ=environ or {})
    return list(raised.value.problems)
