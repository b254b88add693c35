"""The one failure that both sides of the store must understand: whoever uses a store cannot import it."""


class StoreError(Exception):
    """The store cannot do what was asked; the message says why and what repairs it."""
