"""Between the core's values and the columns that hold them."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

from cdc_sync.core.content import Content
from cdc_sync.core.diff import Waiting
from cdc_sync.core.endpoint import Health
from cdc_sync.core.outbox import Entry, Known
from cdc_sync.core.rows import Key

Columns = Sequence[Any]

_as_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

_HEALTH = tuple(each.name for each in fields(Health))

_CONTENT = 8
"""How many columns a content has."""


def content_columns(content: Content) -> tuple[Any, ...]:
    """The eight columns from status to url."""
    return (
        content.status,
        content.job_id,
        int(content.deleted),
        content.created,
        content.event_date,
        content.source,
        content.extra,
        content.url,
    )


def compared_columns(content: Content | None) -> tuple[Any, ...]:
    """Status, job and existence; three times None for none."""
    return (None, None, None) if content is None else (content.status, content.job_id, int(content.deleted))


def content_from(columns: Columns) -> Content | None:
    """The content in eight columns; None if nothing was told."""
    if columns[0] is None:
        return None
    status, job_id, deleted, created, event_date, source, extra, url = columns
    return Content(status, job_id, bool(deleted), created, event_date, source, extra, url)


def adopted_at(now: int) -> int:
    """The time since when HelloWork is taken to know a state without a call, as the column `told_at` has it.

    Negative, which tells it from an acknowledgement. Version 0.1.0 has written both alike.
    """
    return -now


def told_at_from(told_at: int | None) -> int | None:
    """When HelloWork acknowledged a state, or since when it is taken to know it."""
    return None if told_at is None else abs(told_at)


def known_from(columns: Columns) -> Known:
    """What is known of an application, from the queries that begin with its number and id."""
    number, _, row_key, in_scope = columns[:4]
    told = content_from(columns[4 : 4 + _CONTENT])
    waiting = content_from(columns[4 + _CONTENT : 4 + 2 * _CONTENT])
    attempted, told_at = columns[4 + 2 * _CONTENT : 6 + 2 * _CONTENT]
    return Known(
        number=number,
        key=key_from(row_key),
        in_scope=bool(in_scope),
        told=told,
        waiting=None if waiting is None else Waiting(waiting, bool(attempted)),
        is_acknowledged=told is not None and (told_at or 0) > 0,
    )


def entry_from(columns: Columns) -> Entry:
    """An outbox entry, from the queries that select one."""
    watch, application_id = columns[:2]
    content = content_from(columns[2 : 2 + _CONTENT])
    if content is None:
        raise AssertionError("the schema forbids an entry without content")
    kinds, state, revision, queued_at, due_at, attempted, attempts, *after_attempts = columns[2 + _CONTENT :]
    first, not_found, reason = after_attempts
    return Entry(
        watch=watch,
        application_id=application_id,
        content=content,
        kinds=frozenset(kinds.split()),
        state=state,
        revision=revision,
        queued_at=queued_at,
        due_at=due_at,
        attempted=bool(attempted),
        attempts=attempts,
        first_attempt_at=first,
        not_found_since=not_found,
        reason=reason,
    )


def health_from(text: str) -> Health:
    """An endpoint's health, from its column. Fields that only other versions know are left out."""
    stored = json.loads(text)
    return Health(**{name: stored[name] for name in _HEALTH if name in stored})


def key_text(key: Key) -> str:
    """A row's key as one column."""
    if len(key) == 1 and key[0].isalnum():  # nothing in it is escaped
        return f'["{key[0]}"]'
    return _as_json(key)


def key_from(text: str) -> Key:
    """The inverse of `key_text`."""
    return tuple(json.loads(text))


def json_list(values: Iterable[str]) -> str:
    """A list for `json_each`: SQLite's way of passing any number of values in one parameter."""
    return json.dumps(list(values))
