from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.looking import TOKEN, Admin, admin_server


@pytest.fixture
async def admin(tmp_path: Path) -> AsyncIterator[Admin]:
    """A server on loopback, without a token."""
    async with admin_server(tmp_path) as opened:
        yield opened


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Admin]:
    """A server on loopback, with a token."""
    async with admin_server(tmp_path, token=TOKEN) as opened:
        yield opened
