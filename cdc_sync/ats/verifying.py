"""The queries that look for what is installed: `cdc-sync sql verify`, which the daemon and `check` run too."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from psycopg import sql

from cdc_sync import own_path
from cdc_sync.ats.expressions import among, composed, render, template
from cdc_sync.ats.recorders import (
    BELL,
    TRIGGERS,
    Recorder,
    bell_of,
    function_of,
    missed_of,
    noticed,
    recorder,
    tables_of_all,
)
from cdc_sync.ats.scripts import TenantFunction
from cdc_sync.config import Watch
from cdc_sync.core.visible import visible

_OF_RECORDER = '{} t {{"search_path=pg_catalog, pg_temp"}}'
_OF_TENANTS = '{} f {{client_min_messages=warning,quote_all_identifiers=off,"search_path=pg_catalog, pg_temp"}}'


class _Wanted(NamedTuple):
    """An object as `verify.sql` expects it.

    Attributes:
        made: what is compared of it.
        fires: `tgenabled` of a table's and its partitions' triggers, as a regular expression.
    """

    watch: str | None
    kind: str
    name: str
    function: str | None = None
    on_table: str | None = None
    made: str = ""
    fires: str | None = None
    may_be_missing: bool = False


_NOTHING = f"({', '.join(['NULL::text'] * (len(_Wanted._fields) - 1))}, true)"


def verify(
    watches: Mapping[str, Watch], for_tenants: Sequence[TenantFunction] | None = None, *, is_all: bool = True
) -> str:
    """The query that compares what is installed with what `install` would install.

    Others' objects are ignored unless `is_all`. The functions `for_tenants` may be missing; without a list of them they
    are not looked at.
    """
    watches = noticed(watches)
    wanted = [each for name, watch in watches.items() for each in _of_watch(recorder(name, watch))]
    if wanted:
        wanted = [_Wanted(None, "table", "changes"), _Wanted(None, "sequence", BELL), *wanted]
    for each in for_tenants or ():
        made = _OF_TENANTS.format(_md5(each.body))
        wanted.append(_Wanted(None, "function", each.name, each.name, made=made, may_be_missing=True))
    of_functions = composed("~ {}", "^record_" if for_tenants is None else "^(record|install)_")
    if not is_all:
        of_functions = among(map(function_of, watches))
    return render(
        template("verify.sql"),
        wanted=sql.SQL(",\n    ".join(_line(each) for each in wanted) or _NOTHING),
        of_functions=of_functions,
    )


def _line(of: _Wanted) -> str:
    found = (of.watch, of.kind, of.name, of.function, of.on_table, of.made, of.fires, of.may_be_missing)
    return composed("({})", map(sql.Literal, found)).as_string()


def _of_watch(of: Recorder) -> Iterator[_Wanted]:
    yield _Wanted(of.watch, "sequence", missed_of(of.watch))
    made = _OF_RECORDER.format(_md5(of.body))
    yield _Wanted(of.watch, "function", of.function, of.function, str(of.triggers[0].table), made)
    for trigger in of.triggers:
        made = " ".join([str(TRIGGERS[trigger.kind]), *([f"{trigger.argument}\\000"] if trigger.argument else [])])
        fires = "^A$" if of.always else "^[OA]+$"
        yield _Wanted(of.watch, "trigger", trigger.name, of.function, str(trigger.table), made, fires)


def _md5(body: str) -> str:
    # Line ends as they are here, in case the script went through a file of Windows.
    return hashlib.md5(body.replace("\r", "").encode(), usedforsecurity=False).hexdigest()


def absent(watch: str | None = None) -> str:
    """The query of all that is installed, or of one watch's objects, whatever is configured."""
    functions = relations = schema = composed("true")
    if watch is not None:
        functions = composed("regexp_replace(p.proname, '[$]\\d+$', '') = {}", function_of(watch))
        relations = composed("c.relname {}", among([missed_of(watch), bell_of(watch)]))
        schema = composed("false")
    what = sql.SQL("cdc-sync" if watch is None else f"the watch {visible(watch)}")
    return render(template("absent.sql"), what=what, functions=functions, relations=relations, schema=schema)


def as_script(query: str, watches: Mapping[str, Watch]) -> str:
    """A query of `verify` or `absent` for these watches, for psql."""
    return own_path.in_transaction(query, tables_of_all(watches))
