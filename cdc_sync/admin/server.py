"""The admin server: `/healthz`, `/readyz`, `/metrics`, `/api/status`, and the page with its actions."""

import asyncio
import logging
import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self, cast
from urllib.parse import urlencode

from aiohttp import web
from aiohttp.http import HttpProcessingError
from aiohttp.typedefs import Handler
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from cdc_sync.config import Config, HostPort
from cdc_sync.config.models import has_several_accounts
from cdc_sync.core.conditions import STANDBY, Conditions, is_of_one_account, is_standby, kind_of, wrong
from cdc_sync.core.events import ConnectionDisplaced, Emit, PersonActed
from cdc_sync.core.failures import OperationError, StoreError
from cdc_sync.core.reasons import Reason
from cdc_sync.core.visible import visible
from cdc_sync.core.watch_names import first_of
from cdc_sync.event_loop import end, regularly
from cdc_sync.store import Store
from cdc_sync.store.errors import store_error
from cdc_sync.store.operation import Condition

from .access import SAFE_HEADERS, Access, RefusedError
from .acting import ACTIONS, LARGEST_FORM, Present, act, form_of
from .metrics import EventMetrics
from .overview import Trends, overview
from .report import Json, foremost, held_back, lookup, part_of, status_report

_LONGEST_FAREWELL = 2.0
"""Seconds for requests under way at the daemon's end, and for the rest of a body that is refused."""

_SAMPLED_EVERY = 60.0
"""Seconds between the charts' samples."""

_DONE_SHOWN = 60_000
"""Milliseconds for which the page says what was done."""

_REASONS_HIDDEN = "The reasons need admin.token (`Authorization: Bearer …`)."

_LONGEST_PATTERN = 200
"""Characters of a pattern of watches' names: `fnmatch` keeps thousands of them."""

_by: ContextVar[Reason | None] = ContextVar("by")
"""Who brought the token with the admitted request."""

_logger = logging.getLogger(__name__)


def _bugs_alone(record: logging.LogRecord) -> bool:
    """Requests that are no HTTP are not logged, or a port scanner fills the log."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError | web.RequestPayloadError))


_logger.addFilter(_bugs_alone)


class AdminError(OperationError):
    """The admin address cannot be listened on."""

    def __init__(self, address: object, reason: object) -> None:
        super().__init__(
            f"admin.listen {address} cannot be listened on: {reason}. Is another cdc-sync or another program on that "
            f"port? Choose another one, or null for none."
        )


@dataclass(eq=False)
class AdminServer:
    """Serves within `serving`.

    Attributes:
        clock: milliseconds since the epoch.
        places: most connections; a scraper, checks and a few browsers take a dozen. A new one takes the place of the
            oldest, so silent ones keep nobody out.
        url: once it listens.
    """

    config: Config
    metrics: EventMetrics
    conditions: Callable[[], Conditions]
    clock: Callable[[], int]
    observe: Emit
    places: int = 128
    url: str | None = None

    def __post_init__(self) -> None:
        self._trends = Trends(self.metrics)
        self._since: dict[str, int] = {}
        self._acts = deque[PersonActed](maxlen=3)
        self.show(None)
        self.use(self.config)

    def use(self, config: Config) -> None:
        """Use another configuration and its token; the address stays."""
        self.config, self._access = config, Access(config.admin, self.observe)

    def show(self, store: Store | None, present: Present | None = None) -> None:
        """Show another store, or none while it is closed; people may act with `present`, of who leads."""
        self._store, self._present = store, present

    @property
    def _opened(self) -> Store:
        """The store; raises `StoreError` if there is none now."""
        if self._store is None:
            raise store_error("store-not-open")
        return self._store

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Self]:
        """Serve within this, if `admin.listen` is not null; raises `AdminError`."""
        listen = self.config.admin.listen
        if listen is None:
            yield self
            return
        runner = web.AppRunner(
            self._application(),
            access_log=None,
            logger=_logger,
            handle_signals=False,
            # A body is read as it is: unpacked, a few bytes could become gigabytes.
            auto_decompress=False,
            shutdown_timeout=_LONGEST_FAREWELL,
            lingering_time=_LONGEST_FAREWELL,
        )
        await runner.setup()
        server = cast("web.Server", runner.server)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(runner.cleanup)
            try:
                loop = asyncio.get_running_loop()
                listening = await loop.create_server(partial(self._connected, server), listen.host, listen.port)
            except OSError as error:
                raise AdminError(listen, error.strerror or error) from error
            except UnicodeError as error:
                raise AdminError(listen, f"{listen.host} is no host name") from error
            stack.callback(listening.close)
            self.url = f"http://{HostPort(listen.host, listening.sockets[0].getsockname()[1])}/"
            sampling = asyncio.create_task(regularly(self._sample, _SAMPLED_EVERY))
            stack.push_async_callback(end, [sampling])
            yield self

    def _connected(self, server: web.Server) -> web.RequestHandler:
        """Take a connection; a burst may exceed the places until the next one."""
        for oldest in server.connections[: max(len(server.connections) + 1 - self.places, 0)]:
            if oldest.transport is not None and not oldest.transport.is_closing():
                self.observe(ConnectionDisplaced())
                oldest.transport.abort()
        return server()

    async def _sample(self) -> None:
        with suppress(StoreError):
            await self._trends.sample(self._opened, self.clock())

    def _application(self) -> web.Application:
        app = web.Application(middlewares=[self._guard], client_max_size=LARGEST_FORM)
        app.on_response_prepare.append(_make_safe)
        app.add_routes(
            [
                web.get("/healthz", _health),
                web.get("/readyz", self._ready),
                web.get("/metrics", self._metrics),
                web.get("/api/status", self._status),
                web.get("/", self._page),
                web.get("/application", self._story),
                web.static("/static", Path(__file__).parent / "static"),
                *(web.post(path, self._act) for path in ACTIONS),
            ]
        )
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Admit a visitor by the request's headers. A browser gets a refusal as a page, which names no database."""
        try:
            _by.set(await self._access.admit(request))
            return await handler(request)
        except (RefusedError, StoreError) as error:
            status = error.status if isinstance(error, RefusedError) else 503
            if _is_browser(request):
                return self._html(request, "message.html", status=status, title=None, message=error.message)
            return web.Response(status=status, text=f"{error}\n")

    async def _report(self) -> Json:
        """The status report, with this process's conditions, each since its first sight."""
        now, conditions = self.clock(), self.conditions()
        self._since = {name: self._since.get(name, now) for name in conditions}
        here = [Condition(name, message, self._since[name]) for name, message in conditions.items()]
        return await status_report(self.config, self._opened, now, here)

    async def _ready(self, _: web.Request) -> web.Response:
        """503 with the reasons while changes do not arrive; strangers see only the kinds.

        A standby is ready: a rolling update waits for it. Readiness is the daemon's: a condition of one account leaves
        the others' calls alone.
        """
        try:
            held = held_back(await self._report())
        except StoreError as error:
            held = {"store": str(error)}
        conditions = self.conditions()  # afterwards: a locked store answers late
        noted, several = {**held, **conditions}, has_several_accounts(self.config)
        aside = [name for name in conditions if is_standby(name) or (several and is_of_one_account(name))]
        reasons = [name for name in {**held, **wrong(conditions)} if name not in aside]
        shown = foremost(reasons or aside, self.config.watches)
        if _by.get() or self._access.is_loopback:
            lines = first_of([visible(f"{name}: {noted[name]}") for name in shown])
        else:
            lines = [*dict.fromkeys(map(kind_of, shown)), *([_REASONS_HIDDEN] if reasons else [])]
        if not reasons:
            lines.insert(0, "standby" if STANDBY in conditions else "ready")
        return web.Response(status=503 if reasons else 200, text="\n".join([*lines, ""]))

    async def _metrics(self, _: web.Request) -> web.Response:
        body = self.metrics.exposed(await self._report(), self._opened.driver.clock, self.conditions())
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    async def _status(self, request: web.Request) -> web.Response:
        report = part_of(await self._report(), _pattern(request), problems=request.query.get("problems") == "1")
        return web.json_response({"daemon": {"running": True, "process": os.getpid()}, **report})

    async def _page(self, request: web.Request) -> web.Response:
        _pattern(request)
        store, now = self._opened, self.clock()
        await self._trends.sample(store, now)
        seen = await overview(store, await self._report(), self._trends, request.query, now)
        acts = [each for each in self._acts if now - each.at < _DONE_SHOWN]
        return self._html(request, "overview.html", acts=acts, lags=self.metrics.lags(), **seen)

    async def _story(self, request: web.Request) -> web.Response:
        searched = request.query.get("id", "")
        found = await lookup(self.config, self._opened, searched)
        status = 200 if found["stories"] or found["hits"] else 404
        return self._html(request, "application.html", status=status, found=found, searched=searched)

    async def _act(self, request: web.Request) -> web.StreamResponse:
        who = _by.get()
        if who is None:
            raise RefusedError(403, "token-unconfigured")
        form = await form_of(request)
        if self._present is None:
            raise RefusedError(409, "stands-by")
        action, on = request.path.rpartition("/")[2], form.get("endpoint") or form.get("watch")
        by = PersonActed(self.clock(), action, who, 1, on)
        done = await act(self._opened, request.path, form, by, self._present)
        if not _is_browser(request):
            return web.json_response(done.answer)
        self._acts.append(replace(by, count=done.number))
        raise web.HTTPSeeOther(self._address("/", request.query))

    def _address(self, path: str, query: Mapping[str, str]) -> str:
        """A page's address."""
        return f"{self.config.admin.prefix}{path}{'?' if query else ''}{urlencode(query)}"

    def _html(self, request: web.Request, template: str, *, status: int = 200, **values: Any) -> web.Response:
        """A page in the visitor's language, which goes on in its addresses."""
        # Jinja is needed only for the page.
        from .page import chosen, render  # noqa: PLC0415 - as above

        admin = self.config.admin
        language = chosen(request.query.get("language"), request.headers.get("Accept-Language", ""))
        other = urlencode({**request.query, "language": "en" if language.code == "fr" else "fr"})
        text = render(
            template,
            language,
            self.clock(),
            to=lambda path, **query: self._address(path, {**query, "language": language.code}),
            # Of this page; a form's address has none.
            switch=f"?{other}" if request.method == "GET" else f"{admin.prefix}/?{other}",
            prefix=admin.prefix,
            status=status,
            may_act=bool(self._access.token) and self._present is not None,
            **{"title": admin.title or self.config.place(), **values},
        )
        headers = {"Content-Language": language.code, "Vary": "Accept-Language"}
        return web.Response(status=status, text=text, content_type="text/html", headers=headers)


async def _health(_: web.Request) -> web.Response:
    """Whether the event loop turns."""
    return web.Response(text="ok\n")


def _is_browser(request: web.Request) -> bool:
    return "text/html" in request.headers.get("Accept", "")


def _pattern(request: web.Request) -> str | None:
    """The names of watches that are asked for; raises `HTTPBadRequest`."""
    pattern = request.query.get("watch")
    if pattern is not None and len(pattern) > _LONGEST_PATTERN:
        raise web.HTTPBadRequest(text=f"The field watch takes at most {_LONGEST_PATTERN} characters.\n")
    return pattern


async def _make_safe(_: web.Request, response: web.StreamResponse) -> None:
    """Add headers to every answer, also aiohttp's own."""
    response.headers.update(SAFE_HEADERS)
    # Versions help only an attacker.
    response.headers.pop("Server", None)
