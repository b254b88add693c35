"""What can be wrong with the store, said once, with the remedy: the texts are in `errors.yaml`."""

from functools import cache
from importlib.resources import files
from typing import cast

import yaml

from cdc_sync.core.failures import StoreCode, StoreError


@cache
def texts() -> dict[str, dict[str, str]]:
    """The messages by their codes, and names behind a `/`; and the remedies by each database's errors."""
    text = files("cdc_sync.store").joinpath("errors.yaml").read_text("utf-8")
    return cast("dict[str, dict[str, str]]", yaml.safe_load(text))


def store_error(name: str, **facts: object) -> StoreError:
    """The error with one of the messages."""
    return StoreError(cast("StoreCode", name.partition("/")[0]), texts()["messages"][name].format(**facts).rstrip())


class AnotherDatabaseError(StoreError):
    """The store belongs to another database than the one that the daemon is connected to."""

    def __init__(self, message: str) -> None:
        super().__init__("store-another-database", message)
