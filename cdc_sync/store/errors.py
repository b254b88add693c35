"""What can be wrong with the store, said once, with the remedy: the texts are in `errors.yaml`."""

from functools import cache
from importlib.resources import files
from typing import Any, cast

import yaml

from cdc_sync.core.failures import StoreError
from cdc_sync.core.findings import Finding


@cache
def texts() -> dict[str, dict[str, Any]]:
    """The messages by their codes, and names behind a `/`; the remedies by each database's errors; and the findings."""
    text = files("cdc_sync.store").joinpath("errors.yaml").read_text("utf-8")
    return cast("dict[str, dict[str, Any]]", yaml.safe_load(text))


def store_error(name: str, **facts: object) -> StoreError:
    """The error with one of the messages."""
    return StoreError(name.partition("/")[0], texts()["messages"][name].format(**facts).rstrip())


def failed(name: str, **facts: object) -> Finding:
    """One of the findings of `cdc-sync check` about a store that cannot be used, or not by everybody who must."""
    found = texts()["findings"][name]
    return Finding("store", "failed", found["message"].format(**facts), found["remedy"].format(**facts))


def usable(store: str, version: int, newest: int) -> Finding:
    """The finding about a store that can be used."""
    fit = "can be written, and has this version's schema"
    if version < newest:
        fit = f"has schema {version}; the daemon's next start brings it to {newest}"
    return Finding("store", "ok", f"{store} {fit}")


class AnotherDatabaseError(StoreError):
    """The store belongs to another database than the one that the daemon is connected to."""

    def __init__(self, message: str) -> None:
        super().__init__("store-another-database", message)
