"""Conversions between the core's values and columns. A state is three compared columns, and `metadata` as JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cache
from types import MappingProxyType
from typing import Any

from cdc_sync.core.content import Content, Kind
from cdc_sync.core.diff import Fuse, PendingEntry
from cdc_sync.core.outbox import Entry, Known
from cdc_sync.core.reasons import as_text, from_text
from cdc_sync.core.replies import Health
from cdc_sync.core.rows import Key
from cdc_sync.core.status_url import DEFAULT_ACCOUNT

Columns = Sequence[Any]

_METADATA = "created", "event_date", "source", "extra", "url"
"""Beside the account, which is left out if it is the default one."""

_HEALTH = tuple(each.name for each in fields(Health))

ANY_ACCOUNT = '"account":'
"""What metadata have of an account that is not the default one: no other value can have it, with its quotes."""

as_json = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode
_decode = json.JSONDecoder().raw_decode


def state_columns(content: Content) -> tuple[str, str, bool, str]:
    """The four columns of a state; metadata leave out what is None."""
    return _state_columns(content, {})


def discarded_columns(content: Content) -> tuple[str, str, bool, str]:
    """The columns of a state that a person discarded; the mark stays until the next state takes its place."""
    return _state_columns(content, {"discarded": True})


def _state_columns(content: Content, mark: Mapping[str, bool]) -> tuple[str, str, bool, str]:
    metadata = {name: value for name in _METADATA if (value := getattr(content, name)) is not None}
    if content.account != DEFAULT_ACCOUNT:
        metadata["account"] = content.account
    return content.status, content.job_id, content.deleted, as_json({**metadata, **mark})


def account_mark(account: str) -> str:
    """What metadata have of this account."""
    return ANY_ACCOUNT + as_json(account)


def is_discarded(metadata: str) -> bool:
    """Whether a person discarded the state of these metadata; earlier versions left no mark."""
    sent, _ = _decode(metadata)
    return bool(sent.get("discarded"))


def content_from(status: str | None, job_id: str, deleted: object, metadata: str) -> Content | None:
    """The inverse of `state_columns`; None if there is no content."""
    return None if status is None else _content(status, job_id, deleted, metadata)


def _content(status: str, job_id: str, deleted: object, metadata: str) -> Content:
    sent, _ = _decode(metadata)
    rest = sent["created"], sent["event_date"], sent.get("source"), sent.get("extra"), sent["url"]
    return Content(status, job_id, bool(deleted), *rest, sent.get("account", DEFAULT_ACCOUNT))


def known_from(columns: Columns, keys: Mapping[str, Key] = MappingProxyType({}), *, has_begun: bool = False) -> Known:
    """What is known of an application, from the columns of the statement `before`.

    `keys` are rows' keys by text. `has_begun`: the entry's call has begun.
    """
    number, _, row_key, in_scope, *snapshot_columns, acknowledged_at, adopted = columns[:10]
    pending = None
    if columns[10] is not None:
        pending = PendingEntry(_content(*columns[10:14]), bool(columns[14]) or has_begun)
    key = keys.get(row_key) or key_from(row_key)
    snapshot = None if snapshot_columns[0] is None else _content(*snapshot_columns)
    is_acknowledged = acknowledged_at is not None and not adopted
    revision, state, reason, queued_at = columns[15:]
    why = reason and from_text(reason)
    return Known(number, key, bool(in_scope), snapshot, pending, is_acknowledged, state, why, queued_at, revision or 0)


def entry_from(columns: Columns) -> Entry:
    """An outbox entry, from its columns."""
    watch, id_, status, job_id, deleted, metadata, kinds, state, revision, queued_at, due_at = columns[:11]
    attempted, attempts, first, not_found, reason = columns[11:]
    content, tries = _content(status, job_id, deleted, metadata), (bool(attempted), attempts, first, not_found)
    why = reason and from_text(reason)
    return Entry(watch, id_, content, kinds_from(kinds), state, revision, queued_at, due_at, *tries, why)


@cache
def kinds_from(text: str) -> frozenset[Kind]:
    """An entry's kinds, from its column."""
    return frozenset(text.split())  # type: ignore[arg-type] # they are written from kinds


def health_from(text: str) -> Health:
    """An endpoint's health, without other versions' fields."""
    stored = json.loads(text)
    stored["reason"] = from_text(stored.get("reason"))
    return Health(**{name: stored[name] for name in _HEALTH if name in stored})


def key_text(key: Key) -> str:
    """A row's key as one column."""
    if len(key) == 1 and key[0].isalnum():  # nothing in it is escaped
        return f'["{key[0]}"]'
    return as_json(key)


def key_from(text: str) -> Key:
    """The inverse of `key_text`."""
    return tuple(json.loads(text))


def fuse_from(text: str | None) -> Fuse:
    """A watch's fuse."""
    fuse = Fuse(**json.loads(text or "{}"))
    return fuse if fuse.reason is None else fuse._replace(reason=from_text(fuse.reason))


def fuse_text(fuse: Fuse) -> str:
    """The inverse of `fuse_from`."""
    stored = fuse if fuse.reason is None else fuse._replace(reason=as_text(fuse.reason))
    return as_json(stored._asdict())
