"""Failures that several layers must understand, though they cannot import each other."""


class OperationError(Exception):
    """What was asked for cannot be done; the message is for a person, and says why and what repairs it.

    The command line tells it in one line. It needs this base to do so without loading every part that can fail.
    """


class StoreError(OperationError):
    """The store cannot do what was asked; the message says why and what repairs it."""
