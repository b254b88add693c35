"""The DBA's scripts that install and remove the triggers, for PostgreSQL 10 to 18: all know EXECUTE PROCEDURE."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import NamedTuple

from psycopg import sql

from cdc_sync import own_path
from cdc_sync.ats.by_schema import BySchema, by_schema
from cdc_sync.ats.depends_on import refuse_undeclared
from cdc_sync.ats.expressions import among, composed, render, sections, template
from cdc_sync.ats.expressions import table as quoted
from cdc_sync.ats.granting import granting_watch
from cdc_sync.ats.recorders import (
    BELL,
    LONGEST_LABEL,
    Recorder,
    Trigger,
    bell_of,
    function_of,
    missed_of,
    noticed,
    recorder,
    tables_of,
)
from cdc_sync.config import Config, Watch
from cdc_sync.core.identifiers import QualifiedName
from cdc_sync.core.visible import visible
from cdc_sync.core.watch_names import SEPARATOR

LONGEST_PATIENCE = timedelta(minutes=1)

_PARTS = sections("parts.sql")


class Terms(NamedTuple):
    """What the installer decides.

    Attributes:
        patience: how long the first lock is waited for.
        owner: the role that owns what is made; None: the one that owns the watched tables.
    """

    patience: timedelta = timedelta(seconds=3)
    owner: str | None = None


TERMS = Terms()


class Part(NamedTuple):
    """Whole transactions of a script; `watch` names the only watch in them, if there is only one."""

    watch: str | None
    script: str


def install(config: Config, terms: Terms = TERMS) -> str:
    """The installation script for every watch in notify mode."""
    return "".join(part.script for part in installation(config, terms))


def installation(config: Config, terms: Terms = TERMS) -> Iterator[Part]:
    """The installation script in parts.

    The log and the file's watches are one transaction, each tenant's watch another: none locks a thousand tables.
    """
    watches = noticed(config.watches)
    refuse_undeclared(watches)
    of_file = {name: watch for name, watch in watches.items() if SEPARATOR not in name}
    tenants = {name: watch for name, watch in watches.items() if name not in of_file}
    head = _head(watches, terms)
    if of_file:
        yield Part(None, head + _transaction(of_file, terms))
        head = ""
    yield Part(None, head + f"\n{_PARTS['tenants']}\n" if tenants else head)
    functions: dict[str, TenantFunction | None] = {}
    for name, watch in tenants.items():
        kind = name.partition(SEPARATOR)[0]
        if kind not in functions:
            functions[kind] = function = tenant_function(config, kind, terms)
            yield Part(None, "" if function is None else function.create("pg_temp"))
        function = functions[kind]
        if function is not None and (schema := function.of.schema_of(name)) is not None:
            yield Part(name, f"{function.call('pg_temp', schema)}\n")
        else:
            yield Part(name, _transaction({name: watch}, terms))


def _head(watches: Mapping[str, Watch], terms: Terms) -> str:
    most = {_kind(name): f"{_kind(name)}: {watch.capture.max_backlog:,} bytes" for name, watch in watches.items()}
    owner = "the owner of the watched tables" if terms.owner is None else f"the role {visible(terms.owner)}"
    put_in = {"{owner}": owner, "{patience}": f"{_milliseconds(terms)} ms", "{backlog}": ", ".join(most.values())}
    return re.sub(r"\{\w+\}", lambda found: put_in[found[0]], template("install.sql"))


def _kind(name: str) -> str:
    template, separator, _ = name.partition(SEPARATOR)
    return f"{template}{separator}*" if separator else name


def _transaction(watches: Mapping[str, Watch], terms: Terms) -> str:
    tables = [table for watch in watches.values() for table in tables_of(watch)]
    return f"\n{own_path.begin(tables)}\n{_PARTS['quietly']}\n{''.join(_steps(watches, terms))}\nCOMMIT;\n"


def _steps(watches: Mapping[str, Watch], terms: Terms) -> Iterator[str]:
    tables = list(dict.fromkeys(table for watch in watches.values() for table in tables_of(watch)))
    yield _beginning(watches, tables, among(map(function_of, watches)), terms)
    yield template("log.sql")
    for name, watch in watches.items():
        yield _watch(recorder(name, watch), terms)


def _beginning(
    watches: Mapping[str, Watch], tables: Sequence[QualifiedName], functions: sql.Composable, terms: Terms
) -> str:
    """The part that finds what is in the way, locks, drops what was installed before, and becomes the owner."""
    owners = composed("SELECT current_user")
    if terms.owner is not None:
        owners = composed("SELECT {}", terms.owner)
    elif tables:
        owners = composed(_PARTS["owners"], tables=_existing(tables))
    relations = ["changes", BELL, *(name_of(watch) for watch in watches for name_of in (missed_of, bell_of))]
    return render(
        template("begin.sql"),
        **_locks(tables, functions, terms),
        owners=owners,
        relations=map(sql.Literal, relations),
        gives_by_default=sql.SQL(own_path.gives_by_default("owner")),
    )


def _watch(of: Recorder, terms: Terms) -> str:
    """The part that makes a watch's counter, function and triggers."""
    function = sql.SQL(of.function)
    missed = sql.SQL(missed_of(of.watch))
    script = render(
        template("watch.sql"),
        watch_name=sql.SQL(visible(of.watch)),
        missed=missed,
        former_bell=sql.SQL(bell_of(of.watch)),
        function=function,
        body=sql.SQL(of.body),
        comment=f"cdc-sync: {of.watch}",
    )
    tables = dict.fromkeys(trigger.table for trigger in of.triggers)
    if terms.owner is not None:
        script += render(
            template("table_owners.sql"), tables=map(own_path.oid_of, tables), missed=missed, function=function
        )
    for table in tables:
        if terms.owner is not None:
            script += render(_PARTS["as_tables_owner"], own_path.oid_of(table))
        statements = "".join(_trigger(trigger, of) for trigger in of.triggers if trigger.table == table)
        script += own_path.naming(table, statements)
    if terms.owner is not None:
        script += render(_PARTS["as_owner"], sql.Identifier(terms.owner)) + "\n"
    return script


def _trigger(trigger: Trigger, of: Recorder) -> str:
    """The statements that make a trigger."""
    table, name = quoted(trigger.table), sql.SQL(trigger.name)
    made = render(
        _PARTS[trigger.kind],
        trigger=name,
        table=table,
        function=sql.SQL(of.function),
        argument=sql.SQL(trigger.argument),
    )
    always = render("ALTER TABLE {} ENABLE ALWAYS TRIGGER {};\n", table, name) if of.always else ""
    return f"{made}\n{always}"


def _locks(tables: Iterable[QualifiedName], functions: sql.Composable, terms: Terms) -> dict[str, sql.Composable]:
    """The parts that lock these tables and those with earlier triggers, and drop the functions of these."""
    return {
        "declare_locks": composed(_PARTS["declare_locks"], functions=functions, tables=_existing(tables)),
        "lock": composed(_PARTS["lock"], patience=_milliseconds(terms)),
        "busy": sql.SQL(_PARTS["busy"]),
    }


def functions_for_tenants(config: Config, terms: Terms = TERMS, role: str | None = None) -> str:
    """The script that makes the templates' functions, which grant to the daemon's role, too; empty without any."""
    refuse_undeclared(config.templates)
    functions = tenant_functions(config, terms, role)
    if not functions:
        return ""
    names = among(function.name for function in functions)
    head = f"{_PARTS['for_new_tenants']}\n\n{own_path.begin()}\n{_PARTS['quietly']}\n"
    created = "".join(function.create("cdc_sync") for function in functions)
    return f"{head}{_beginning({}, [], names, terms)}{template('log.sql')}{created}\nCOMMIT;\n"


class TenantFunction(NamedTuple):
    """An SQL function that installs a template's triggers for a tenant's schema."""

    of: BySchema

    @property
    def name(self) -> str:
        """The function's name."""
        return f"install_{self.of.prefix[:-1].replace(SEPARATOR, '$')}"

    def create(self, schema: str) -> str:
        """The statement that creates the function in a schema."""
        return render(
            template("tenant_function.sql"),
            kind=sql.SQL(self.of.prefix),
            schema=sql.SQL(schema),
            name=sql.Identifier(self.name),
            longest=LONGEST_LABEL - len(self.of.prefix),
            watch=self.of.prefix,
            script=sql.SQL(render("$cdc_sync${script}$cdc_sync$", script=sql.SQL(self.of.script))),
            placeholder=self.of.placeholder,
            usage=f"SELECT {schema}.{self.name}('the schema');",
        )

    @property
    def body(self) -> str:
        """The function's text between the quotes."""
        found = re.search(r" AS\n(\$\w*\$)(.*)\1;\nREVOKE ", self.create("cdc_sync"), flags=re.DOTALL)
        if found is None:
            raise ValueError(self.name)
        return found[2]

    def call(self, schema: str, tenant: str) -> str:
        """The statement that installs a tenant."""
        return render("SELECT {}.{}({});", sql.SQL(schema), sql.Identifier(self.name), tenant)


def tenant_function(config: Config, name: str, terms: Terms = TERMS, role: str | None = None) -> TenantFunction | None:
    """A template's function; None if its tenants differ by more than a schema."""
    kind = config.templates.get(name)
    if kind is None or not kind.capture.needs.log:
        return None

    def script(watch_name: str, watch: Watch) -> str:
        steps = "".join(_steps({watch_name: watch}, terms))
        if role is None:
            return steps
        granted = "\n".join(granting_watch(watch_name, watch, sql.Identifier(role)))
        return f"{steps}\n{_PARTS['as_installer']}\n{granted}\n"

    found = by_schema(config, name, script)
    return None if found is None else TenantFunction(found)


def tenant_functions(config: Config, terms: Terms = TERMS, role: str | None = None) -> list[TenantFunction]:
    """The functions of all templates that have one."""
    return [each for name in config.templates if (each := tenant_function(config, name, terms, role)) is not None]


def uninstall(watch: str | None = None, terms: Terms = TERMS) -> str:
    """The script that removes everything, or one watch's objects, whatever is configured."""
    functions, sequences = composed("~ '^(record|install)_'"), composed("~ '^(bell$|bell_|missed_)'")
    what, rest = "everything that `cdc-sync sql install` ever installed in this database", _PARTS["of_all"]
    if watch is not None:
        functions, sequences = among([function_of(watch)]), among([missed_of(watch), bell_of(watch)])
        what = f"what `cdc-sync sql install` installed for the watch {visible(watch)}"
        rest = render(_PARTS["of_watch"], watch=watch)
    head = render(
        template("uninstall.sql"),
        what=sql.SQL(what),
        begin=sql.SQL(own_path.begin()),
        patience=_milliseconds(terms),
    )
    removed = render(
        template("uninstalled.sql"), **_locks([], functions, terms), sequences=sequences, rest=sql.SQL(rest)
    )
    return f"{head}{removed}\nCOMMIT;\n"


def for_psql(parts: Iterable[Part]) -> Iterator[str]:
    """A script as a file for psql, whatever its encoding; it stops at the first watch that fails."""
    is_stopping = False
    for part in parts:
        if part.watch is not None and not is_stopping:
            is_stopping = True
            yield "\\set ON_ERROR_STOP on\n"
        yield part.script if part.script.isascii() else f"SET client_encoding = 'UTF8';\n{part.script}"


def _milliseconds(terms: Terms) -> int:
    return terms.patience // timedelta(milliseconds=1)


def _existing(tables: Iterable[QualifiedName]) -> list[sql.Composable]:
    return [*map(own_path.existing, tables)] or [sql.NULL]
