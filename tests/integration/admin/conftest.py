from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.looking import Admin, admin_server


@pytest.fixture
async def admin(tmp_path: Path) -> AsyncIterator[Admin]:
    """A server on loopback, without a token."""
    async with admin_server(tmp_path) as opened:
        yield opened
