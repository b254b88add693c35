"""How commands print, other than tables: nothing that comes from outside steers the terminal or forges a line."""

import json
from typing import Any

import typer

from cdc_sync.core.content import Content
from cdc_sync.core.outbox import Entry
from cdc_sync.core.payload import iso
from cdc_sync.core.visible import visible, visible_json, visible_lines


def say(text: str, *, err: bool = False) -> None:
    """Print one line."""
    typer.echo(visible(text), err=err)


def say_lines(text: str, *, err: bool = False) -> None:
    """Print a text of ours that has lines."""
    typer.echo(visible_lines(text), err=err)


def put_out(document: str) -> None:
    """Print a file: a script, a configuration."""
    typer.echo(document, nl=False)


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    typer.echo(visible_json(json.dumps(value, ensure_ascii=False, indent=2)))


def facts(content: Content) -> dict[str, Any]:
    """What HelloWork is told of an application, for programs."""
    return {"status": content.status, "job_id": content.job_id, "deleted": content.deleted}


def words(facts: dict[str, Any]) -> str:
    """The same for people."""
    return f"{facts['status']}, job {facts['job_id']}{', deleted' if facts['deleted'] else ''}"


def entry_facts(entry: Entry) -> dict[str, Any]:
    """An entry of the outbox, for programs."""
    return {
        "watch": entry.watch,
        "application_id": entry.application_id,
        **facts(entry.content),
        "kinds": sorted(entry.kinds),
        "queued_at": iso(entry.queued_at),
        "reason": entry.reason,
    }
