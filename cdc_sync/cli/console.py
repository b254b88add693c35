"""Commands' tables and texts, by rich and Jinja, which a daemon does not load."""

import shlex
import sys
from collections.abc import Iterable
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cdc_sync.admin.report import DATES, Json, local_time
from cdc_sync.core.visible import visible


class _Visible(Console):
    """Makes every printed `str` visible, also in tables."""

    def render_str(self, text: str, **how: Any) -> Text:
        return super().render_str(visible(text), **how)


# Whole lines for a file or a pipe. Outside texts are no markup.
console = _Visible(markup=False, emoji=False, highlight=False, width=None if sys.stdout.isatty() else 100_000)


def print_table(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Print a table; None is an empty cell."""
    table = Table(*columns)
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    console.print(table)


def words(facts: Json) -> str:
    """A state for people."""
    return f"{facts['status']}, job {facts['job_id']}{', deleted' if facts['deleted'] else ''}"


def _detail(event: Json) -> str:
    to, before, kinds = (event.get(name) for name in ("to", "from", "kinds"))
    parts = [f"{words(before)} → {words(to)}" if before else words(to)] if to else []
    parts += [f"because: {', '.join(kinds)}"] if kinds else []
    shown = ("watch", "by", "who", "attempt", "reason", "seconds", *DATES)
    return "; ".join([*parts, *(f"{name} {event[name]}" for name in shown if event.get(name) is not None)])


def templates(**more: Any) -> Environment:
    """The package's templates, none of which is a page."""
    loader = PackageLoader("cdc_sync.cli", ".")
    return Environment(loader=loader, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined, **more)  # noqa: S701


@cache
def _texts() -> Any:
    environment = templates(finalize=lambda value: visible(str(value)))
    environment.filters |= {"detail": _detail, "local": local_time, "repr": repr, "shell": shlex.join, "words": words}
    return environment.get_template("texts.j2").module


def text(name: str, /, **values: object) -> str:
    """A text of `texts.j2`, with visible values."""
    return str(getattr(_texts(), name)(**values)).rstrip("\n")


def print_text(name: str, /, **values: object) -> None:
    """Print a text of `texts.j2`, unless empty."""
    if found := text(name, **values):
        console.print(Text(found), soft_wrap=True)
