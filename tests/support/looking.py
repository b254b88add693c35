"""An admin server to be looked at, on a store of its own."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import aiohttp
from multidict import CIMultiDictProxy

from cdc_sync.admin.metrics import EventMetrics
from cdc_sync.admin.server import AdminServer
from cdc_sync.config import Config
from cdc_sync.core.batch import Resolved
from cdc_sync.core.conditions import NONE, Conditions, fold
from cdc_sync.core.content import Content
from cdc_sync.core.events import Dispatch, Emit, Event
from cdc_sync.core.reasons import coded
from cdc_sync.core.replies import DeadLetter, Finished, Health
from cdc_sync.core.rows import Unreportable
from cdc_sync.store import Store
from cdc_sync.store.sqlite.driver import SqliteDriver
from support.builders import (
    ENDPOINT,
    HOUR,
    MINUTE,
    NOW,
    WATCH,
    a_baseline,
    a_batch,
    a_content,
    an_observation,
    some_rules,
)
from support.configurations import a_config
from support.store_steps import begin_call, lose_answer

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
    store: Store
    session: aiohttp.ClientSession
    metrics: EventMetrics = field(default_factory=EventMetrics)
    conditions: Conditions = field(default_factory=lambda: NONE)
    url: str = ""
    use: Callable[[Config], None] = field(init=False)
    seen: list[Event] = field(default_factory=list)

    @property
    def emit(self) -> Emit:
        """Have an event counted and remembered, and its condition known."""
        count = Dispatch(self.metrics.handlers).emit

        def emit(event: Event) -> None:
            self.seen.append(event)
            self.conditions = fold(self.conditions, event)
            count(event)

        return emit

    async def get(
        self,
        path: str,
        *,
        authorization: str | None = None,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, str | IO[bytes]] | list[tuple[str, str]] | None = None,
    ) -> Answer:
        """Ask for a page, or send a form; a redirect is not followed."""
        sent = {} if authorization is None else {"Authorization": authorization}
        url = self.url + path.removeprefix("/")
        async with self.session.request(
            method, url, headers={**sent, **(headers or {})}, data=form, allow_redirects=False
        ) as response:
            return Answer(response.status, response.headers, await response.text())

    async def post(self, path: str, form: Mapping[str, str] | None = None, **headers: str) -> Answer:
        """Send a form as a browser does; a header's name is written with _ for each -."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.get(path, method="POST", headers={"Accept": "text/html", **named}, form=form or {})

    def browser(self, login: str = "", token: str = TOKEN) -> "Person":
        """A person's browser, which sends the token by itself."""
        return Person(self, f"Basic {base64.b64encode(f'{login}:{token}'.encode()).decode()}")

    @property
    def port(self) -> int:
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


REFUSED = coded("http-answer", "HTTP %(status)s: %(answer)s", status=400, answer="no")


async def fill(store: Store, application_id: str = "a1", reason: str = REFUSED) -> None:
    """Put one of everything into a store, with an id and a reason of one's choice."""
    rules = some_rules()
    await store.capture.apply(rules, a_baseline(an_observation("known"), an_observation("gone")))
    await store.capture.apply(rules, a_batch(an_observation(application_id, "seen"), now=NOW - HOUR))
    letter = await begin_call(store)
    await store.delivery.complete(
        [Finished(letter, DeadLetter(reason), {"status": 400, "reason": reason, "body": reason}, NOW - HOUR)], {}
    )
    await store.capture.apply(rules, a_batch(an_observation("known", "hired"), now=NOW - MINUTE))
    await lose_answer(store, await begin_call(store), again_at=NOW + MINUTE)
    unreportable = Resolved(application_id, NOW, Unreportable(application_id, (application_id, "2"), reason))
    await store.capture.apply(rules, a_batch(an_observation("gone", deleted=True), unreportable))
    await store.capture.apply(some_rules(max_changes=0), a_batch(an_observation("known2"), now=NOW))
    await store.delivery.complete([], {ENDPOINT: Health("paused", 2, NOW + HOUR, reason)})
    message = coded("endpoint-paused", "paused: %(reason)s", reason=reason)
    await store.operation.set_conditions({f"endpoint {ENDPOINT}": message}, NOW - MINUTE)
    await store.operation.add_repairs("applications", {"missed": 2})


@dataclass
class Person:
    """A browser to which the token was given."""

    admin: Admin
    authorization: str

    async def page(self, path: str = "/") -> str:
        answer = await self.admin.get(path, authorization=self.authorization, headers={"Accept": "text/html"})
        assert answer.status == 200
        return answer.text

    async def press(self, path: str, **form: str) -> Answer:
        own = f"http://127.0.0.1:{self.admin.port}"
        return await self.admin.post(
            path, form, Authorization=self.authorization, Origin=own, Sec_Fetch_Site="same-origin"
        )


async def all_are_applied(watch: str, ids: Sequence[str]) -> Mapping[str, Content]:
    """An ATS in which each application's row says `applied`; other watches are not configured."""
    return {id_: a_content(application_id=id_) for id_ in ids} if watch == WATCH else {}


@asynccontextmanager
async def admin_server(
    folder: Path,
    *,
    listen: str = "127.0.0.1:0",
    token: str | None = None,
    title: str | None = None,
    prefix: str = "",
    dsn: str = "",
    observe: Emit | None = None,
    places: int = 128,
) -> AsyncIterator[Admin]:
    """Serve a store in this folder; the clock stands still."""
    own = {"listen": listen, "token": token, "title": title, "prefix": prefix}
    config = a_config({"database.dsn": dsn, **{f"admin.{name}": value for name, value in own.items()}})
    store = Store(SqliteDriver(folder / "state.db"))
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
            admin = Admin(folder, config, store, session)
            emit = observe or admin.emit
            made = AdminServer(config, admin.metrics, lambda: admin.conditions, lambda: NOW, emit, places)
            made.show(store, all_are_applied)
            store.operation.observe = emit
            async with made.serving() as server:
                admin.url = server.url or ""
                admin.use = server.use
                yield admin
    finally:
        await store.driver.close()
