from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from support.store_backends import BACKENDS, Backend, OpenStore

from cdc_sync.store.protocol import Store


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    return BACKENDS[request.param](tmp_path)


@pytest.fixture
async def open_store(backend: Backend) -> AsyncIterator[OpenStore]:
    async with AsyncExitStack() as opened:

        async def open_once_more() -> Store:
            store = await backend.open()
            opened.push_async_callback(store.close)
            return store

        yield open_once_more


@pytest.fixture
async def store(open_store: OpenStore) -> Store:
    return await open_store()
