"""The admin server: `/healthz`, `/readyz`, `/metrics`, `/api/status` and a page that shows the same."""

import hmac
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Self

from aiohttp import web
from aiohttp.http import HttpProcessingError

from cdc_sync.admin.metrics import Metrics
from cdc_sync.admin.page import render
from cdc_sync.admin.report import status_report
from cdc_sync.config import Config, HostPort
from cdc_sync.core.conditions import Conditions
from cdc_sync.store.protocol import Store, StoreError

_OPEN = {"/healthz", "/readyz"}
_SAFE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

_LONGEST_FAREWELL = 2.0
"""Seconds that a request under way may take when the daemon ends: a slow reader must not hold it up."""


def _is_bug(record: logging.LogRecord) -> bool:
    # What is no HTTP is answered 400, and that is all: a port scanner must not fill the log with errors.
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_logger = logging.getLogger(__name__)
_logger.addFilter(_is_bug)


class AdminError(Exception):
    """The admin address cannot be listened on."""


class AdminServer:
    """Serves while it is entered; does nothing if `admin.listen` is null.

    Args:
        config: the configuration.
        store: what is reported.
        metrics: what is counted.
        conditions: what is wrong now.
        clock: milliseconds since the epoch.
        hung: the loops that do not get round any more.
    """

    def __init__(
        self,
        config: Config,
        store: Store,
        metrics: Metrics,
        conditions: Callable[[], Conditions],
        clock: Callable[[], int],
        *,
        hung: Callable[[], Sequence[str]] = lambda: (),
    ) -> None:
        self._config = config
        self._hung = hung
        self._store = store
        self._metrics = metrics
        self._conditions = conditions
        self._clock = clock
        self._runner: web.AppRunner | None = None
        self.url: str | None = None

    def use(self, config: Config) -> None:
        """Report on another configuration, and ask for its token, from now on; the address stays."""
        self._config = config

    async def __aenter__(self) -> Self:
        listen = self._config.admin.listen
        if listen is None:
            return self
        host, port = listen.host, listen.port
        app = web.Application(middlewares=[self._guard])
        app.on_response_prepare.append(_make_safe)
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/readyz", self._ready)
        app.router.add_get("/metrics", self._metrics_page)
        app.router.add_get("/api/status", self._status)
        app.router.add_get("/", self._page)
        self._runner = web.AppRunner(
            app, access_log=None, logger=_logger, handle_signals=False, shutdown_timeout=_LONGEST_FAREWELL
        )
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
            self.url = f"http://{HostPort(host, self._runner.addresses[0][1])}/"
        except OSError as error:
            await self._runner.cleanup()
            raise AdminError(
                f"admin.listen {listen} cannot be listened on: {error.strerror}. Is another cdc-sync or another "
                f"program on that port? Choose another one, or null for none."
            ) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Ask for the token, if one is configured, for everything but health."""
        token = self._config.admin.token
        if token is not None and request.path not in _OPEN:
            given = request.headers.get("Authorization", "").removeprefix("Bearer ")
            # Bytes that are no UTF-8 come as lone surrogates.
            if not hmac.compare_digest(given.encode("utf-8", "surrogateescape"), token.get_secret_value().encode()):
                raise web.HTTPUnauthorized(
                    text="admin.token is needed, as `Authorization: Bearer …`\n",
                    headers={"WWW-Authenticate": "Bearer"},
                )
        try:
            return await handler(request)
        except StoreError as error:
            return web.Response(status=503, text=f"{error}\n")

    async def _health(self, _: web.Request) -> web.Response:
        """503 if only a new process can mend it: a database or a HelloWork that is down is no reason."""
        if hung := self._hung():
            return web.Response(status=503, text=f"these do not get round any more: {', '.join(hung)}\n")
        return web.Response(text="ok\n")

    async def _ready(self, _: web.Request) -> web.Response:
        """503 with the reasons, as long as something is wrong that keeps changes from arriving."""
        reasons = [f"{name}: {message}" for name, message in self._conditions().items()]
        try:
            reasons += await self._held()
        except StoreError as error:
            reasons.append(f"store: {error}")
        if reasons:
            return web.Response(status=503, text="".join(f"{reason}\n" for reason in reasons))
        return web.Response(text="ready\n")

    async def _held(self) -> list[str]:
        """What waits for a person, and why."""
        blown = {watch: fuse for watch, fuse in (await self._store.fuses()).items() if fuse.blown_at is not None}
        reasons = [
            f"fuse {watch}: blown, {fuse.reason}; `cdc-sync fuse show` tells more" for watch, fuse in blown.items()
        ]
        for watch in self._config.watches.keys() - blown.keys():
            held = await self._store.entries("held", watch, 1)
            reasons += [f"held {watch}: {entry.reason}; `cdc-sync fuse show` tells more" for entry in held]
        return reasons

    async def _metrics_page(self, _: web.Request) -> web.Response:
        body = await self._metrics.render(self._store, self._conditions(), self._clock())
        return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def _status(self, _: web.Request) -> web.Response:
        report = await status_report(self._config, self._store, self._clock())
        return web.json_response({"daemon": {"running": True, "process": os.getpid()}, **report})

    async def _page(self, _: web.Request) -> web.Response:
        report = await status_report(self._config, self._store, self._clock())
        return web.Response(text=render(report), content_type="text/html")


async def _make_safe(_: web.Request, response: web.StreamResponse) -> None:
    """Every answer gets these headers, also a 404 that no handler of ours makes."""
    response.headers.update(_SAFE_HEADERS)
