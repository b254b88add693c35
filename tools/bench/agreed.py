"""What the benchmark and its bare loops must agree on; apart from the rest, so that a bare loop loads nothing else."""

CONCURRENCY = 32
"""Calls under way at once, of the bare client and of the daemon."""


def id_of(table: str, row: int) -> str:
    """The application that a row of a table is about."""
    return f"{table}-{row}"
