"""The admin server: `/healthz`, `/readyz`, `/metrics`, `/api/status`, and the page with its actions."""

import asyncio
import logging
import os
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from dataclasses import KW_ONLY, dataclass
from functools import cache, partial
from importlib.resources import files
from itertools import repeat
from typing import Any, Self
from urllib.parse import parse_qsl, urlencode

from aiohttp import web

from cdc_sync.admin.access import SAFE_HEADERS, Access, Visitor, refuse
from cdc_sync.admin.metrics import EventMetrics, Trends
from cdc_sync.admin.report import Grouped, lookup, overview, status_report
from cdc_sync.admin.watches import LONGEST_PATTERN, Asked, foremost, part_of
from cdc_sync.ats.errors import SourceError
from cdc_sync.config import Config, HostPort
from cdc_sync.config.models import has_several_accounts
from cdc_sync.core.conditions import STANDBY, Conditions, is_of_one_account, is_standby, kind_of, wrong
from cdc_sync.core.events import ConnectionDisplaced, Emit, PersonActed
from cdc_sync.core.failures import OperationError, StoreError
from cdc_sync.core.outbox import EntryId, EntryState
from cdc_sync.core.reasons import Reason, coded
from cdc_sync.core.replies import ALL_ENDPOINTS
from cdc_sync.core.visible import visible
from cdc_sync.core.watch_names import MOST_LISTED
from cdc_sync.listening import Listener, bugs_alone
from cdc_sync.store import Store
from cdc_sync.store.acts import (
    Chosen,
    Discard,
    Pause,
    Release,
    Request,
    Resend,
    Resume,
    Retry,
    SeenEntry,
    execute,
    in_steps,
)
from cdc_sync.store.errors import store_error
from cdc_sync.store.protocol import Condition

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_LONGEST_FAREWELL = 2.0
"""Seconds for requests under way at the daemon's end."""

_SAMPLED_EVERY = 60.0
"""Seconds between the charts' samples."""

_LARGEST_FORM = 8 * 1024
"""Bytes of a request's body."""

_FORM = "application/x-www-form-urlencoded"
"""What a body must be, in UTF-8. Other charsets are not decoded: Python's punycode takes quadratic time."""

_LONGEST_TYPE = 100
_UTF_8_FORM = re.compile(rf'{_FORM}(?:\s*;\s*charset="?utf-?8"?)?\s*', re.IGNORECASE)
"""Its Content-Type. aiohttp's own reading of that header takes quadratic time."""

_STATIC = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
"""Pages' files, and their types."""

_LANGUAGE_COOKIE, _YEAR = "cdc_sync_language", 365 * 24 * 60 * 60

_visitor: ContextVar[Visitor] = ContextVar("visitor")
"""Set by the guard."""

ACTIONS = (
    "/fuse/release",
    "/fuse/discard",
    "/dead-letters/retry",
    "/dead-letters/discard",
    "/resend",
    "/sending/pause",
    "/sending/resume",
)
"""Actions on the page, or by a script with the token."""

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


WithoutLiveRow = Callable[[str, Sequence[str]], Awaitable[Collection[str]]]
"""See `AdminServer`."""


@dataclass(eq=False)
class AdminServer:
    """Serves within `serving`.

    Attributes:
        store: what is shown; None until there is one.
        clock: milliseconds since the epoch.
        without_live_row: returns those of a watch's applications that must not be resent, since no row shows their
            state; raises `SourceError`.
        places: most connections; a scraper, checks and a few browsers take a dozen.
        patience: seconds for a complete request.
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
    patience: float = 10.0
    url: str | None = None

    def __post_init__(self) -> None:
        self._trends = Trends(self.metrics)
        self._leads = True
        self._since: dict[str, int] = {}
        self._grouped: Grouped = {}
        self._access = Access(self.config.admin, time.monotonic, self.observe)
        self._listener: Listener

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
        )
        await runner.setup()
        if runner.server is None:
            raise AssertionError("it was set up")
        wait, displaced = self.patience, lambda: self.observe(ConnectionDisplaced())
        self._listener = Listener(runner.server, most=self.places, request_within=wait, idle=wait, displaced=displaced)
        try:
            await self._listener.open(listen.host, listen.port)
        except OSError as error:
            await runner.cleanup()
            raise AdminError(listen, error.strerror) from error
        self._access.listens_on(self._listener.port)
        self.url = f"http://{HostPort(listen.host, self._listener.port)}/"
        sampling = asyncio.create_task(self._sample())
        try:
            yield self
        finally:
            sampling.cancel()
            await asyncio.wait({sampling})
            self._listener.close()
            await runner.cleanup()
            self._listener.abort()

    async def _sample(self) -> None:
        while True:
            with suppress(StoreError):
                await self._trends.sample(self._opened, self.clock())
            await asyncio.sleep(_SAMPLED_EVERY)

    def _application(self) -> web.Application:
        app = web.Application(middlewares=[self._guard], client_max_size=_LARGEST_FORM)
        app.on_response_prepare.append(_make_safe)
        app.add_routes(
            [
                web.get("/healthz", self._health),
                web.get("/readyz", self._ready),
                web.get("/metrics", self._metrics_page),
                web.get("/api/status", self._status),
                web.get("/", self._page),
                web.get("/application", self._story),
                *(web.get(f"/static/{name}", _static) for name in _STATIC),
                *(web.post(path, self._act) for path in ACTIONS),
                web.post("/login", self._log_in),
                web.post("/logout", self._log_out),
            ]
        )
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Admit a visitor by the request's headers; actions check more. A browser gets a refusal as a page."""
        with self._listener.answering(request):
            try:
                _visitor.set(await self._access.visitor(request))
                return await handler(request)
            except StoreError as error:
                if _is_browser(request):
                    # A form's address has no page.
                    again = "" if request.method == "GET" else f"{self.config.admin.prefix}/"
                    return self._html(request, "failure.html", status=503, message=error.message, again=again)
                return web.Response(status=503, text=f"{error}\n")
            except web.HTTPUnauthorized:
                if _is_browser(request):
                    return self._log_in_form(request, refused=False)
                raise
            except web.HTTPClientError as refusal:
                why = next(iter(refusal.args), None)
                if not isinstance(why, Reason) or not _is_browser(request):
                    raise
                return self._html(request, "refusal.html", status=refusal.status, message=why)

    async def _health(self, _: web.Request) -> web.Response:
        """Whether the event loop turns."""
        return web.Response(text="ok\n")

    async def _ready(self, _: web.Request) -> web.Response:
        """503 with the reasons while changes do not arrive; strangers see only the kinds.

        A standby is ready: a rolling update waits for it.
        """
        try:
            held = await self._held()
        except StoreError as error:
            held = {"store": str(error)}
        # Afterwards: a locked store answers late.
        conditions = {each.name: each.message for each in self._wrong_here()}
        of_one = set(filter(self._is_of_one_account_of_several, conditions))
        found = {name: message for name, message in wrong(conditions).items() if name not in of_one}
        reasons = {**found, **held, **found}  # a condition of the store's name says more
        aside = {name: message for name, message in conditions.items() if is_standby(name) or name in of_one}
        shown = reasons or aside
        if self._access.is_stranger(_visitor.get()):
            lines = [*dict.fromkeys(map(kind_of, shown)), *([_REASONS_HIDDEN] if reasons else [])]
        else:
            named = foremost(shown, self.config.watches)
            lines = [visible(f"{name}: {message}") for name, message in named.items()]
            lines += [f"and {len(shown) - len(named)} more"] if len(named) < len(shown) else []
        first = "standby" if STANDBY in conditions else "ready"
        text = "\n".join([*lines, ""] if reasons else [first, *lines, ""])
        return web.Response(status=503 if reasons else 200, text=text)

    def _is_of_one_account_of_several(self, name: str) -> bool:
        """Readiness is the daemon's: a condition of one account leaves the others' calls alone."""
        return is_of_one_account(name) and has_several_accounts(self.config)

    def _wrong_here(self) -> list[Condition]:
        """This process's conditions, each since its first sight."""
        now, conditions = self.clock(), self.conditions()
        self._since = {name: self._since.get(name, now) for name in conditions}
        return [Condition(name, message, self._since[name]) for name, message in conditions.items()]

    async def _held(self) -> dict[str, str]:
        more = "; see `cdc-sync fuse show`"
        fuses = await self._opened.operation.fuses()
        blown = {watch: fuse for watch, fuse in fuses.items() if fuse.blown_at is not None}
        reasons = {f"fuse {watch}": f"blown, {fuse.reason}{more}" for watch, fuse in blown.items()}
        oldest = await self._opened.report.oldest("held")
        held = {watch: entry for watch, entry in oldest.items() if watch not in blown}
        return reasons | {f"held {watch}": f"{entry.reason}{more}" for watch, entry in sorted(held.items())}

    async def _metrics_page(self, request: web.Request) -> web.Response:
        from cdc_sync.admin.exposition import exposed  # noqa: PLC0415 - its header says why

        self.metrics.per_watch = len(self.config.watches) <= MOST_LISTED
        accepted = ",".join(request.headers.getall("Accept", ())).replace('"', "")
        await self.metrics.update(self._opened, self.conditions(), self.clock())
        body, content_type = await exposed(self.metrics.collect(), accepted)
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _status(self, request: web.Request) -> web.Response:
        pattern, problems = _pattern(request), request.query.get("problems") == "1"
        report = await status_report(self.config, self._opened, self.clock(), self._wrong_here())
        if request.query:
            report = part_of(report, pattern, problems=problems)
        return web.json_response({"daemon": {"running": True, "process": os.getpid()}, **report})

    async def _page(self, request: web.Request) -> web.Response:
        _pattern(request)
        now = self.clock()
        await self._trends.sample(self._opened, now)
        lags, grouped = self.metrics.lag.capture(), self._grouped
        here = self._wrong_here()
        asked = Asked.from_query(request.query)
        seen = await overview(
            self.config, self._opened, self._trends.bars, lags, now, grouped=grouped, here=here, asked=asked
        )
        visitor, done = _visitor.get(), list[tuple[str, int]]()
        if visitor.session is not None:
            # Shown once.
            done, visitor.session.done = visitor.session.done, done
        has_actions = self._access.has_actions and self._leads
        return self._html(request, "overview.html", overview=seen, visitor=visitor, done=done, has_actions=has_actions)

    async def _story(self, request: web.Request) -> web.Response:
        searched = request.query.get("id", "")
        found = await lookup(self.config, self._opened, searched)
        status = 200 if found["stories"] or found["hits"] else 404
        visitor = _visitor.get()
        return self._html(request, "application.html", status=status, visitor=visitor, found=found, searched=searched)

    async def _act(self, request: web.Request) -> web.StreamResponse:
        visitor = _visitor.get()
        fields = await self._fields_of_actor(request, visitor)
        if not self._leads:
            raise _refuse("stands-by")
        watches = set(self.config.watches)
        if request.path != "/resend":  # the present state of the others is unknown
            watches |= (await self._opened.report.counts()).keys()
        who = coded("by-token", "the token from %(address)s", address=request.remote)
        if visitor.session is not None:
            name, address = visitor.session.name, request.remote
            who = coded("by-session", "the page's session %(name)s from %(address)s", name=name, address=address)
        now, (on, *_) = self.clock(), fields.get("endpoint") or fields.get("watch") or [""]
        by = PersonActed(now, request.path.rpartition("/")[2], who, 1, on or None)
        what, number, answer = await act(self._opened, request.path, watches, fields, by, self.without_live_row)
        if visitor.session is None:
            return web.json_response(answer)
        visitor.session.done.append((what, number))
        raise web.HTTPSeeOther(self._access.home)

    async def _fields_of_actor(self, request: web.Request, visitor: Visitor) -> Mapping[str, Sequence[str]]:
        """The form of a visitor who may act; raises `HTTPException`."""
        self._access.insist_on_actor(visitor)
        fields = await _fields(request)
        self._access.insist_on_form(visitor, fields.get("form_token", [""])[0])
        return fields

    async def _log_in(self, request: web.Request) -> web.StreamResponse:
        fields = await _fields(request)
        if not await self._access.is_token(request, fields.get("token", [""])[0]):
            return self._log_in_form(request, refused=True)
        return self._access.log_in(request)

    def _html(self, request: web.Request, template: str, *, status: int = 200, **values: Any) -> web.Response:
        """A page in the visitor's language; a cookie keeps a requested one."""
        # Jinja is needed only for the page.
        from cdc_sync.admin.page import chosen, render  # noqa: PLC0415 - as above

        asked, admin = request.query.get("language"), self.config.admin
        language = chosen((asked, request.cookies.get(_LANGUAGE_COOKIE)), request.headers.get("Accept-Language", ""))
        headers = {"Content-Language": language.code, "Vary": "Accept-Language, Cookie"}
        other = "en" if language.code == "fr" else "fr"
        # Relative: right behind any proxy. The answer to a form has no page.
        switch = f"?{urlencode([*((k, v) for k, v in request.query.items() if k != 'language'), ('language', other)])}"
        values |= {"prefix": admin.prefix, "switch": switch if request.method == "GET" else f"{admin.prefix}/{switch}"}
        # For admitted visitors alone.
        values["title"] = (admin.title or self.config.place()) if "visitor" in values else None
        text = render(template, language, self.clock(), **values)
        response = web.Response(status=status, text=text, content_type="text/html", headers=headers)
        if asked == language.code:
            path = self._access.home
            response.set_cookie(_LANGUAGE_COOKIE, asked, max_age=_YEAR, path=path, httponly=True, samesite="Strict")
        return response

    def _log_in_form(self, request: web.Request, *, refused: bool) -> web.Response:
        response = self._html(request, "login.html", status=401, refused=refused)
        response.headers["WWW-Authenticate"] = "Bearer"
        return response

    async def _log_out(self, request: web.Request) -> web.StreamResponse:
        await self._fields_of_actor(request, _visitor.get())
        return self._access.log_out(request)


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


async def _fields(request: web.Request) -> Mapping[str, Sequence[str]]:
    """A form's texts, none without a body. Raises `HTTPException`, by the headers alone where they suffice."""
    if not request.body_exists:
        return {}
    kind, length = request.headers.get("Content-Type", ""), request.content_length or 0
    is_form = len(kind) <= _LONGEST_TYPE and _UTF_8_FORM.fullmatch(kind) is not None
    if not is_form or "Content-Encoding" in request.headers:
        raise refuse(web.HTTPUnsupportedMediaType, "form-kind", kind=_FORM)
    if length > _LARGEST_FORM:
        raise refuse(partial(web.HTTPRequestEntityTooLarge, _LARGEST_FORM, length), "form-long", longest=_LARGEST_FORM)
    fields: dict[str, list[str]] = {}
    try:
        text = (await request.read()).decode()
        for name, value in parse_qsl(text, keep_blank_values=True, errors="strict"):
            fields.setdefault(name, []).append(value)
    except (UnicodeDecodeError, web.RequestPayloadError, ConnectionError) as error:
        raise web.HTTPBadRequest(text="This body is no form in UTF-8.\n") from error
    return fields


async def _make_safe(_: web.Request, response: web.StreamResponse) -> None:
    """Add headers to every answer, also aiohttp's own."""
    response.headers.update(SAFE_HEADERS)
    # Versions help only an attacker.
    response.headers.pop("Server", None)


_refuse = partial(refuse, web.HTTPConflict)
"""Refuse an action that makes no sense, or no longer."""


async def act(  # noqa: PLR0917 - what a form means, and what it acts on
    store: Store,
    action: str,
    watches: Collection[str],
    fields: Mapping[str, Sequence[str]],
    by: PersonActed,
    without_live_row: WithoutLiveRow,
) -> tuple[str, int, Mapping[str, Any]]:
    """Do a form's action; returns what was done, to how many entries, and the answer's JSON.

    A page is older than the press of its button. So discarding everything is refused if the page's number is outdated,
    and a release sends no more than the page showed of each transition.

    Args:
        store: the store.
        action: one of `ACTIONS`.
        watches: of the configuration and the store.
        fields: a watch, applications or all, transitions with their shown numbers; or an endpoint.
        by: who acts, and when.
        without_live_row: see `AdminServer`.

    Raises:
        web.HTTPConflict: it makes no sense, or no longer.
    """
    # An empty one would not restrict.
    if empty := [name for name in ("watch", "application_id", "transition", "endpoint") if "" in fields.get(name, ())]:
        raise _refuse("field-empty", field=empty[0])
    one = {name: next(iter(values), "") for name, values in fields.items()}
    if action.startswith("/sending/"):
        paused = await _pause_or_resume(store, action, one.get("endpoint", ""), by, is_for_all=bool(one.get("all")))
        return "resumed" if action == "/sending/resume" else "paused", 1, {"paused": sorted(paused)}
    watch, ids = one.get("watch"), fields.get("application_id")
    if watch is not None and watch not in watches:
        raise _refuse("no-watch", watch=repr(watch))
    if watch is None and not ids and not one.get("all"):
        raise _refuse("unnamed")
    seen = _seen(fields.get("transition") or [None], fields.get("number") or ())
    if action == "/dead-letters/retry":
        what, found = "retried", await _decide(store, "dead", watch, ids, [(None, None)], Retry, by)
    elif action == "/resend":
        what, found = "resent", await _resend(store, watch, ids, by, without_live_row) if watch and ids else []
        if not found:
            raise _refuse("not-resent")
    elif action == "/fuse/release":
        what, found = "released", await _decide(store, "held", watch, ids, seen, partial(Release, watch), by)
    else:
        state: EntryState = "dead" if action == "/dead-letters/discard" else "held"
        await _insist_on_seen(store, state, watch, ids, seen)
        what, found = "discarded", await _decide(store, state, watch, ids, seen, partial(Discard, state, watch), by)
    each = [{"watch": name, "application_id": id_} for name, id_ in found]
    return what, len(found), {what: len(found) if what == "released" else each}


async def _resend(
    store: Store, watch: str, ids: Sequence[str], by: PersonActed, without_live_row: WithoutLiveRow
) -> list[tuple[str, str]]:
    try:
        gone = await without_live_row(watch, ids)
    except SourceError as error:
        raise _refuse("rows-unread", reason=error.message) from error
    there = [id_ for id_ in ids if id_ not in gone]
    if not there:
        raise _refuse("no-row", watch=watch)
    return await in_steps(lambda some: execute(store.driver, Resend(watch, some, by), by.at), there)


async def _decide(  # noqa: PLR0917 - which entries are meant, and what is done
    store: Store,
    state: EntryState,
    watch: str | None,
    ids: Sequence[str] | None,
    seen: Sequence[tuple[str | None, int | None]],
    decision: Callable[[tuple[SeenEntry, ...], PersonActed], Request[list[EntryId]]],
    by: PersonActed,
) -> list[EntryId]:
    found = list[EntryId]()
    for transition, number in seen:
        chosen = Chosen(ids=tuple(ids) if ids else None, transition=transition, limit=number)
        entries = await store.operation.chosen(state, watch, chosen)
        found += await in_steps(lambda some: execute(store.driver, decision(some, by), by.at), entries)
    return found


def _seen(transitions: Sequence[str | None], numbers: Sequence[str]) -> list[tuple[str | None, int | None]]:
    """The seen number (None: not given) of each transition, or of all (None)."""
    # int() is slow for thousands of digits.
    if not all(number.isascii() and number.isdigit() and len(number) < 10 for number in numbers):  # noqa: PLR2004
        raise _refuse("no-number")
    if numbers and len(numbers) != len(transitions):
        raise _refuse("numbers")
    return list(zip(transitions, map(int, numbers) if numbers else repeat(None), strict=False))


async def _pause_or_resume(
    store: Store, action: str, endpoint: str, by: PersonActed, *, is_for_all: bool
) -> Collection[str]:
    if not endpoint and not is_for_all:
        raise _refuse("no-endpoint-named")
    if endpoint and not await store.delivery.has_endpoint(endpoint):
        raise _refuse("no-endpoint", endpoint=repr(endpoint))
    kind = Resume if action == "/sending/resume" else Pause
    return await execute(store.driver, kind(endpoint or ALL_ENDPOINTS, by), by.at)


async def _insist_on_seen(
    store: Store,
    state: EntryState,
    watch: str | None,
    ids: Sequence[str] | None,
    seen: Sequence[tuple[str | None, int | None]],
) -> None:
    there: Counter[str | None] = Counter()
    if state == "held":
        for group in await store.operation.held_groups(watch, Chosen(ids=tuple(ids) if ids else None)):
            there.update({group.transition: group.number, None: group.number})
    elif ids is not None:
        return
    else:
        there[None] = sum(of.dead for name, of in (await store.report.counts()).items() if watch in {None, name})
    for transition, number in seen:
        if number not in {None, there[transition]}:
            what = there[transition] if transition is None else f"{there[transition]} {transition}"
            raise _refuse("changed-meanwhile", now=what, before=number)
