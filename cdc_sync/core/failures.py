"""Failures that several layers handle without importing each other."""


class OperationError(Exception):
    """The operation cannot be done; the message is for a person, with the cause and the remedy.

    The command line prints it without loading every part that can fail.
    """


class CodedError(OperationError):
    """One with a stable name, its `code`, in docs/messages.md."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class StoreError(CodedError):
    """The store cannot do the operation; `store/errors.yaml` has the codes."""
