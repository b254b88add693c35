"""Failures that several layers must understand, though they cannot import each other."""


class OperationError(Exception):
    """What was asked for cannot be done; the message is for a person, and says why and what repairs it.

    The command line tells it in one line. It needs this base to do so without loading every part that can fail.
    """


class StoreError(OperationError):
    """The store cannot do what was asked.

    Attributes:
        code: what is wrong, as a stable name, for programs and for whoever looks it up in docs/operations.md; one of
            `store/errors.yaml`.
        message: what is wrong, and what repairs it.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
