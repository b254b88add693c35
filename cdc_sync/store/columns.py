"""Between the core's values and the columns that hold them.

A state is three columns, which are what is compared, and `metadata`, a JSON object of what is sent beside them.
"""

import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from cdc_sync.core.content import Content
from cdc_sync.core.diff import Waiting
from cdc_sync.core.endpoint import Health
from cdc_sync.core.outbox import Entry, Known
from cdc_sync.core.rows import Key

Columns = Sequence[Any]

_HEALTH = tuple(each.name for each in fields(Health))

as_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def state_columns(content: Content) -> tuple[str, str, bool, str]:
    """The four columns of a state: status, job_id, deleted and metadata."""
    return content.status, content.job_id, content.deleted, metadata(content)


def metadata(content: Content) -> str:
    """What is sent beside the compared fields; what is None is left out."""
    sent = {
        "created": content.created,
        "event_date": content.event_date,
        "source": content.source,
        "extra": content.extra,
        "url": content.url,
    }
    return as_json({name: value for name, value in sent.items() if value is not None})


def content_from(columns: Columns) -> Content | None:
    """The content in four columns; None if there is none."""
    status, job_id, deleted, rest = columns
    if status is None:
        return None
    sent: dict[str, Any] = {"source": None, "extra": None, **json.loads(rest)}
    return Content(status=status, job_id=job_id, deleted=bool(deleted), **sent)


def known_from(columns: Columns, *, unstarted: bool = False) -> Known:
    """What is known of an application, from the columns of the statements `known` and `owners`.

    Args:
        columns: those.
        unstarted: the call for which its entry is claimed has not begun, and will not before this is decided.
    """
    number, _, row_key, in_scope = columns[:4]
    acknowledged = content_from(columns[4:8])
    acknowledged_at, adopted = columns[8:10]
    waiting = content_from(columns[10:14])
    attempted, claimed_by = columns[14:16]
    return Known(
        number=number,
        key=key_from(row_key),
        in_scope=bool(in_scope),
        told=acknowledged,
        waiting=None
        if waiting is None
        else Waiting(waiting, bool(attempted) or (claimed_by is not None and not unstarted)),
        is_acknowledged=acknowledged_at is not None and not adopted,
    )


def entry_from(columns: Columns) -> Entry:
    """An outbox entry, from the statements that select one."""
    watch, application_id = columns[:2]
    content = content_from(columns[2:6])
    if content is None:
        raise AssertionError("the schema forbids an entry without content")
    kinds, state, revision, queued_at, due_at, attempted, attempts, first, not_found, reason = columns[6:]
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
    return as_json(key)


def key_from(text: str) -> Key:
    """The inverse of `key_text`."""
    return tuple(json.loads(text))
