"""Any number of rows in one parameter: JSON, which `json_to_recordset` makes a table of."""

import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg import AsyncConnection

from cdc_sync.core.content import Content
from cdc_sync.store.protocol import Event

Connection = AsyncConnection[tuple[Any, ...]]

Whose = tuple[str, str]
"""Watch and application id."""

_AT_ONCE = 5_000
"""Rows in one statement, at most: it is text that both sides hold in memory."""


def text(value: str) -> str:
    """A text as PostgreSQL can hold it: without U+0000, which a reply's body can have."""
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}")


def texts(values: Iterable[str]) -> list[str]:
    """Texts for an array parameter."""
    return list(map(text, values))


def as_json(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as one parameter."""
    rows = list(rows)
    written = json.dumps(rows, ensure_ascii=False)
    if r"\u0000" in written:
        rows = [{name: text(value) if isinstance(value, str) else value for name, value in row.items()} for row in rows]
        written = json.dumps(rows, ensure_ascii=False)
    return written


def whose_rows(keys: Iterable[Whose]) -> str:
    """Watches and application ids as one parameter."""
    return as_json({"watch": watch, "application_id": application_id} for watch, application_id in keys)


def content_row(content: Content) -> dict[str, Any]:
    """A content as part of a row."""
    return {
        "status": content.status,
        "job_id": content.job_id,
        "deleted": content.deleted,
        "created": content.created,
        "event_date": content.event_date,
        "source": content.source,
        "extra": content.extra,
        "url": content.url,
    }


def event_row(event: Event) -> dict[str, Any]:
    """A line of an application's story. JSON escapes what PostgreSQL's text cannot hold."""
    return {
        "at": event.at,
        "watch": event.watch,
        "application_id": event.application_id,
        "event": event.event,
        "detail": json.dumps(event.detail, ensure_ascii=False),
    }


@asynccontextmanager
async def pipelined(connection: Connection) -> AsyncIterator[None]:
    """Send statements without waiting for each one's answer; whoever reads an answer waits for those before it too.

    A step is a dozen statements and half of them are writes: each would cost the way to the server and back. An error
    is raised where the next answer is read, at the latest at the end, which is after the COMMIT. Needs libpq 14.
    """
    if not psycopg.Pipeline.is_supported():
        yield
        return
    async with connection.pipeline():
        yield


async def write(connection: Connection, statement: bytes, rows: Iterable[Mapping[str, Any]], **parameters: Any) -> None:
    """Run a statement for rows, a few thousand at once; not at all for none."""
    rows = list(rows)
    for first in range(0, len(rows), _AT_ONCE):
        await connection.execute(statement, {**parameters, "rows": as_json(rows[first : first + _AT_ONCE])})
