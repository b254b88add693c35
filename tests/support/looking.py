"""An admin server to be looked at, on a store of its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from multidict import CIMultiDictProxy

from cdc_sync.admin.metrics import Metrics
from cdc_sync.admin.server import AdminServer
from cdc_sync.config import Config
from cdc_sync.core.conditions import NONE, Conditions
from cdc_sync.store.sqlite import SqliteStore
from support.builders import NOW
from support.configurations import a_config

TOKEN = "planted-secret-0123456789"


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: CIMultiDictProxy[str]
    text: str


@dataclass
class Admin:
    """A server that listens, and what it shows."""

    folder: Path
    config: Config
    store: SqliteStore
    session: aiohttp.ClientSession
    metrics: Metrics = field(default_factory=Metrics)
    conditions: Conditions = field(default_factory=lambda: NONE)
    url: str = ""

    async def get(self, path: str, *, authorization: str | None = None, method: str = "GET") -> Answer:
        """Ask for a page."""
        headers = {} if authorization is None else {"Authorization": authorization}
        async with self.session.request(method, self.url + path.removeprefix("/"), headers=headers) as response:
            return Answer(response.status, response.headers, await response.text())

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.url.rstrip("/").rpartition(":")[2])

    async def send(self, request: bytes, *, hang_up: bool = False) -> bytes:
        """Send bytes, say that no more will come if asked to, and read until the server closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request)
        if hang_up:
            writer.write_eof()
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer


@asynccontextmanager
async def admin_server(
    folder: Path, *, listen: str = "127.0.0.1:0", token: str | None = None, now: int = NOW
) -> AsyncIterator[Admin]:
    """Serve a store in this folder; the clock stands still."""
    config = a_config({"admin.listen": listen, "admin.token": token})
    store = SqliteStore(folder / "state.db")
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
            admin = Admin(folder, config, store, session)
            async with AdminServer(config, store, admin.metrics, lambda: admin.conditions, lambda: now) as server:
                admin.url = server.url or ""
                yield admin
    finally:
        await store.close()
