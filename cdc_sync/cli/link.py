"""`cdc-sync link`: put HelloWork's ids into the side table of an ATS that has no place for them."""

import asyncio
import csv
import io
from pathlib import Path
from typing import Annotated

import typer

from cdc_sync.cli.context import WatchOption, decodable, say
from cdc_sync.cli.sql import Target, the_one
from cdc_sync.config import Watch
from cdc_sync.core.failures import OperationError
from cdc_sync.core.rows import LONGEST_TEXT
from cdc_sync.core.status_url import id_in, id_refusal
from cdc_sync.source.connection import connected
from cdc_sync.source.side_table import IdTable, Link, Linked, told
from cdc_sync.source.side_table import link as put_in

_ID, _URL = "hellowork_id", "status_url"


def link(  # noqa: PLR0917 - typer's options
    context: typer.Context,
    application_id: Annotated[
        str | None,
        typer.Argument(metavar="APPLICATION_ID", help="HelloWork's id.", show_default=False, callback=decodable),
    ] = None,
    row: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY", help="The row's key; of several columns, once for each in their order.", callback=decodable
        ),
    ] = None,
    status_url: Annotated[str | None, typer.Option(metavar="URL", help="Its statusApiUrl.", callback=decodable)] = None,
    file: Annotated[
        Path | None,
        typer.Option("--csv", metavar="FILE", help=f"Many at once: {_ID}, the key's columns, maybe {_URL}."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="A row that has another id gets this one; the former counts as deleted.")
    ] = False,
    watch: WatchOption = None,
    dsn: Annotated[
        str | None,
        typer.Option(metavar="DSN", help="A login that may fill the table. Else database.dsn, which may not."),
    ] = None,
) -> None:
    """Say which row an application of HelloWork's is, in the side table that `sql id-table` makes. All or nothing."""
    target = Target(context, dsn)
    configured = the_one(target.config, watch)
    ids = IdTable.of(configured)
    if file is not None:
        if application_id is not None or row or status_url is not None:
            raise typer.BadParameter("the file says it all: no id, --row or --status-url", param_hint="--csv")
        links = _read(file, configured)
    elif application_id is None or not row:
        raise typer.BadParameter("an APPLICATION_ID with --row, or --csv", param_hint="APPLICATION_ID")
    else:
        if len(row) != len(configured.key):
            message = f"the key is {', '.join(configured.key)}: say --row once for each"
            raise typer.BadParameter(message, param_hint="--row")
        links = [Link("--row", tuple(row), application_id.strip(), status_url)]
    if not ids.is_configured:
        raise OperationError(
            "The watch does not read HelloWork's id from a side table, so there is nothing to fill. If it should, its "
            f"configuration is, with the table that `cdc-sync sql id-table` prints:\n{ids.configuration(configured)}"
        )
    if problems := _problems(links, has_url=ids.url is not None):
        raise OperationError(told(problems))
    linked = asyncio.run(_link(target.connection(), configured, links, replace=replace))
    say(f"{linked.new} linked, {linked.changed} changed, {linked.unchanged} were so already")


async def _link(dsn: str, watch: Watch, links: list[Link], *, replace: bool) -> Linked:
    async with connected(dsn) as connection:
        return await put_in(connection, watch, links, replace=replace)


def _read(file: Path, watch: Watch) -> list[Link]:
    """The links of a CSV file, with commas or semicolons."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise OperationError(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = file.read_bytes()[: error.start].count(b"\n") + 1
        raise OperationError(f"{file}, line {line}: it is not UTF-8. Save it as CSV UTF-8.") from None
    header, _, _ = text.partition("\n")
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=";" if ";" in header else ",", strict=True)
    wanted = [_ID, *watch.key]
    links, problems = [], []
    try:
        names = [name.strip() for name in reader.fieldnames or ()]
        if sorted(names) not in (sorted(wanted), sorted([*wanted, _URL])):
            raise OperationError(
                f"{file}, line 1: expected the columns {', '.join(wanted)} and, if it has status URLs, {_URL}; there "
                f"is {', '.join(names) or 'nothing'}"
            )
        reader.fieldnames = names
        for values in reader:
            place = f"line {reader.line_num}"
            if None in values or None in values.values():
                problems.append(f"{place}: expected {len(names)} fields")
                continue
            key = tuple(values[column] for column in watch.key)
            links.append(Link(place, key, values[_ID].strip(), values.get(_URL, "").strip() or None))
    except csv.Error as error:
        problems.append(f"near line {reader.line_num}: {error}")
    if problems:
        raise OperationError(f"{file}: {told(problems)}")
    return links


def _problems(links: list[Link], *, has_url: bool) -> list[str]:
    """What is wrong with links by themselves."""
    problems: list[str] = []
    first: dict[object, str] = {}
    for each in links:
        refusal = id_refusal(each.application_id)
        if refusal is None and len(each.application_id) > LONGEST_TEXT:
            refusal = f"the application's id has more than {LONGEST_TEXT} characters"
        wrong = [] if refusal is None else [refusal]
        if each.url is not None and not has_url:
            wrong.append("the watch reads no status URL from its side table (columns.status_url)")
        elif each.url is not None and id_in(each.url) != each.application_id:
            expected = f"…/v1/applications/{each.application_id}/status"
            wrong.append(f"the status URL {each.url!r} is not this application's: expected {expected}")
        named = {each.key: f"row {'/'.join(each.key)}", each.application_id: f"id {each.application_id!r}"}
        for key, what in named.items():
            if (place := first.setdefault(key, each.place)) != each.place:
                wrong.append(f"the {what} stands in {place} already")
        problems += [f"{each.place}: {why}" for why in wrong]
    return problems
