"""The first configuration, as `cdc-sync init` writes it: guesses, with reasons and doubts as comments."""

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from jinja2 import Environment, PackageLoader, StrictUndefined

from cdc_sync.config.guessing import FIELDS, Guess, Proposal
from cdc_sync.config.json_schema import flow
from cdc_sync.core.identifiers import written


@dataclass(frozen=True, slots=True)
class Answers:
    """What the tables do not show; the time zone is that of values without one.

    Attributes:
        dsn: without secrets; empty if the PG* variables name the database.
        timezone_doubt: why it must be checked; None if a person chose it, or nothing depends on it.
        state: the store's path.
        others: other tables that could be meant.
    """

    dsn: str
    dsn_comments: tuple[str, ...]
    mode: str
    mode_why: str
    timezone: str
    timezone_doubt: str | None
    state: str
    others: tuple[str, ...] = ()


def first_configuration(proposal: Proposal, answers: Answers) -> str:
    """The text of the file; a valid configuration, whatever is in doubt."""
    environment = Environment(  # noqa: S701 - what it makes is no page
        loader=PackageLoader("cdc_sync.config", "."),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    environment.filters["written"] = written
    return environment.get_template("first.yaml.j2").render(
        answers=answers,
        proposal=proposal,
        undecided=undecided(proposal, answers),
        fields=FIELDS,
        tables=sorted({str(guess.related) for guess in proposal.guesses.values() if guess.related is not None}),
        watermark=proposal.watermark if proposal.watermark and proposal.watermark.column else None,
        wrapped=_wrapped,
        text=_text,
        quoted=partial(_text, style='"'),
        names=_names,
        mapped=mapped,
        related=related,
    )


def undecided(proposal: Proposal, answers: Answers) -> list[str]:
    """The doubts that could make the daemon send wrong things."""
    doubts = {
        "table": f"{', '.join(answers.others)} look like it too" if answers.others else None,
        "key": proposal.key_doubt,
        "timezone": answers.timezone_doubt,
    }
    found = [f"{field}: {doubt}" for field, doubt in doubts.items() if doubt is not None]
    found += [
        f"{field}: {guess.doubt}"
        for field, guess in proposal.guesses.items()
        if guess.doubt is not None and not guess.suggested
    ]
    if proposal.carriers:
        found.append(f"status: {', '.join(one.name for one in proposal.carriers)} may decide it too")
    return found


def mapped(field: str, guess: Guess) -> str:
    """A key of `columns`, as the file has it."""
    # `check` reports that it does not exist.
    column = guess.column or f"put_{field}_here"
    if guess.sql is None:
        return f"{field}: {_text(written(column))}"
    sql = _text(guess.sql, style='"')
    names = guess.depends_on if guess.column is None else guess.depends_on or (guess.column,)
    return f"{field}: {{sql: {sql}{'' if names is None else f', depends_on: {_names(names)}'}}}"


def related(table: str, key: str | None = None) -> str:
    """An entry of `related`, as the file has it; `key` holds the watched table's key."""
    return f"{{table: {_text(table)}, key: {_names([key] if key else [])}}}"


def _names(columns: Iterable[str]) -> str:
    return f"[{', '.join(_text(written(name)) for name in columns)}]"


def _text(value: str, style: str | None = None) -> str:
    """Text in which nothing is taken for a reference."""
    return flow(value.replace("${", "$${"), style)


def _wrapped(text: str, first: str, later: str | None = None) -> str:
    """Lines of a comment or an entry; unprintable characters are escaped, so that no name ends a comment."""
    line = " ".join(text.split())
    return textwrap.fill(
        "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in line),
        118,
        initial_indent=first,
        subsequent_indent=first if later is None else later,
        break_on_hyphens=False,
        break_long_words=False,
    )
