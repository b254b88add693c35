"""Whether what capture.mode notify needs is there, fires, and is what this version would install."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from cdc_sync.config import Watch
from cdc_sync.source.connection import Connection, asking
from cdc_sync.source.errors import translate, unwritable
from cdc_sync.source.recorders import bell_of, function_of
from cdc_sync.source.scripts import verify_watches
from cdc_sync.source.unrecorded import blind_spots

_WORKED = """
SELECT is_called, coalesce(pg_stat_get_tuples_deleted(to_regclass('cdc_sync.changes')) > 0, false) FROM {}
"""


@dataclass(frozen=True, slots=True)
class Verified:
    """One object and its state, as `sql verify` tells it; `function` is the one that a trigger calls."""

    watch: str | None
    kind: str
    name: str
    table: str | None
    function: str | None
    state: str


@dataclass(frozen=True, slots=True)
class Installation:
    """What there is for one watch.

    Attributes:
        problems: what is wrong, in words; empty if nothing is.
        has_log: whether there is a change log to read: also if triggers are disabled or outdated.
    """

    problems: tuple[str, ...]
    has_log: bool


async def verified(connection: Connection, query: str) -> list[Verified]:
    """Run a query of `scripts.verify`.

    Raises:
        SourceError: the catalog cannot be read.
    """
    try:
        # In the encoding that the server reads it in: in another, a name's last byte might swallow its closing quote.
        rows = await (await connection.execute(query.encode(connection.info.encoding))).fetchall()
    except psycopg.Error as error:
        raise translate(error, "looking for the triggers") from error
    except UnicodeEncodeError as error:
        raise unwritable(error) from error
    return [Verified(*row) for row in rows]


async def installation(connection: Connection, name: str, watch: Watch) -> Installation:
    """Look for what a watch needs.

    Raises:
        SourceError: the catalog cannot be read.
    """
    told = await verified(connection, verify_watches({name: watch}, rights_too=False))
    found = [each for each in told if each.state != "left over"]
    has_log = all(
        each.state != "missing"
        for each in found
        if each.kind != "trigger" and each.function in {None, function_of(name)}
    )
    alien = (
        f"{each.table}, which only keeps rows, has a {each.kind} of somebody else: {each.name}"
        for each in found
        if each.state == "not ours"
    )
    return Installation((*_problems(found), *alien, *await blind_spots(connection, watch)), has_log)


def exposures(found: Sequence[Verified]) -> list[str]:
    """What other roles may do with what is ours, in words. It does not keep anything from working."""
    return [f"{each.table}: {each.name}" for each in found if each.state == "exposed"]


def undumpable(found: Sequence[Verified]) -> list[str]:
    """What the owners of the watched tables may not read, in words: it keeps `pg_dump` from working, and no daemon."""
    return sorted(f"{each.table}: {each.name}" for each in found if each.state == "unreadable")


async def worked_before(connection: Connection, name: str, *, alone: bool) -> bool:
    """Whether a daemon has worked a watch here: its bell was set once, or changes were taken from the log.

    The log says nothing of which watch was worked: it counts only if the watch is `alone`, the first of its store.
    The change log and the bell must be there.

    Raises:
        SourceError: they cannot be read.
    """
    query = sql.SQL(_WORKED).format(sql.Identifier("cdc_sync", bell_of(name)))
    async with asking("looking for an earlier daemon's work"):
        row = await (await connection.execute(query)).fetchone()
    return row is not None and bool(row[0] or (alone and row[1]))


def _problems(found: Sequence[Verified]) -> Iterator[str]:
    parts: dict[str, list[Verified]] = {}
    for each in found:
        if each.function is not None:
            parts.setdefault(each.function, []).append(each)
    for function, own in parts.items():
        states, table = {each.state for each in own}, own[0].table
        if "missing" in states:
            yield f"the triggers of cdc_sync.{function} are not installed on {table}"
        elif "disabled" in states:
            yield f"triggers of cdc_sync.{function} are disabled"
        elif "different" in states:
            yield f"cdc_sync.{function} was installed by another version or configuration, or edited since"
    if any(each.kind == "function" and each.state != "missing" for each in found):
        # Without any function nothing was ever installed, and that has been said.
        for each in found:
            if each.function is None and each.state == "missing":
                yield f"the {each.kind} {each.name} does not exist"
