"""`cdc-sync init`, a first configuration from the database's catalog; `config`; `files`, for an installation by pip."""

import os
import re
import textwrap
from contextlib import suppress
from importlib.resources import files as resources
from pathlib import Path
from typing import Annotated

import typer
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic.json_schema import GenerateJsonSchema

from cdc_sync.ats.connection import Connection, connected
from cdc_sync.ats.survey import Survey, Table, some_values, survey
from cdc_sync.config import Config, load
from cdc_sync.config.meanings import is_personal
from cdc_sync.config.yaml_text import in_yaml
from cdc_sync.core.failures import OperationError
from cdc_sync.core.identifiers import IdentifierError, parse_qualified, written
from cdc_sync.core.watch_names import listed
from cdc_sync.packaged import text as packaged

from .console import templates, text
from .context import print_json, put_out, say, say_lines, suspicious, writing
from .guessing import FIELDS, Proposal, expressions, listing, propose, rank, status_like

_WIDTH = 118


async def init(
    dsn: Annotated[str, typer.Option(metavar="DSN", help="The ATS's database, as in database.dsn.")],
    table: Annotated[str | None, typer.Option(metavar="TABLE", help="The applications table.")] = None,
    state: Annotated[str, typer.Option(metavar="PATH", help="The store's file.")] = "/var/lib/cdc-sync/state.db",
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Else it is printed.")] = None,
) -> None:
    """Look at a database, and write a commented first configuration. Changes nothing.

    It takes what it is sure of. For the rest it lists the table's columns, and some labels of what may be the status.
    """
    async with connected(dsn) as connection:
        seen = await survey(connection, table or "")
        chosen, *others = _ranked(seen) if table is None else [_table_named(seen, table)]
        samples = await _samples(connection, seen, chosen)
    if seen.left_out:
        say(f"Left out, for the control characters in their names: {listed(seen.left_out)}", err=True)
    proposal = propose(chosen, seen, others)
    document = rendered(seen, proposal, samples, dsn=dsn, state=state)
    if output is None:
        put_out(document)
        return
    with writing(output), output.open("x", encoding="utf-8") as file:
        file.write(document)
    say_lines(text("after_init", output=output, undecided=proposal.undecided), err=True)


def rendered(seen: Survey, proposal: Proposal, samples: dict[str, list[str]], *, dsn: str, state: str) -> str:
    """The text of the file; a valid configuration, whatever is undecided."""
    environment = templates(keep_trailing_newline=True)
    environment.filters["folded"] = _folded
    given = conninfo_to_dict(dsn)
    kept = {name: value for name, value in given.items() if not re.search("password|secret|^scram_", name)}
    return environment.get_template("first.yaml.j2").render(
        in_yaml=in_yaml,
        written=written,
        dsn=make_conninfo("", **kept),
        kept=kept,
        is_hidden=kept != given,
        seen=seen,
        state=state,
        proposal=proposal,
        fields=FIELDS,
        listing=listing(proposal.table, seen.tables, samples),
        expressions=expressions(proposal.table, seen.tables),
    )


async def _samples(connection: Connection, seen: Survey, table: Table) -> dict[str, list[str]]:
    """Some labels of each column that may have the status."""
    found = dict[str, list[str]]()
    for column, label in status_like(table, seen.tables):
        if label is not None:
            found[column.name] = await some_values(connection, label.table, label.column)
        elif column.reference is None and not is_personal(column.name):
            found[column.name] = await some_values(connection, table.name, column.name)
    return found


def _folded(line: str, later: str) -> str:
    """Lines of a comment or an entry; unprintable characters are escaped, so that no name ends a comment."""
    shown = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in line)
    return textwrap.fill(shown, _WIDTH, subsequent_indent=later, break_on_hyphens=False, break_long_words=False)


def _ranked(seen: Survey) -> list[Table]:
    near = rank(seen.tables)
    if not near:
        there = listed([str(one.name) for one in seen.tables]) or "none at all"
        raise OperationError(
            f"No table of the database {seen.database} looks like one of applications. Name it with --table; there "
            f"are: {there}. (A table of which {seen.user} may see nothing is among them too.)"
        )
    return near


def _called(seen: Survey, name: str) -> list[Table]:
    return [one for one in seen.tables if name in {one.name.name, written(one.name.name), str(one.name)}]


def _table_named(seen: Survey, given: str) -> Table:
    found = _called(seen, given)
    if not found:
        with suppress(IdentifierError):
            found = _called(seen, str(parse_qualified(given)))  # as SQL and the configuration write it
    if not found:
        raise OperationError(f"The database {seen.database} has no table {given}")
    if found[1:]:
        raise OperationError(
            f"Several tables are called {given}. Say which: {listed([str(one.name) for one in found])}"
        )
    return found[0]


config = typer.Typer(no_args_is_help=True, help="Check a configuration, or help to write one.")


@config.command()
def validate(
    context: typer.Context,
    path: Annotated[Path | None, typer.Argument(help="The file. Else as for every command.", readable=False)] = None,
) -> None:
    """Check the file, and show every error at once."""
    file = path or context.obj
    read = load(file, os.environ)
    for warning in suspicious(read, file):
        say(f"warning: {warning}", err=True)
    say(f"{file} is valid: {', '.join([*read.watches, *read.templates])}")


@config.command()
def schema() -> None:
    """Print the JSON Schema, for editors."""
    print_json({"$schema": GenerateJsonSchema.schema_dialect, **Config.model_json_schema()})


@config.command()
def example() -> None:
    """Print the annotated example: every key, mostly with its default."""
    put_out(packaged("config/example.yaml"))


def files(folder: Annotated[Path, typer.Argument(metavar="DIR", help="It is made if it is missing.")]) -> None:
    """Write the systemd units, the alerts for Prometheus and the dashboard for Grafana. No file is overwritten."""
    texts = {folder / each.name: each.read_text("utf-8") for each in resources("cdc_sync").joinpath("files").iterdir()}
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in sorted(texts.items()):
            with file.open("x", encoding="utf-8") as opened:
                opened.write(content)
            say(str(file))
