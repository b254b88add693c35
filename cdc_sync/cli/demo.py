"""Placeholder."""


def demo() -> None:
    """Demo."""
