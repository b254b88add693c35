"""The admin server: `/healthz`, `/readyz`, `/metrics`, `/api/status`, and the page with its actions."""

import asyncio
import logging
import os
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from dataclasses import KW_ONLY, dataclass
from functools import cache, partial
from importlib.resources import files
from typing import Any, Self
from urllib.parse import urlencode

from aiohttp import web

from cdc_sync.admin.access import SAFE_HEADERS, Access, Visitor, refuse
from cdc_sync.admin.acting import ACTIONS, LARGEST_FORM, WithoutLiveRow, act, form_of
from cdc_sync.admin.metrics import EventMetrics
from cdc_sync.admin.overview import HeldGroups, Trends, overview
from cdc_sync.admin.report import held_back, status_report
from cdc_sync.admin.story import lookup
from cdc_sync.admin.watches import LONGEST_PATTERN, foremost, part_of
from cdc_sync.config import Config, HostPort
from cdc_sync.config.models import has_several_accounts
from cdc_sync.core.conditions import STANDBY, Conditions, is_of_one_account, is_standby, kind_of, wrong
from cdc_sync.core.events import ConnectionDisplaced, Emit, PersonActed
from cdc_sync.core.failures import OperationError, StoreError
from cdc_sync.core.reasons import Reason
from cdc_sync.core.visible import visible
from cdc_sync.listening import bugs_alone, listening_at
from cdc_sync.store import Store
from cdc_sync.store.errors import store_error
from cdc_sync.store.protocol import Condition

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_LONGEST_FAREWELL = 2.0
"""Seconds for requests under way at the daemon's end, and for the rest of a body that is refused."""

_SAMPLED_EVERY = 60.0
"""Seconds between the charts' samples."""

_DONE_SHOWN = 60_000
"""Milliseconds for which the page says what was done."""

_STATIC = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
"""Pages' files, and their types."""

_visitor: ContextVar[Visitor | None] = ContextVar("visitor", default=None)
"""The sender of this request; None if it is refused. A connection, which may be a proxy's, has one context."""

_REASONS_HIDDEN = "The reasons need admin.token (`Authorization: Bearer …`)."

_logger = logging.getLogger(__name__)
_logger.addFilter(bugs_alone)


class AdminError(OperationError):
    """The admin address cannot be listened on."""

    def __init__(self, address: object, reason: str | None) -> None:
        super().__init__(
            f"admin.listen {address} cannot be listened on: {reason}. Is another cdc-sync or another program on that "
            f"port? Choose another one, or null for none."
        )


@dataclass(frozen=True)
class _Act:
    """An act that the page shows: what was done to how many, by whom, and when."""

    at: int
    what: str
    number: int
    who: Reason


@dataclass(eq=False)
class AdminServer:
    """Serves within `serving`.

    Attributes:
        store: what is shown; None until there is one.
        clock: milliseconds since the epoch.
        without_live_row: returns those of a watch's applications that must not be resent, since no row shows their
            state; raises `SourceError`.
        places: most connections; a scraper, checks and a few browsers take a dozen.
        url: once it listens.
    """

    config: Config
    store: Store | None
    metrics: EventMetrics
    conditions: Callable[[], Conditions]
    clock: Callable[[], int]
    _: KW_ONLY
    without_live_row: WithoutLiveRow
    observe: Emit = lambda _: None
    places: int = 128
    url: str | None = None

    def __post_init__(self) -> None:
        self._trends = Trends(self.metrics)
        self._leads = True
        self._since: dict[str, int] = {}
        self._groups = HeldGroups()
        self._acts = deque[_Act](maxlen=3)
        self._access = Access(self.config.admin, self.observe)

    def use(self, config: Config) -> None:
        """Use another configuration and its token; the address stays."""
        self.config = config
        self._access.use(config.admin)

    def lead(self, store: Store) -> None:
        """Show the store of this daemon, which leads, and let people act."""
        self.store, self._leads = store, True

    def show(self, store: Store) -> None:
        """Show the store of another daemon, which leads."""
        self.store, self._leads = store, False

    def leave(self) -> None:
        """The store closes."""
        self.store = None

    @property
    def _opened(self) -> Store:
        """The store; raises `StoreError` if there is none now."""
        if self.store is None:
            raise store_error("store-not-open")
        return self.store

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
            # A packed form is refused as it is.
            auto_decompress=False,
            shutdown_timeout=_LONGEST_FAREWELL,
            lingering_time=_LONGEST_FAREWELL,
        )
        await runner.setup()
        if runner.server is None:
            raise AssertionError("it was set up")

        def displaced() -> None:
            self.observe(ConnectionDisplaced())

        try:
            listening = await listening_at(runner.server, listen.host, listen.port, self.places, displaced)
        except OSError as error:
            await runner.cleanup()
            raise AdminError(listen, error.strerror) from error
        self.url = f"http://{HostPort(listen.host, listening.sockets[0].getsockname()[1])}/"
        sampling = asyncio.create_task(self._sample())
        try:
            yield self
        finally:
            sampling.cancel()
            await asyncio.wait({sampling})
            listening.close()
            await runner.cleanup()

    async def _sample(self) -> None:
        while True:
            with suppress(StoreError):
                await self._trends.sample(self._opened, self.clock())
            await asyncio.sleep(_SAMPLED_EVERY)

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
                *(web.get(f"/static/{name}", _static) for name in _STATIC),
                *(web.post(path, self._act) for path in ACTIONS),
            ]
        )
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Admit a visitor by the request's headers. A browser gets a refusal as a page."""
        try:
            _visitor.set(None)
            _visitor.set(await self._access.admit(request))
            return await handler(request)
        except StoreError as error:
            if _is_browser(request):
                return self._html(request, "message.html", status=503, message=error.message)
            return web.Response(status=503, text=f"{error}\n")
        except web.HTTPClientError as refusal:
            why = next(iter(refusal.args), None)
            if not isinstance(why, Reason) or not _is_browser(request):
                raise
            return self._html(request, "message.html", status=refusal.status, message=why)

    async def _report(self) -> dict[str, Any]:
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
        several = has_several_accounts(self.config)
        aside = {name for name in conditions if is_standby(name) or (several and is_of_one_account(name))}
        found = {name: message for name, message in wrong(conditions).items() if name not in aside}
        reasons = {**found, **held, **found}  # a condition of the store's name says more
        shown = reasons or {name: conditions[name] for name in conditions if name in aside}
        visitor = _visitor.get()
        if (visitor is not None and visitor.has_token) or self._access.is_loopback:
            named = foremost(shown, self.config.watches)
            lines = [visible(f"{name}: {message}") for name, message in named.items()]
            lines += [f"and {len(shown) - len(named)} more"] if len(named) < len(shown) else []
        else:
            lines = [*dict.fromkeys(map(kind_of, shown)), *([_REASONS_HIDDEN] if reasons else [])]
        first = "standby" if STANDBY in conditions else "ready"
        text = "\n".join([*lines, ""] if reasons else [first, *lines, ""])
        return web.Response(status=503 if reasons else 200, text=text)

    async def _metrics(self, request: web.Request) -> web.Response:
        accepted = ",".join(request.headers.getall("Accept", ())).replace('"', "")
        report = await self._report()
        body, content_type = await self.metrics.exposed(report, self._opened, self.conditions(), accepted)
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _status(self, request: web.Request) -> web.Response:
        report = part_of(await self._report(), _pattern(request), problems=request.query.get("problems") == "1")
        return web.json_response({"daemon": {"running": True, "process": os.getpid()}, **report})

    async def _page(self, request: web.Request) -> web.Response:
        _pattern(request)
        store, now = self._opened, self.clock()
        await self._trends.sample(store, now)
        report, lags = await self._report(), self.metrics.lag.capture()
        seen = await overview(store, report, lags, self._trends, self._groups, request.query, now)
        acts = [each for each in self._acts if now - each.at < _DONE_SHOWN]
        return self._html(request, "overview.html", overview=seen, acts=acts)

    async def _story(self, request: web.Request) -> web.Response:
        searched = request.query.get("id", "")
        found = await lookup(self.config, self._opened, searched)
        status = 200 if found["stories"] or found["hits"] else 404
        return self._html(request, "application.html", status=status, found=found, searched=searched)

    async def _act(self, request: web.Request) -> web.StreamResponse:
        visitor = _visitor.get()
        if visitor is None or not visitor.has_token:
            raise refuse(web.HTTPForbidden, "token-unconfigured")
        form = await form_of(request)
        if not self._leads:
            raise refuse(web.HTTPConflict, "stands-by")
        store, now, watches = self._opened, self.clock(), set(self.config.watches)
        if request.path != "/resend":  # the present state of the others is unknown
            watches |= (await store.report.counts()).keys()
        action = request.path.rpartition("/")[2]
        by = PersonActed(now, action, visitor.who, 1, form.endpoint or form.watch)
        done = await act(store, request.path, form, by, watches, self.without_live_row)
        if not _is_browser(request):
            return web.json_response(done.answer)
        self._acts.append(_Act(now, done.what, done.number, visitor.who))
        raise web.HTTPSeeOther(_address(self.config.admin.prefix, request.query.get("language"), "/"))

    def _html(self, request: web.Request, template: str, *, status: int = 200, **values: Any) -> web.Response:
        """A page in the visitor's language."""
        # Jinja is needed only for the page.
        from cdc_sync.admin.page import chosen, render  # noqa: PLC0415 - as above

        language = chosen(request.query.get("language"), request.headers.get("Accept-Language", ""))
        other, query = "en" if language.code == "fr" else "fr", dict(request.query)
        prefix = self.config.admin.prefix
        # A form's address has no page. Relative: right behind any proxy.
        switch = (
            f"?{urlencode({**query, 'language': other})}" if request.method == "GET" else _address(prefix, other, "/")
        )
        may_act = self._access.has_actions and self._leads
        to = partial(_address, prefix, query.get("language"))
        values |= {"to": to, "switch": switch, "prefix": prefix, "language_asked": "language" in query}
        values |= {"status": status, "may_act": may_act}
        values["title"] = (self.config.admin.title or self.config.place()) if _visitor.get() else None
        text = render(template, language, self.clock(), **values)
        headers = {"Content-Language": language.code, "Vary": "Accept-Language"}
        return web.Response(status=status, text=text, content_type="text/html", headers=headers)


def _address(prefix: str, language: str | None, path: str, **query: str | int) -> str:
    """A page's address, with the query that is not empty; a requested language goes on."""
    asked = {name: value for name, value in {"language": language, **query}.items() if value}
    return f"{prefix}{path}{'?' if asked else ''}{urlencode(asked)}"


async def _health(_: web.Request) -> web.Response:
    """Whether the event loop turns."""
    return web.Response(text="ok\n")


async def _static(request: web.Request) -> web.Response:
    name = request.path.rpartition("/")[2]
    return web.Response(body=_content_of(name), content_type=_STATIC[name], charset="utf-8")


@cache
def _content_of(name: str) -> bytes:
    return files("cdc_sync.admin").joinpath("static", name).read_bytes()


def _is_browser(request: web.Request) -> bool:
    return "text/html" in request.headers.get("Accept", "")


def _pattern(request: web.Request) -> str | None:
    """The names of watches that are asked for; raises `HTTPBadRequest`."""
    pattern = request.query.get("watch")
    if pattern is not None and len(pattern) > LONGEST_PATTERN:
        raise refuse(web.HTTPBadRequest, "pattern-long", longest=LONGEST_PATTERN)
    return pattern


async def _make_safe(_: web.Request, response: web.StreamResponse) -> None:
    """Add headers to every answer, also aiohttp's own."""
    response.headers.update(SAFE_HEADERS)
    # Versions help only an attacker.
    response.headers.pop("Server", None)
