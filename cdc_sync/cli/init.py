"""`cdc-sync init`, a first configuration from the database's catalog; `config`; `files`, for an installation by pip."""

import asyncio
import os
import re
import sys
from collections.abc import Iterable
from difflib import get_close_matches
from functools import partial
from importlib.resources import files as resources
from pathlib import Path
from typing import Annotated, Literal

import typer
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from cdc_sync.ats.connection import Connection
from cdc_sync.ats.depends_on import Used, used, why_not
from cdc_sync.ats.errors import SourceError
from cdc_sync.ats.facts import table_facts
from cdc_sync.ats.survey import Survey, survey, with_values
from cdc_sync.cli.check import labels_of, show_labels
from cdc_sync.cli.console import text
from cdc_sync.cli.context import in_database, misused, print_json, put_out, say, say_lines, suspicious
from cdc_sync.config import Config, ConfigurationError, SqlColumn, json_schema, load, parse
from cdc_sync.config import example as example_text
from cdc_sync.config.first import Answers, first_configuration, undecided
from cdc_sync.config.guessing import FIELDS, Guess, Proposal, Table, propose, rank
from cdc_sync.config.sessions import sessions_needed
from cdc_sync.core.failures import OperationError
from cdc_sync.core.identifiers import IdentifierError, parse_column, parse_qualified, written
from cdc_sync.core.visible import visible

_NAMED = (*FIELDS, "watermark")
_WHERE = f"Where something is, or SQL over the row t: {', '.join(_NAMED)}."
_MANY = 30
_NO_ANSWER = "-"

_UNASKABLE = (errors.InsufficientPrivilege, errors.ReadOnlySqlTransaction, errors.FeatureNotSupported)
"""Why the server may create no temporary view: the role's rights, or it is a standby."""


def init(  # noqa: PLR0917 - options, which are given by name
    dsn: Annotated[str, typer.Option(metavar="DSN", help="The ATS's database, as in database.dsn.")],
    table: Annotated[str | None, typer.Option(metavar="TABLE", help="The applications table.")] = None,
    column: Annotated[list[str] | None, typer.Option(metavar="FIELD=COLUMN", help=_WHERE)] = None,
    mode: Annotated[Literal["notify", "poll"] | None, typer.Option(metavar="notify|poll", help="capture.mode.")] = None,
    timezone: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of values without a time zone: Europe/Paris.")
    ] = None,
    state: Annotated[str, typer.Option(metavar="PATH", help="The store's file.")] = "/var/lib/cdc-sync/state.db",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Else it is printed.", show_default=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Look at a database, and write a commented first configuration. Reads the catalog; changes nothing.

    Of rows it reads at most the different values of what looks like a flag of deletion. PostgreSQL names the columns
    of a given expression, by a temporary view that is rolled back.
    On a terminal it asks about what is in doubt; else the options answer, and what is left is marked DOUBT.
    """
    if output is not None and output.exists() and not force:
        raise OperationError(f"{output} exists, and is left as it is. Name another file, or add --force.")
    named = dict(map(_named, column or []))
    seen = in_database(dsn, survey)
    if seen.left_out:
        say(f"Left out, for the control characters in their names: {_some(map(visible, seen.left_out))}", err=True)
    asks = sys.stdin.isatty() and sys.stderr.isatty()
    chosen, others = _table_ranked(seen, asks=asks) if table is None else (_table_named(seen, table), ())
    chosen = in_database(dsn, partial(with_values, table=chosen))
    columns = {field: _column(dsn, chosen, field, name) for field, name in named.items()}
    proposal = propose(chosen, seen.tables, columns)
    if asks:
        proposal = _ask_for_columns(dsn, proposal, seen, columns)
    shown, comments = _without_secrets(dsn, seen)
    mode_, why = (mode, "You chose it.") if mode is not None else _mode(seen, proposal)
    zone, doubt = (timezone, None) if timezone is not None else _time_zone(seen, proposal)
    if asks and doubt is not None:
        zone, doubt = _ask_for_time_zone(zone, doubt)
    answers = Answers(shown, comments, mode_, why, zone, doubt, state, others)
    document = first_configuration(proposal, answers)
    checked = _check(document, timezone)
    if output is None:
        put_out(document)
        return
    try:
        # `x`: it may have been created meanwhile.
        with output.open("w" if force else "x", encoding="utf-8") as file:
            file.write(document)
    except OSError as error:
        raise OperationError(f"{output} cannot be written: {error.strerror}") from None
    left = sum("# DOUBT:" in line for line in document.splitlines())
    say(f"{output} is written; {left} doubt(s) in it: grep -n DOUBT {output}", err=True)
    say_lines(text("after_init", output=output, undecided=undecided(proposal, answers)), err=True)
    if asks and typer.confirm("Show the status's labels, and what is sent for each? It reads that column.", err=True):
        try:
            show_labels(asyncio.run(labels_of(dsn, checked, checked.watches)))
        except SourceError as error:
            say(f"{error.message} Later: cdc-sync --config {output} labels", err=True)


def _some(names: Iterable[object]) -> str:
    every = [str(name) for name in names]
    return ", ".join(every[:_MANY]) + (" …" if len(every) > _MANY else "")


def _named(given: str) -> tuple[str, str]:
    field, equals, name = given.partition("=")
    if not equals or field not in _NAMED:
        raise misused(f"expected FIELD=COLUMN with one of {', '.join(_NAMED)}", "--column")
    return field, name


def _column(dsn: str, table: Table, field: str, given: str) -> str | Guess:
    """A person's answer: a column's name, or an expression, in which PostgreSQL finds the columns."""
    try:
        name = parse_column(given)
    except IdentifierError as error:
        if field == "watermark":
            raise misused(f"{given!r} is no column's name: {error}", "--column") from None
        return _expression(dsn, table, field, given.strip().rstrip("; "))
    if table.column(name) is None:
        known = ", ".join(written(column.name) for column in table.columns)
        raise misused(f"{field}: {table.name} has no column {written(name)}; it has {known}", "--column")
    return name


def _expression(dsn: str, table: Table, field: str, sql: str) -> Guess:
    why = "you gave the expression"
    try:
        found = in_database(dsn, partial(_used, table=table, sql=sql))
    except SourceError as error:
        if isinstance(error.__cause__, _UNASKABLE):
            return Guess(None, why, f"name its columns in depends_on: {why_not(error)}", sql)
        neither = f"{sql!r} is no column's name, and no expression over the row, which is called t"
        raise misused(f"{field}: {neither}: {why_not(error)}", "--column") from None
    doubt = f"it reads {', '.join(found.tables)}: write each under related, with its key" if found.tables else None
    return Guess(None, why, doubt, sql, found.columns)


async def _used(connection: Connection, table: Table, sql: str) -> Used:
    return await used(connection, await table_facts(connection, table.name), SqlColumn(sql=sql))


def _table_ranked(seen: Survey, *, asks: bool) -> tuple[Table, tuple[str, ...]]:
    """The table that looks most like applications, and other candidates."""
    near = rank(seen.tables)
    if not near:
        raise OperationError(text("no_table", seen=seen, tables=_some(table.name for table in seen.tables)))
    if not asks or len(near) == 1:
        return near[0], tuple(str(table.name) for table in near[1:])

    def read(answer: str) -> Table:
        if answer.isdecimal() and 0 < int(answer) <= len(near):
            return near[int(answer) - 1]
        raise typer.BadParameter(f"a number from 1 to {len(near)}, please")

    for number, table in enumerate(near, start=1):
        say(f"  {number}  {table.name} ({table.size})", err=True)
    return typer.prompt("Which table holds the applications?", default="1", value_proc=read, err=True), ()


def _table_named(seen: Survey, given: str) -> Table:
    try:
        name = parse_qualified(given)
    except IdentifierError as error:
        raise misused(f"{given!r} is no table's name: {error}", "--table") from None
    found = [one for one in seen.tables if one.name.name == name.name and name.schema in {None, one.name.schema}]
    if len(found) > 1:
        names = ", ".join(str(table.name) for table in found)
        raise OperationError(f"Several tables are called {name}: {names}. Say which, with its schema.")
    if not found:
        every = [str(table.name) for table in seen.tables]
        close = get_close_matches(str(name), every, n=3) or get_close_matches(f"public.{name}", every, n=3)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        raise OperationError(f"The database {seen.database} has no table {name}.{hint}")
    return found[0]


def _ask_for_columns(dsn: str, proposal: Proposal, seen: Survey, named: dict[str, str | Guess]) -> Proposal:
    """Ask about doubtful columns; `-` keeps the doubt."""
    answers: dict[str, str | Guess | None] = {}
    for field, guess in proposal.guesses.items():
        if guess.doubt is None or guess.suggested or field in named:
            continue

        def read(answer: str, field: str = field) -> str | Guess | None:
            return None if answer == _NO_ANSWER else _column(dsn, proposal.table, field, answer)

        say(f"{field}: {guess.doubt}", err=True)
        question = f"  which column, or SQL over the row t? ({_NO_ANSWER}: leave it in doubt)"
        default = _NO_ANSWER if guess.column is None else written(guess.column)
        answers[field] = typer.prompt(question, default=default, value_proc=read, err=True)
    answered = {field: answer for field, answer in answers.items() if answer is not None}
    return propose(proposal.table, seen.tables, named | answered)


def _without_secrets(dsn: str, seen: Survey) -> tuple[str, tuple[str, ...]]:
    given = {name: str(value) for name, value in conninfo_to_dict(dsn).items() if value is not None}
    kept = {name: value for name, value in given.items() if not re.search("password|secret|^scram_", name)}
    comments = text("dsn_comments", kept=kept, is_hidden=kept != given, seen=seen).splitlines()
    return make_conninfo("", **kept), tuple(comments)


def _mode(seen: Survey, proposal: Proposal) -> tuple[str, str]:
    has_triggers = proposal.table.is_table and not seen.in_recovery
    mode = "notify" if has_triggers or proposal.watermark is None else "poll"
    return mode, text("mode", mode=mode, in_recovery=seen.in_recovery)


def _time_zone(seen: Survey, proposal: Proposal) -> tuple[str, str | None]:
    if not proposal.zoneless:
        return "UTC", None
    doubt = "but which one the ATS writes is for it to say: look at a row that was changed just now"
    zone = seen.timezone if "/" in seen.timezone and not seen.timezone.startswith("Etc/") else "UTC"
    return zone, f"the server's own zone is {seen.timezone}, {doubt}"


def _ask_for_time_zone(zone: str, doubt: str) -> tuple[str, str | None]:
    say(f"timezone: {doubt}", err=True)
    # A server in UTC is no hint: Enter keeps the doubt.
    likely = _NO_ANSWER if zone == "UTC" else zone
    answer: str = typer.prompt(f"  which time zone? ({_NO_ANSWER}: leave it in doubt)", default=likely, err=True)
    return (zone, doubt) if answer == _NO_ANSWER else (answer, None)


def _check(document: str, timezone: str | None) -> Config:
    """Read our document: only the given time zone may be wrong."""
    try:
        return parse(document, name="the configuration", environ=os.environ)
    except ConfigurationError as error:
        if timezone is not None and any(problem.path.endswith(".timezone") for problem in error.problems):
            raise misused(str(error.problems[0]), "--timezone") from None
        raise


config = typer.Typer(no_args_is_help=True, help="Check a configuration, or help to write one.")


@config.command()
def validate(
    context: typer.Context,
    path: Annotated[
        Path | None, typer.Argument(help="The file. Else as for every command.", show_default=False, readable=False)
    ] = None,
) -> None:
    """Check the file, and show every mistake at once."""
    file = path or context.obj
    read = load(file, os.environ)
    found = suspicious(read, file)
    wrong = [each for each in found if each.code == "status-number"]
    for each in found:
        say(f"{'error' if each in wrong else 'warning'}: {each}", err=True)
    if wrong:  # the daemon runs all the same
        raise typer.Exit(78)
    kinds = {"watch(es)": read.watches, "template(s)": read.templates}
    counted = [f"{len(names)} {kind}, {', '.join(names)}" for kind, names in kinds.items() if names]
    say(f"{file} is valid: {'; '.join(counted)}")
    shares_store = read.state.backend == "postgres" and read.state.dsn is None
    several = len(read.all_databases) > 1
    for name, section in read.all_databases.items():
        needed = sessions_needed(section.pool, shares_store=shares_store)
        say(f"The daemon takes {needed}{f' {name}' if several else ''}.")


@config.command()
def schema() -> None:
    """Print the JSON Schema, for editors."""
    print_json(json_schema())


@config.command()
def example() -> None:
    """Print the annotated example."""
    put_out(example_text())


def files(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="It is made if it is missing.")],
    docs: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Where the documentation is served: the alerts then lead there."),
    ] = None,
) -> None:
    """Write the systemd units, the alerts for Prometheus and the dashboard for Grafana. No file is overwritten."""
    if docs is not None and not re.fullmatch(r"https?://[!#-\[\]-~]+", docs):
        raise misused(f"expected an address that begins with http, not {docs!r}", "--docs")
    texts = {folder / each.name: each.read_text("utf-8") for each in resources("cdc_sync").joinpath("files").iterdir()}
    if there := sorted(file.name for file in texts if os.path.lexists(file)):
        raise OperationError(f"{folder} has {', '.join(there)}; nothing is written. Name another folder.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in sorted(texts.items()):
            linked = (
                content if docs is None else content.replace('runbook_url: "', f'runbook_url: "{docs.rstrip("/")}/')
            )
            with file.open("x", encoding="utf-8") as opened:
                opened.write(linked)
            say(str(file))
    except OSError as error:
        raise OperationError(f"{error.filename} cannot be written: {error.strerror}. Name another folder.") from None
