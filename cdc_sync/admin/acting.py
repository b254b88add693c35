"""What a form asks for: its fields, and the act.

A page is older than the press of its button. So an act takes of each transition at most as many entries as the page
showed, the oldest first; an entry that has become something else since then has another transition.
"""

import re
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

from cdc_sync.admin.access import refuse
from cdc_sync.ats.errors import SourceError
from cdc_sync.core.events import PersonActed
from cdc_sync.core.outbox import EntryId, EntryState
from cdc_sync.core.replies import ALL_ENDPOINTS
from cdc_sync.store import Store
from cdc_sync.store.acts import (
    Chosen,
    Discard,
    Pause,
    Request,
    Resend,
    Resume,
    SeenEntry,
    Send,
    execute,
    in_steps,
)

LARGEST_FORM = 8 * 1024
"""Bytes of a request's body."""

_FORM = "application/x-www-form-urlencoded"
"""What a body must be, in UTF-8. Other charsets are not decoded: Python's punycode takes quadratic time."""

_LONGEST_TYPE = 100
_UTF_8_FORM = re.compile(rf'{_FORM}(?:\s*;\s*charset="?utf-?8"?)?\s*', re.IGNORECASE)
"""Its Content-Type. aiohttp's own reading of that header takes quadratic time."""

_RESTRICTING = ("watch", "application_id", "transition", "endpoint")

_NUMBER = re.compile("[0-9]{1,9}")

WithoutLiveRow = Callable[[str, Sequence[str]], Awaitable[Collection[str]]]
"""Returns those of a watch's applications that must not be resent, since no row shows their state."""

_conflict = partial(refuse, web.HTTPConflict)
"""Refuse an act that makes no sense."""


@dataclass(frozen=True)
class Decision:
    """What is decided about entries of a state, and the word for it."""

    state: EntryState
    done: str
    request: Callable[[EntryState, str | None, tuple[SeenEntry, ...], PersonActed], Request[list[EntryId]]]


_DECISIONS: Mapping[str, Decision] = {
    "/fuse/release": Decision("held", "released", Send),
    "/fuse/discard": Decision("held", "discarded", Discard),
    "/dead-letters/retry": Decision("dead", "retried", Send),
    "/dead-letters/discard": Decision("dead", "discarded", Discard),
}

ACTIONS = (*_DECISIONS, "/resend", "/sending/pause", "/sending/resume")
"""Actions on the page, or by a script with the token."""


@dataclass(frozen=True)
class Done:
    """What was done, in a word, and to how many; `answer` is a script's."""

    what: str
    number: int
    answer: Mapping[str, Any]


class Form:
    """A form's texts. Raises `HTTPConflict` if one is empty: it would not restrict."""

    def __init__(self, fields: Mapping[str, Sequence[str]]) -> None:
        self._fields = fields
        if empty := [name for name in _RESTRICTING if "" in fields.get(name, ())]:
            raise _conflict("field-empty", field=empty[0])
        self.ids = tuple(fields.get("application_id", ()))
        self.watch = self._one("watch")
        self.endpoint = self._one("endpoint")
        self.is_for_all = "all" in fields

    def _one(self, name: str) -> str | None:
        return next(iter(self._fields.get(name, ())), None)

    def chosen(self) -> list[Chosen]:
        """Which entries, by transition, and how many of each were seen; raises `HTTPConflict`."""
        transitions: Sequence[str | None] = self._fields.get("transition") or [None]
        numbers = self._fields.get("number", ())
        if not all(map(_NUMBER.fullmatch, numbers)):
            raise _conflict("no-number")
        if numbers and len(numbers) != len(transitions):
            raise _conflict("numbers")
        limits = map(int, numbers) if numbers else repeat(None)
        pairs = zip(transitions, limits, strict=False)
        return [Chosen(ids=self.ids or None, transition=transition, limit=limit) for transition, limit in pairs]


async def form_of(request: web.Request) -> Form:
    """A request's form, without fields if there is no body. Raises `HTTPException`, by headers where they suffice."""
    if not request.body_exists:
        return Form({})
    kind, length = request.headers.get("Content-Type", ""), request.content_length or 0
    is_form = len(kind) <= _LONGEST_TYPE and _UTF_8_FORM.fullmatch(kind) is not None
    if not is_form or "Content-Encoding" in request.headers:
        raise refuse(web.HTTPUnsupportedMediaType, "form-kind", kind=_FORM)
    if length > LARGEST_FORM:
        raise refuse(partial(web.HTTPRequestEntityTooLarge, LARGEST_FORM, length), "form-long", longest=LARGEST_FORM)
    fields: dict[str, list[str]] = {}
    try:
        for name, value in parse_qsl((await request.read()).decode(), keep_blank_values=True, errors="strict"):
            fields.setdefault(name, []).append(value)
    except (UnicodeDecodeError, web.RequestPayloadError, ConnectionError) as error:
        raise web.HTTPBadRequest(text="This body is no form in UTF-8.\n") from error
    return Form(fields)


async def act(  # noqa: PLR0917 - what is done, and what it is about
    store: Store, action: str, form: Form, by: PersonActed, watches: Collection[str], without_live_row: WithoutLiveRow
) -> Done:
    """Do one of `ACTIONS` about one of these watches; raises `HTTPConflict` if it makes no sense."""
    if action.startswith("/sending/"):
        return await _pause_or_resume(store, action, form, by)
    if form.watch is not None and form.watch not in watches:
        raise _conflict("no-watch", watch=repr(form.watch))
    if form.watch is None and not form.ids and not form.is_for_all:
        raise _conflict("unnamed")
    if action == "/resend":
        return _done("resent", await _resend(store, form, by, without_live_row))
    return await _decide(store, _DECISIONS[action], form, by)


def _done(what: str, found: Sequence[EntryId]) -> Done:
    return Done(what, len(found), {what: [{"watch": watch, "application_id": id_} for watch, id_ in found]})


async def _decide(store: Store, decision: Decision, form: Form, by: PersonActed) -> Done:
    found = list[EntryId]()
    for chosen in form.chosen():
        entries = await store.operation.chosen(decision.state, form.watch, chosen)
        found += await in_steps(
            lambda some: execute(store.driver, decision.request(decision.state, form.watch, some, by), by.at), entries
        )
    if decision.done == "released":
        return Done("released", len(found), {"released": len(found)})  # a mass change has many ids
    return _done(decision.done, found)


async def _resend(store: Store, form: Form, by: PersonActed, without_live_row: WithoutLiveRow) -> list[EntryId]:
    watch, ids = form.watch, form.ids
    if watch is None or not ids:
        raise _conflict("not-resent")
    try:
        gone = await without_live_row(watch, ids)
    except SourceError as error:
        raise _conflict("rows-unread", reason=error.message) from error
    there = [id_ for id_ in ids if id_ not in gone]
    if not there:
        raise _conflict("no-row", watch=watch)
    found = await in_steps(lambda some: execute(store.driver, Resend(watch, some, by), by.at), there)
    if not found:
        raise _conflict("not-resent")
    return found


async def _pause_or_resume(store: Store, action: str, form: Form, by: PersonActed) -> Done:
    endpoint = form.endpoint
    if endpoint is None and not form.is_for_all:
        raise _conflict("no-endpoint-named")
    if endpoint is not None and not await store.delivery.has_endpoint(endpoint):
        raise _conflict("no-endpoint", endpoint=repr(endpoint))
    kind, what = (Resume, "resumed") if action == "/sending/resume" else (Pause, "paused")
    paused = await execute(store.driver, kind(endpoint or ALL_ENDPOINTS, by), by.at)
    return Done(what, 1, {"paused": sorted(paused)})
