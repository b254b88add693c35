"""How the demo itself can fail."""


class DemoError(Exception):
    """Something that the demo needs did not happen; the message says what, and where to look."""
