"""The admin server: `/healthz`, `/readyz`, `/metrics`, `/api/status`, and the page, through which a person may act."""

import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from functools import cache, partial
from importlib.resources import files
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from cdc_sync.admin import actions, sending
from cdc_sync.admin.access import SAFE_HEADERS, Access, Guesses, Visitor
from cdc_sync.admin.actions import CannotActError, Done, Wish, wish_of
from cdc_sync.admin.language import Language, preferred
from cdc_sync.admin.metrics import EventMetrics
from cdc_sync.admin.overview import overview, story
from cdc_sync.admin.report import status_report
from cdc_sync.config import Config, HostPort
from cdc_sync.core.conditions import Conditions, kind_of, wrong
from cdc_sync.core.failures import OperationError
from cdc_sync.core.observations import ConnectionDisplaced, Observe
from cdc_sync.core.visible import visible
from cdc_sync.listening import Listener, bugs_alone
from cdc_sync.store.protocol import StoreError
from cdc_sync.store.store import Store

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Act = Callable[[Store, Wish, int], Awaitable[Done]]

_LONGEST_FAREWELL = 2.0
"""Seconds that a request under way may take when the daemon ends: a slow reader must not hold it up."""

_LARGEST_FORM = 64 * 1024
"""Bytes of a request's body."""

_ACTIONS: Mapping[str, Act] = {
    "/fuse/release": actions.release,
    "/fuse/discard": partial(actions.discard, state="held"),
    "/dead-letters/retry": actions.retry,
    "/dead-letters/discard": partial(actions.discard, state="dead"),
}

_SENDING = {"/sending/pause": sending.pause, "/sending/resume": sending.resume}

_STATIC = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
"""The files that pages refer to, and what they are."""

_visitor: ContextVar[Visitor] = ContextVar("visitor")
"""Whom the guard let in, for whatever answers his request."""

_REASONS_FOR_WHOM = "The reasons are for whoever has admin.token (`Authorization: Bearer …`)."

_DONE = {
    "released": ("{number} entry was released.", "{number} entries were released."),
    "discarded": ("{number} entry was discarded.", "{number} entries were discarded."),
    "paused": ("Sending is paused.", "Sending is paused."),
    "resumed": ("Sending is resumed.", "Sending is resumed."),
    "retried": ("{number} dead letter is sent again.", "{number} dead letters are sent again."),
}
_TOO_MANY_GUESSES = "Too many wrong tokens were given. Try again in ten seconds."

TEXTS = (*(text for pair in _DONE.values() for text in pair), _TOO_MANY_GUESSES)
"""The texts of this module."""


_logger = logging.getLogger(__name__)
_logger.addFilter(bugs_alone)


class AdminError(OperationError):
    """The admin address cannot be listened on."""

    @classmethod
    def at(cls, address: object, reason: str | None) -> Self:
        """The system refuses the address for a reason."""
        return cls(
            f"admin.listen {address} cannot be listened on: {reason}. Is another cdc-sync or another program on that "
            f"port? Choose another one, or null for none."
        )


class AdminServer:
    """Serves while it is entered; does nothing if `admin.listen` is null.

    Args:
        config: the configuration.
        store: what is reported, and acted upon.
        metrics: what is counted.
        conditions: what is wrong now.
        clock: milliseconds since the epoch.
        hung: the loops that do not get round any more.
        observe: takes what happens at the door.
        places: connections at once: a scraper, health checks and a few browsers take a dozen.
        patience: seconds that a connection may take for a complete request, at its beginning and after each answer.
        longest_wait: seconds that a guess of the token waits for its turn, at most.
    """

    def __init__(
        self,
        config: Config,
        store: Store,
        metrics: EventMetrics,
        conditions: Callable[[], Conditions],
        clock: Callable[[], int],
        *,
        hung: Callable[[], Sequence[str]] = lambda: (),
        observe: Observe = lambda _: None,
        places: int = 128,
        patience: float = 10.0,
        longest_wait: float = 10.0,
    ) -> None:
        self._config = config
        self._places = places
        self._patience = patience
        self._hung = hung
        self._store = store
        self._metrics = metrics
        self._conditions = conditions
        self._clock = clock
        self._access = Access(config.admin, time.monotonic, Guesses(time.monotonic, longest_wait), observe)
        self._observe = observe
        self._runner: web.AppRunner | None = None
        self._listener: Listener | None = None
        self.url: str | None = None

    def use(self, config: Config) -> None:
        """Report on another configuration, and ask for its token, from now on; the address stays."""
        self._config = config
        self._access.use(config.admin)

    async def __aenter__(self) -> Self:
        listen = self._config.admin.listen
        if listen is None:
            return self
        host, port = listen.host, listen.port
        self._runner = web.AppRunner(
            self._application(),
            access_log=None,
            logger=_logger,
            handle_signals=False,
            shutdown_timeout=_LONGEST_FAREWELL,
        )
        await self._runner.setup()
        if self._runner.server is None:
            raise AssertionError("it was set up")
        self._listener = Listener(
            self._runner.server,
            most=self._places,
            request_within=self._patience,
            idle=self._patience,
            displaced=lambda: self._observe(ConnectionDisplaced()),
        )
        try:
            await self._listener.open(host, port)
        except OSError as error:
            await self._runner.cleanup()
            raise AdminError.at(listen, error.strerror) from error
        bound = self._listener.port
        self._access.listens_on(bound)
        self.url = f"http://{HostPort(host, bound)}/"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is None or self._listener is None:
            return
        self._listener.close()
        await self._runner.cleanup()
        self._listener.abort()

    def _application(self) -> web.Application:
        app = web.Application(middlewares=[self._guard], client_max_size=_LARGEST_FORM)
        app.on_response_prepare.append(_make_safe)
        router = app.router
        router.add_get("/healthz", self._health)
        router.add_get("/readyz", self._ready)
        router.add_get("/metrics", self._metrics_page)
        router.add_get("/api/status", self._status)
        router.add_get("/", self._page)
        router.add_get("/application", self._story)
        for path in (*_ACTIONS, *_SENDING):
            router.add_post(path, self._act)
        router.add_post("/login", self._log_in)
        router.add_post("/logout", self._log_out)
        for name in _STATIC:
            router.add_get(f"/static/{name}", self._static)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let in who may; an action asks again, and for more. What is refused is told a browser as a page."""
        if self._listener is None:
            raise AssertionError("nothing comes in that was not listened for")
        with self._listener.answering(request):
            return await self._answer(request, handler)

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            if not _is_open(request.path):
                _visitor.set(await self._access.visitor(request))
            return await handler(request)
        except StoreError as error:
            return web.Response(status=503, text=f"{error}\n")
        except web.HTTPUnauthorized:
            if not _is_browser(request):
                raise
            return _log_in_form(request, refused=False)
        except CannotActError as error:
            return _refusal(request, 409, str(error))
        except web.HTTPForbidden as refusal:
            return _refusal(request, 403, refusal.text or "")
        except web.HTTPTooManyRequests as refusal:
            if not _is_browser(request):
                raise
            message = _language(request).text(_TOO_MANY_GUESSES)
            answer = _refusal(request, 429, message)
            answer.headers["Retry-After"] = refusal.headers["Retry-After"]
            return answer

    async def _health(self, _: web.Request) -> web.Response:
        """503 if only a new process can mend it: a database or a HelloWork that is down is no reason."""
        if hung := self._hung():
            return web.Response(status=503, text=f"these do not get round any more: {', '.join(hung)}\n")
        return web.Response(text="ok\n")

    async def _ready(self, _: web.Request) -> web.Response:
        """503 with the reasons, as long as something is wrong that keeps changes from arriving.

        A daemon that waits for its turn is ready: it could take over, and a rolling update waits for it.
        Beyond loopback a stranger is told of which kinds they are, and no watch's, host's or file's name.
        """
        try:
            held = await self._held()
        except StoreError as error:
            held = {"store": str(error)}
        # Afterwards: a store that is locked takes its time to say so.
        conditions = self._conditions()
        bad = wrong(conditions)
        reasons = {**bad, **held}
        is_stranger = self._access.is_stranger(_visitor.get())
        if not reasons:
            return web.Response(text="".join(["ready\n", *_lines(conditions, is_stranger=is_stranger)]))
        lines = _lines(reasons, is_stranger=is_stranger)
        return web.Response(status=503, text="".join([*lines, f"{_REASONS_FOR_WHOM}\n"] if is_stranger else lines))

    async def _held(self) -> dict[str, str]:
        """What waits for a person, and why."""
        fuses = await self._store.fuses()
        blown = {watch: fuse for watch, fuse in fuses.items() if fuse.blown_at is not None}
        reasons = {
            f"fuse {watch}": f"blown, {fuse.reason}; `cdc-sync fuse show` tells more" for watch, fuse in blown.items()
        }
        # None: of all watches the oldest, in case one that is configured no more holds something.
        held = {
            entry.watch: entry.reason
            for watch in (*sorted(self._config.watches.keys() | fuses.keys()), None)
            for entry in await self._store.entries("held", watch, 1)
        }
        return reasons | {
            f"held {watch}": f"{reason}; `cdc-sync fuse show` tells more"
            for watch, reason in held.items()
            if watch not in blown
        }

    async def _metrics_page(self, _: web.Request) -> web.Response:
        body = await self._metrics.render(self._store, self._conditions(), self._clock())
        return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def _status(self, _: web.Request) -> web.Response:
        report = await status_report(self._config, self._store, self._clock())
        return web.json_response({"daemon": {"running": True, "process": os.getpid()}, **report})

    async def _page(self, request: web.Request) -> web.Response:
        seen = await overview(self._config, self._store, self._metrics.lag.capture(), self._clock())
        visitor, messages = _visitor.get(), list[str]()
        if visitor.session is not None:
            # They are for this page alone.
            messages, visitor.session.messages = visitor.session.messages, messages
        return _html(
            request,
            "overview.html",
            now=seen.now,
            overview=seen,
            visitor=visitor,
            has_actions=self._access.has_actions,
            messages=messages,
        )

    async def _story(self, request: web.Request) -> web.Response:
        told = await story(self._store, request.query.get("id", ""), self._clock())
        status = 200 if told.chapters else 404
        searched, visitor = told.application_id, _visitor.get()
        return _html(
            request, "application.html", status=status, now=told.now, story=told, visitor=visitor, searched=searched
        )

    async def _act(self, request: web.Request) -> web.StreamResponse:
        fields = await _fields(request)
        visitor = _visitor.get()
        self._access.insist_on_actor(request, visitor, fields.get("form_token", [""])[0])
        if request.path in _SENDING:
            done = await _SENDING[request.path](self._store, fields)
        else:
            watches = self._config.watches.keys() | (await self._store.counts()).keys()
            done = await _ACTIONS[request.path](self._store, wish_of(watches, fields), self._clock())
        if visitor.session is None:
            return web.json_response(done.answer)
        one, many = _DONE[done.what]
        visitor.session.messages.append(_language(request).counted(one, many, done.number))
        raise web.HTTPSeeOther("/")

    async def _log_in(self, request: web.Request) -> web.StreamResponse:
        self._access.insist_on_ourselves(request)
        fields = await _fields(request)
        if not await self._access.is_token(request, fields.get("token", [""])[0]):
            return _log_in_form(request, refused=True)
        response = web.Response(status=303, headers={"Location": "/"})
        self._access.log_in(request, response)
        return response

    async def _log_out(self, request: web.Request) -> web.StreamResponse:
        form_token = (await _fields(request)).get("form_token", [""])[0]
        self._access.insist_on_actor(request, _visitor.get(), form_token)
        response = web.Response(status=303, headers={"Location": "/"})
        self._access.log_out(request, response)
        return response

    async def _static(self, request: web.Request) -> web.Response:
        name = request.path.rpartition("/")[2]
        return web.Response(body=_static(name), content_type=_STATIC[name], charset="utf-8")


@cache
def _static(name: str) -> bytes:
    return files("cdc_sync.admin").joinpath("static", name).read_bytes()


def _is_open(path: str) -> bool:
    """What anybody may ask for, under any name: what the log-in form is made of, and the log-in itself."""
    return path == "/login" or path.startswith("/static/")


def _is_browser(request: web.Request) -> bool:
    return "text/html" in request.headers.get("Accept", "")


def _language(request: web.Request) -> Language:
    return preferred(request.headers.get("Accept-Language", ""))


def _html(request: web.Request, template: str, *, status: int = 200, now: int = 0, **values: Any) -> web.Response:
    # Brings Jinja along, which a daemon whose page nobody looks at does not need.
    from cdc_sync.admin.page import render  # noqa: PLC0415 - as above

    language = _language(request)
    headers = {"Content-Language": language.code, "Vary": "Accept-Language, Cookie"}
    text = render(template, language, now, **values)
    return web.Response(status=status, text=text, content_type="text/html", headers=headers)


def _log_in_form(request: web.Request, *, refused: bool) -> web.Response:
    response = _html(request, "login.html", status=401, refused=refused)
    response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _refusal(request: web.Request, status: int, message: str) -> web.Response:
    if not _is_browser(request):
        return web.Response(status=status, text=f"{message.rstrip()}\n")
    return _html(request, "refusal.html", status=status, message=message)


async def _fields(request: web.Request) -> Mapping[str, Sequence[str]]:
    """A form's texts, by name.

    Raises:
        HTTPBadRequest: it is no form: another encoding than it says, another charset than there is, broken off.
    """
    fields: dict[str, list[str]] = {}
    try:
        form = await request.post()
    except web.HTTPException:
        raise
    except Exception as error:  # whatever a body does to the parser is its sender's mistake
        raise web.HTTPBadRequest(text="This body is no form.\n") from error
    for name, value in form.items():
        if isinstance(value, str):
            fields.setdefault(name, []).append(value)
    return fields


async def _make_safe(_: web.Request, response: web.StreamResponse) -> None:
    """Every answer gets these headers, also a 404 that no handler of ours makes."""
    response.headers.update(SAFE_HEADERS)


def _lines(conditions: Conditions, *, is_stranger: bool) -> list[str]:
    """Conditions for `/readyz`; for a stranger their kinds alone."""
    if is_stranger:
        return [f"{kind}\n" for kind in dict.fromkeys(map(kind_of, conditions))]
    return [visible(f"{name}: {message}") + "\n" for name, message in conditions.items()]
