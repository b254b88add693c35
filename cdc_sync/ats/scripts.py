"""The DBA's scripts that install and remove the triggers, for PostgreSQL 10 to 18: all know EXECUTE PROCEDURE."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from psycopg import sql

from cdc_sync import own_path
from cdc_sync.ats.by_schema import BySchema, by_schema
from cdc_sync.ats.expressions import among, composed, render, sections, template, undeclared
from cdc_sync.ats.expressions import table as quoted
from cdc_sync.ats.granting import granting_watch
from cdc_sync.ats.recorders import (
    BELL,
    LONGEST_LABEL,
    Recorder,
    bell_of,
    function_of,
    missed_of,
    noticed,
    recorder,
    tables_of,
    tables_of_all,
)
from cdc_sync.config import Config, ConfigurationError, Problem, Watch
from cdc_sync.core.identifiers import QualifiedName
from cdc_sync.core.visible import visible
from cdc_sync.core.watch_names import SEPARATOR

_PARTS = sections("parts.sql")


class Part(NamedTuple):
    """Whole transactions of a script; `watch` names the only watch in them, if there is only one."""

    watch: str | None
    script: str


def install(config: Config, owner: str | None = None) -> str:
    """The installation script for every watch in notify mode.

    What it makes belongs to `owner`; None: to the owner of the watched tables.
    """
    return "".join(part.script for part in installation(config, owner))


def installation(config: Config, owner: str | None = None) -> Iterator[Part]:
    """The installation script in parts.

    The log and the file's watches are one transaction, each tenant's watch another: none locks a thousand tables.
    """
    watches = noticed(config.watches)
    refuse_undeclared(watches)
    of_file = {name: watch for name, watch in watches.items() if SEPARATOR not in name}
    tenants = {name: watch for name, watch in watches.items() if name not in of_file}
    of_all = _transaction(_steps(of_file, owner), tables_of_all(of_file)) if of_file else ""
    yield Part(None, _head(watches, owner) + of_all)
    if tenants:
        yield from _of_tenants(config, tenants, owner)


def refuse_undeclared(watches: Mapping[str, Watch]) -> None:
    """Raise `ConfigurationError` with the compared expressions without `depends_on`, of watches in notify mode."""
    # A tenant's section is the template's.
    places = {
        f"watches.{name.partition(SEPARATOR)[0]}.{place}": None
        for name, watch in noticed(watches).items()
        for place in undeclared(watch)
    }
    what = "notify mode needs depends_on here, the columns that the triggers compare"
    remedy = "paste the list that `cdc-sync check` prints"
    if places:
        raise ConfigurationError("the configuration", [Problem(place, None, what, remedy) for place in places])


def _of_tenants(config: Config, tenants: Mapping[str, Watch], owner: str | None) -> Iterator[Part]:
    functions = tenant_functions(config, owner)
    kinds = dict.fromkeys(name.partition(SEPARATOR)[0] for name in tenants)
    made = "".join(functions[kind].create("pg_temp") for kind in kinds if kind in functions)
    yield Part(None, f"\n{_PARTS['tenants']}\n{made}")
    for name, watch in tenants.items():
        function = functions.get(name.partition(SEPARATOR)[0])
        if function is not None and (schema := function.of.schema_of(name)) is not None:
            yield Part(name, render("SELECT pg_temp.{}({});\n", sql.Identifier(function.name), schema))
        else:
            yield Part(name, _transaction(_steps({name: watch}, owner), tables_of(watch)))


def _head(watches: Mapping[str, Watch], owner: str | None) -> str:
    most = dict[str, str]()
    for name, watch in watches.items():
        template_name, separator, _ = name.partition(SEPARATOR)
        kind = f"{template_name}{separator}*" if separator else name
        most[kind] = f"{kind}: {watch.capture.max_backlog:,} bytes"
    whose = "the owner of the watched tables" if owner is None else f"the role {visible(owner)}"
    return render(
        template("install.sql"),
        owner=sql.SQL(whose),
        backlog=sql.SQL(", ".join(most.values())),
    )


def _transaction(steps: Iterable[str], tables: Iterable[QualifiedName] = ()) -> str:
    """A transaction of the steps, which name these tables."""
    return "\n" + own_path.in_transaction(f"{_PARTS['quietly']}\n{''.join(steps)}", tables)


def _steps(watches: Mapping[str, Watch], owner: str | None) -> Iterator[str]:
    yield _beginning(watches, among(map(function_of, watches)), owner)
    yield template("log.sql")
    for name, watch in watches.items():
        yield from _watch(recorder(name, watch), owner)


def _beginning(watches: Mapping[str, Watch], functions: sql.Composable, owner: str | None) -> str:
    """The part that finds what is in the way, locks, drops these functions, and becomes the owner."""
    owners: sql.Composable = sql.SQL("SELECT current_user")
    if owner is not None:
        owners = composed("SELECT {}", owner)
    elif watches:
        owners = sql.SQL(_PARTS["owners"])
    relations = ["changes", BELL, *(name_of(watch) for watch in watches for name_of in (missed_of, bell_of))]
    return render(
        template("begin.sql"),
        **_locks(tables_of_all(watches), functions),
        owners=owners,
        relations=map(sql.Literal, relations),
        gives_by_default=sql.SQL(own_path.gives_by_default("owner")),
    )


def _watch(of: Recorder, owner: str | None) -> Iterator[str]:
    """The parts that make a watch's counter, function and triggers; these as the tables' owners."""
    names = {"missed": sql.SQL(missed_of(of.watch)), "function": sql.SQL(of.function)}
    yield render(
        template("watch.sql"),
        **names,
        watch_name=sql.SQL(visible(of.watch)),
        former_bell=sql.SQL(bell_of(of.watch)),
        body=sql.SQL(of.body),
        comment=f"cdc-sync: {of.watch}",
    )
    if owner is not None:
        tables = dict.fromkeys(trigger.table for trigger in of.triggers)
        yield render(template("table_owners.sql"), **names, tables=map(own_path.oid_of, tables))
    for table, triggers in groupby(of.triggers, attrgetter("table")):
        if owner is not None:
            yield "\n" + render(_PARTS["as_tables_owner"], own_path.oid_of(table)) + "\n"
        made = ""
        for trigger in triggers:
            its = {**names, "trigger": sql.SQL(trigger.name), "table": quoted(table)}
            made += render(_PARTS[trigger.kind], **its, argument=sql.SQL(trigger.argument)) + "\n"
            made += render(_PARTS["always"], **its) + "\n" if of.always else ""
        yield own_path.naming(table, made)
    if owner is not None:
        yield render(_PARTS["as_owner"], sql.Identifier(owner)) + "\n"


def _locks(tables: Iterable[QualifiedName], functions: sql.Composable) -> dict[str, sql.Composable]:
    """The parts that lock these tables and those with earlier triggers, and drop the functions of these."""
    return {
        "declare_locks": composed(_PARTS["declare_locks"], functions=functions, tables=map(own_path.existing, tables)),
        "lock": sql.SQL(_PARTS["lock"]),
        "busy": sql.SQL(_PARTS["busy"]),
    }


def functions_for_tenants(config: Config, owner: str | None = None, role: str | None = None) -> str:
    """The script that makes the templates' functions, which grant to the daemon's role, too; empty without any."""
    refuse_undeclared(config.templates)
    functions = tenant_functions(config, owner, role).values()
    if not functions:
        return ""
    beginning = _beginning({}, among(function.name for function in functions), owner)
    created = (function.create("cdc_sync") for function in functions)
    return f"{_PARTS['for_new_tenants']}\n{_transaction([beginning, template('log.sql'), *created])}"


class TenantFunction(NamedTuple):
    """An SQL function that installs a template's triggers for a tenant's schema."""

    of: BySchema

    @property
    def name(self) -> str:
        """The function's name."""
        return f"install_{self.of.prefix[:-1].replace(SEPARATOR, '$')}"

    def create(self, schema: str) -> str:
        """The statement that creates the function in a schema."""
        names = {"schema": sql.SQL(schema), "name": sql.Identifier(self.name)}
        kind, body = sql.SQL(self.of.prefix), sql.SQL(self.body)
        return f"\n{render(_PARTS['tenant_function'], **names, kind=kind, body=body)}\n"

    @property
    def body(self) -> str:
        """The function's text between the quotes."""
        return render(
            template("tenant_function.sql"),
            longest=LONGEST_LABEL - len(self.of.prefix),
            watch=self.of.prefix,
            script=sql.SQL(render("$cdc_sync${script}$cdc_sync$", script=sql.SQL(self.of.script))),
            placeholder=self.of.placeholder,
            usage=f"SELECT cdc_sync.{self.name}('the schema');",
        )


def tenant_functions(config: Config, owner: str | None = None, role: str | None = None) -> dict[str, TenantFunction]:
    """The functions of templates in notify mode, by name; there is none if tenants differ by more than a schema."""

    def script(watch_name: str, watch: Watch) -> str:
        steps = "".join(_steps({watch_name: watch}, owner))
        if role is None:
            return steps
        return f"{steps}\n{_PARTS['as_installer']}\n{granting_watch(watch_name, watch, sql.Identifier(role))}\n"

    found = {name: by_schema(config, name, script) for name in noticed(config.templates)}
    return {name: TenantFunction(of) for name, of in found.items() if of is not None}


def uninstall(watch: str | None = None) -> str:
    """The script that removes everything, or one watch's objects, whatever is configured."""
    functions, sequences = composed("~ '^(record|install)_'"), composed("~ '^(bell$|bell_|missed_)'")
    what, rest = "everything that `cdc-sync sql install` ever installed in this database", _PARTS["of_all"]
    if watch is not None:
        functions, sequences = among([function_of(watch)]), among([missed_of(watch), bell_of(watch)])
        what = f"what `cdc-sync sql install` installed for the watch {visible(watch)}"
        rest = render(_PARTS["of_watch"], watch=watch)
    head = render(template("uninstall.sql"), what=sql.SQL(what))
    locks = _locks([], functions)
    removed = render(template("uninstalled.sql"), **locks, sequences=sequences, rest=sql.SQL(rest))
    return head + _transaction([removed])


def for_psql(parts: Iterable[Part]) -> Iterator[str]:
    """A script as a file for psql, whatever its encoding; it stops at the first watch that fails."""
    is_stopping = False
    for part in parts:
        if part.watch is not None and not is_stopping:
            is_stopping = True
            yield "\\set ON_ERROR_STOP on\n"
        yield part.script if part.script.isascii() else f"SET client_encoding = 'UTF8';\n{part.script}"
