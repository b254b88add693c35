"""Between the core's values and the columns that hold them.

A state is three columns, which are what is compared, and `metadata`, a JSON object of what is sent beside them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cache
from types import MappingProxyType
from typing import Any

from cdc_sync.core.content import Content, Kind, quoted
from cdc_sync.core.delivery import LONGEST_COUNTED, LONGEST_UNASKED, Health
from cdc_sync.core.diff import Fuse, PendingEntry
from cdc_sync.core.outbox import Entry, Known
from cdc_sync.core.reasons import as_text, from_text
from cdc_sync.core.rows import Key

Columns = Sequence[Any]

_HEALTH = tuple(each.name for each in fields(Health))

as_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_decode = json.JSONDecoder().raw_decode


def state_columns(content: Content) -> tuple[str, str, bool, str]:
    """The four columns of a state: status, job_id, deleted and metadata.

    Metadata is what is sent beside the compared fields; what is None is left out.
    """
    sent = f'{{"created":{content.created},"event_date":{content.event_date}'
    if content.source is not None:
        sent += f',"source":{quoted(content.source)}'
    if content.extra is not None:
        sent += f',"extra":{quoted(content.extra)}'
    return content.status, content.job_id, content.deleted, f'{sent},"url":{quoted(content.url)}}}'


def content_from(status: str | None, job_id: str, deleted: object, metadata: str) -> Content | None:
    """The content in four columns; None if there is none."""
    return None if status is None else _content(status, job_id, deleted, metadata)


def _content(status: str, job_id: str, deleted: object, metadata: str) -> Content:
    sent, _ = _decode(metadata)
    rest = sent["created"], sent["event_date"], sent.get("source"), sent.get("extra"), sent["url"]
    return Content(status, job_id, bool(deleted), *rest)


def known_from(columns: Columns, keys: Mapping[str, Key] = MappingProxyType({}), *, unstarted: bool = False) -> Known:
    """What is known of an application, from the columns of the statement `before`.

    Args:
        columns: those.
        keys: rows' keys by their texts, of those that need not be read again.
        unstarted: the call for which its entry is claimed has not begun, and will not before this is decided.
    """
    number, _, row_key, in_scope, *told, acknowledged_at, adopted = columns[:10]
    pending = None
    if columns[10] is not None:
        attempted, claimed_by = columns[14:16]
        is_attempted = bool(attempted) or (claimed_by is not None and not unstarted)
        pending = PendingEntry(_content(*columns[10:14]), is_attempted)
    key, snapshot = keys.get(row_key) or key_from(row_key), None if told[0] is None else _content(*told)
    is_acknowledged = acknowledged_at is not None and not adopted
    state, reason, queued_at = columns[-3:]
    why = reason and from_text(reason)
    return Known(number, key, bool(in_scope), snapshot, pending, is_acknowledged, state, why, queued_at)


def entry_from(columns: Columns, claimed_at: int | None = None) -> Entry:
    """An outbox entry, from the statements that select one.

    Args:
        columns: those.
        claimed_at: now, if it is claimed: then it is as it will be when its call was made. If it was due for longer
            than counts, its first attempt moves on, up to now, and so does its first 404.
    """
    watch, id_, status, job_id, deleted, metadata, kinds, state, revision, queued_at, due_at = columns[:11]
    attempted, attempts, first, not_found, reason = columns[11:]
    if claimed_at is not None:
        attempted, attempts = True, attempts + 1
        late = claimed_at - due_at
        first = claimed_at if first is None else min(first + max(late - LONGEST_COUNTED, 0), claimed_at)
        if not_found is not None:
            not_found = min(not_found + max(late - LONGEST_UNASKED, 0), claimed_at)
    content, tries = _content(status, job_id, deleted, metadata), (bool(attempted), attempts, first, not_found)
    why = reason and from_text(reason)
    return Entry(watch, id_, content, _kinds_of(kinds), state, revision, queued_at, due_at, *tries, why)


@cache
def _kinds_of(text: str) -> frozenset[Kind]:
    return frozenset(text.split())  # type: ignore[arg-type] # they are written from kinds


def health_from(text: str) -> Health:
    """An endpoint's health, from its column. Fields that only other versions know are left out."""
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
    """A watch's fuse as the store has it."""
    fuse = Fuse(**json.loads(text or "{}"))
    return fuse if fuse.reason is None else fuse._replace(reason=from_text(fuse.reason))


def fuse_text(fuse: Fuse) -> str:
    """The inverse of `fuse_from`."""
    stored = fuse if fuse.reason is None else fuse._replace(reason=as_text(fuse.reason))
    return as_json(stored._asdict())
