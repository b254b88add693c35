"""Conversions between the core's values and columns. A state is three compared columns, and `metadata` as JSON."""

from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic_core import from_json, to_json

from cdc_sync.core.content import Content
from cdc_sync.core.fuse import Fuse
from cdc_sync.core.outbox import NOWHERE, Entry, Known
from cdc_sync.core.reasons import as_text, from_text
from cdc_sync.core.replies import Health
from cdc_sync.core.rows import Key
from cdc_sync.core.status_url import DEFAULT_ACCOUNT

Columns = Sequence[Any]

S = TypeVar("S", Fuse, Health)

_METADATA = "created", "event_date", "source", "extra", "url"
"""Beside the account, which is left out if it is the default one."""

ANY_ACCOUNT = '"account":'
"""What metadata have of an account that is not the default one: no other value can have it, with its quotes."""


def as_json(value: object) -> str:
    """A value as compact JSON, by pydantic: in a third of the standard library's time."""
    return to_json(value).decode()


of_json = from_json
"""The inverse of `as_json`."""


def state_columns(content: Content, *, discarded: bool = False) -> tuple[str, str, bool, str]:
    """The four columns of a state; metadata leave out what is None.

    The mark of a state that a person `discarded` stays until the next state takes its place.
    """
    metadata = {name: value for name in _METADATA if (value := getattr(content, name)) is not None}
    if content.account != DEFAULT_ACCOUNT:
        metadata["account"] = content.account
    if discarded:
        metadata["discarded"] = True
    return content.status, content.job_id, content.deleted, as_json(metadata)


def address_columns(content: Content) -> tuple[str, str]:
    """The columns of a state that say where, and with which metadata, it is sent."""
    return state_columns(content)[-1], content.endpoint


def account_mark(account: str) -> str:
    """What metadata have of this account."""
    return ANY_ACCOUNT + as_json(account)


def is_discarded(metadata: str | None) -> bool:
    """Whether a person discarded the state of these metadata; earlier versions left no mark."""
    return bool(of_json(metadata or "{}").get("discarded"))


def content_from(status: str | None, job_id: str, deleted: object, metadata: str) -> Content | None:
    """The inverse of `state_columns`; None without a state."""
    return None if status is None else _content(status, job_id, deleted, metadata)


def _content(status: str, job_id: str, deleted: object, metadata: str) -> Content:
    sent = of_json(metadata)
    rest = sent["created"], sent["event_date"], sent.get("source"), sent.get("extra"), sent["url"]
    return Content(status, job_id, bool(deleted), *rest, sent.get("account", DEFAULT_ACCOUNT))


def known_from(columns: Columns) -> tuple[str, Known]:
    """An application's id and what is known of it, from the columns of the statement `before`."""
    number, application_id, row_key, in_scope, *state, since, adopted, suspected = columns[:11]
    of_entry = columns[11:]
    entry = None if of_entry[0] is None else entry_from(of_entry)
    place, snapshot, is_acknowledged = key_from(row_key), content_from(*state), since is not None and not adopted
    known = Known(number, place, bool(in_scope), snapshot, entry, is_acknowledged, since or 0, bool(suspected))
    return application_id, known


def enqueue_columns(entry: Entry) -> Columns:
    """The columns of the statement `enqueue` after the watch: of a new entry, which was not attempted."""
    kinds, reason = " ".join(sorted(entry.kinds)), entry.reason and as_text(entry.reason)
    endpoint = NOWHERE if entry.state == "dead" else entry.content.endpoint
    state = kinds, entry.state, entry.revision, entry.queued_at, entry.due_at, False, 0, reason, endpoint
    return entry.application_id, *state_columns(entry.content), *state


def entry_from(columns: Columns) -> Entry:
    """An outbox entry, from its columns."""
    watch, id_, status, job_id, deleted, metadata, kinds, state, revision, queued_at, due_at = columns[:11]
    attempted, attempts, first, not_found, reason = columns[11:]
    content, tries = _content(status, job_id, deleted, metadata), (bool(attempted), attempts, first, not_found)
    of_change = frozenset(kinds.split()), state, revision
    return Entry(watch, id_, content, *of_change, queued_at, due_at, *tries, from_text(reason))


def key_text(key: Key) -> str:
    """A row's key as one column."""
    return as_json(key)


def key_from(text: str) -> Key:
    """The inverse of `key_text`."""
    return tuple(of_json(text))


def stored_from(kind: type[S], text: str | None) -> S:
    """A fuse or an endpoint's health, without other versions' fields."""
    stored = of_json(text or "{}")
    found = kind(**{name: stored[name] for name in kind._fields if name in stored})
    return found._replace(reason=from_text(found.reason))


def stored_text(value: Fuse | Health) -> str:
    """The inverse of `stored_from`."""
    return as_json(value._asdict() | {"reason": as_text(value.reason)})
