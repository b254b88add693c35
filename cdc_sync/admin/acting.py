"""What a form asks for: its fields, and the act.

A page is older than the press of its button. So an act takes of each transition at most as many entries as the page
showed, the oldest first; an entry that has become something else since then has another transition.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl

from aiohttp import web
from multidict import MultiDict

from cdc_sync.ats.errors import SourceError
from cdc_sync.core.content import Content
from cdc_sync.core.events import PersonActed
from cdc_sync.core.outbox import EntryState
from cdc_sync.core.replies import ALL_ENDPOINTS
from cdc_sync.core.visible import visible
from cdc_sync.store import Store
from cdc_sync.store.acts import EVERYTHING, Chosen, Discard, Pause, Resend, Resume, Send, in_steps

from .access import RefusedError
from .report import Json

LARGEST_FORM = 8 * 1024
"""Bytes of a request's body."""

_FORM = "application/x-www-form-urlencoded"

_MOST_DIGITS = 9
"""Of a number of entries."""

Form = MultiDict[str]

Present = Callable[[str, Sequence[str]], Awaitable[Mapping[str, Content]]]
"""Returns the present states of those of a watch's applications that may be resent."""

_DECISIONS: Mapping[str, type[Send | Discard]] = {
    "/fuse/release": Send,
    "/fuse/discard": Discard,
    "/dead-letters/retry": Send,
    "/dead-letters/discard": Discard,
}

_SENDING: Mapping[str, type[Pause]] = {"/sending/pause": Pause, "/sending/resume": Resume}

ACTIONS = (*_DECISIONS, *_SENDING, "/resend")
"""Actions on the page, or by a script with the token."""

_FIELDS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(_DECISIONS, ("watch", "application_id", "transition", "number", "all")),
    **dict.fromkeys(_SENDING, ("endpoint", "all")),
    "/resend": ("watch", "application_id"),
}
"""What each action takes. Any other field may be meant to restrict it."""

_ONCE = {"watch", "endpoint", "all"}

_DONE = {"release": "released", "discard": "discarded", "retry": "retried", "resend": "resent"}
"""What a script's answer calls it."""


@dataclass(frozen=True)
class Done:
    """To how many something was done; `answer` is a script's."""

    number: int
    answer: Json


async def form_of(request: web.Request) -> Form:
    """A request's form, without fields if there is no body. Raises `RefusedError` or `HTTPException`."""
    if not request.body_exists:
        return Form()
    # Other charsets are not decoded: Python's punycode takes quadratic time.
    if request.content_type != _FORM or (request.charset or "utf-8").lower() != "utf-8":
        raise web.HTTPUnsupportedMediaType(text=f"This is no form that is taken: send it as {_FORM}, in UTF-8.\n")
    try:
        form = Form(parse_qsl((await request.read()).decode(), keep_blank_values=True, errors="strict"))
    except web.HTTPRequestEntityTooLarge as error:
        raise RefusedError(413, "form-long", longest=LARGEST_FORM) from error
    except (UnicodeDecodeError, web.RequestPayloadError, ConnectionError) as error:
        raise web.HTTPBadRequest(text="This body is no form in UTF-8.\n") from error
    for name, value in form.items():
        if why := _mistake(request.path, form, name, value):
            raise web.HTTPConflict(text=f"The field {visible(name)} {why}.\n")
    return form


def _mistake(action: str, form: Form, name: str, value: str) -> str | None:
    """What is wrong with a field."""
    if name not in _FIELDS[action]:
        return f"is none of {', '.join(_FIELDS[action])}"
    if not value:
        return "is empty: fill it, or leave it out"
    if name == "all" and value != "1":
        return "takes 1, or is left out"
    if name in _ONCE and len(form.getall(name)) > 1:
        return "is there more than once"
    return None


async def act(store: Store, path: str, form: Form, by: PersonActed, present: Present) -> Done:
    """Do one of `ACTIONS`; raises `RefusedError` or `HTTPException` if it makes no sense."""
    if path in _SENDING:
        return await _pause_or_resume(store, _SENDING[path], form, by)
    number = await (_resend(store, form, by, present) if path == "/resend" else _decide(store, path, form, by))
    return Done(number, {_DONE[by.action]: number})


def _insist_on_one(form: Form, *names: str) -> None:
    """Everything is meant only if it is said."""
    if not form.keys() & {*names, "all"}:
        fields = ", ".join([*names, "all"])
        raise web.HTTPConflict(text=f"Name what is meant by one of these fields: {fields}.\n")


async def _decide(store: Store, path: str, form: Form, by: PersonActed) -> int:
    """Decide about entries, by transition, as many of each as were seen."""
    _insist_on_one(form, "watch", "application_id")
    request, watch, number = _DECISIONS[path], form.get("watch"), 0
    state: EntryState = "held" if path.startswith("/fuse/") else "dead"
    ids = tuple(form.getall("application_id", ())) or None
    transitions: Sequence[str | None] = form.getall("transition", [None])
    numbers = form.getall("number", [])
    are_numbers = all(each.isdecimal() and len(each) <= _MOST_DIGITS for each in numbers)
    if len(numbers) not in {0, len(transitions)} or not are_numbers:
        raise web.HTTPConflict(text="The field number takes a number: once for each transition, in their order.\n")
    limits: Sequence[int | None] = list(map(int, numbers)) or [None] * len(transitions)
    for transition, limit in zip(transitions, limits, strict=True):
        # A name, no pattern.
        watches = None if watch is None else [watch]
        which = Chosen(ids=ids, transition=transition, limit=limit)
        entries = await store.operation.chosen(state, watches, which)
        if entries or which == EVERYTHING:  # a choice that meets nothing decides nothing
            steps = in_steps(lambda some: store.operation.execute(request(state, watch, some, by), by.at), entries)
            number += len(await steps)
    return number


async def _resend(store: Store, form: Form, by: PersonActed, present: Present) -> int:
    watch, ids = form.get("watch", ""), form.getall("application_id", ())
    try:
        states = await present(watch, ids)
    except SourceError as error:
        raise RefusedError(409, "rows-unread", reason=error.message) from error
    there = sorted(states.items())
    found = await in_steps(lambda some: store.operation.execute(Resend(watch, some, by), by.at), there)
    if not found:
        raise RefusedError(409, "not-resent")
    return len(found)


async def _pause_or_resume(store: Store, kind: type[Pause], form: Form, by: PersonActed) -> Done:
    _insist_on_one(form, "endpoint")
    endpoint = form.get("endpoint")
    if endpoint is not None and not await store.delivery.has_endpoint(endpoint):
        raise RefusedError(409, "no-endpoint", endpoint=repr(endpoint))
    paused = await store.operation.execute(kind(endpoint or ALL_ENDPOINTS, by), by.at)
    return Done(1, {"paused": sorted(paused)})
