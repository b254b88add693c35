"""What a server's version lacks: the only reason for which a test may pass over it."""

import pytest

from support.sessions import Ats


def major(ats: Ats) -> int:
    """The server's major version, as 10 or 18."""
    return ats.info.server_version // 10_000


def needs(ats: Ats, since: int, what: str) -> None:
    """Skip the test where PostgreSQL does not have `what`, which came with the major version `since`."""
    if major(ats) < since:
        pytest.skip(f"PostgreSQL has {what} since version {since}")
