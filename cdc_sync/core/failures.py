"""Failures that several layers must understand, though they cannot import each other."""

from typing import Literal


class OperationError(Exception):
    """What was asked for cannot be done; the message is for a person, and says why and what repairs it.

    The command line tells it in one line. It needs this base to do so without loading every part that can fail.
    """


StoreCode = Literal[
    "store-another-database",
    "store-changed",
    "store-copy",
    "store-dsn",
    "store-foreign",
    "store-gone",
    "store-in-use",
    "store-lease-ended",
    "store-lock-file",
    "store-missing",
    "store-newer",
    "store-not-set-up",
    "store-unanswered",
    "store-unopenable",
    "store-unsuitable",
    "store-unusable",
    "store-upgrade",
]
"""What is wrong with the store, for programs and for whoever looks it up in docs/operations.md: stable."""


class StoreError(OperationError):
    """The store cannot do what was asked.

    Attributes:
        code: what is wrong, as a stable name. The message says it, and what repairs it.
    """

    def __init__(self, code: StoreCode, message: str) -> None:
        super().__init__(message)
        self.code = code
