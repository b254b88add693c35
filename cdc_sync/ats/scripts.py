"""The DBA's scripts, for PostgreSQL 10 to 18: for the triggers, the rights of the daemon's role, and a side table.

All versions know EXECUTE PROCEDURE. Tenants that differ by their schema only have one text, for all of them.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import count
from typing import NamedTuple

from psycopg.sql import SQL, Composable, Identifier, Literal

from cdc_sync import own_path
from cdc_sync.config import Config, ConfigurationError, Problem, Watch
from cdc_sync.config.sections import OwnHelloWork
from cdc_sync.config.tenants import Tenant, watch_for, watch_name
from cdc_sync.config.yaml_text import block
from cdc_sync.core.identifiers import LONGEST, QualifiedName, written
from cdc_sync.core.visible import visible
from cdc_sync.core.watch_names import SEPARATOR, template_of

from .expressions import among, composed, render, sections, template, undeclared, watched
from .expressions import name as quoted_name
from .expressions import table as quoted
from .mapping import id_in_url
from .triggers import (
    BELL,
    LONGEST_LABEL,
    TRIGGERS,
    bell_of,
    function_body,
    function_of,
    label_of,
    missed_of,
    noticed,
    recorded_tables,
    tables_of,
    tables_of_all,
    trigger_of,
)

_PARTS = sections("parts.sql")

_OUR_ROLE = SQL("current_user")

_UNKNOWN = """\
-- An expression of this watch has no depends_on. With it (`cdc-sync check` prints the list) a few columns
-- are enough here."""


class Part(NamedTuple):
    """Whole transactions of a script; `watch` names the only watch in them, if there is only one."""

    watch: str | None
    script: str


def install(config: Config, owner: str | None = None) -> Iterator[Part]:
    """The installation script for every watch in notify mode, in parts.

    What it makes belongs to `owner`; None: to the owner of the watched tables. The log and the file's watches are one
    transaction, each tenant's watch another: none locks a thousand tables.
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
        f"watches.{template_of(name)}.{place}": None
        for name, watch in noticed(watches).items()
        for place in undeclared(watch)
    }
    what = "notify mode needs depends_on here, the columns that the triggers compare"
    remedy = "paste the list that `cdc-sync check` prints"
    if places:
        raise ConfigurationError("the configuration", [Problem(place, what, remedy) for place in places])


def _of_tenants(config: Config, tenants: Mapping[str, Watch], owner: str | None) -> Iterator[Part]:
    functions = tenant_functions(config, owner)
    templates = dict.fromkeys(map(template_of, tenants))
    made = "".join(functions[name].create("pg_temp") for name in templates if name in functions)
    yield Part(None, f"\n{_PARTS['tenants']}\n{made}")
    for name, watch in tenants.items():
        of = functions.get(template_of(name))
        if of is not None and (schema := of.schema_of(name)) is not None:
            yield Part(name, render("SELECT pg_temp.{}({});\n", Identifier(of.function), schema))
        else:
            yield Part(name, _transaction(_steps({name: watch}, owner), tables_of(watch)))


def _head(watches: Mapping[str, Watch], owner: str | None) -> str:
    whose = "the owner of the watched tables" if owner is None else f"the role {visible(owner)}"
    most = max((watch.capture.max_backlog for watch in watches.values()), default=0)
    return render(template("install.sql"), owner=SQL(whose), backlog=SQL(f"{most:,}"))


def _transaction(steps: Iterable[str], tables: Iterable[QualifiedName] = ()) -> str:
    """A transaction of the steps, which name these tables."""
    return "\n" + own_path.in_transaction(f"{_PARTS['quietly']}\n{''.join(steps)}", tables)


def _steps(watches: Mapping[str, Watch], owner: str | None) -> Iterator[str]:
    yield _beginning(watches, among(map(function_of, watches)), owner)
    yield template("log.sql")
    for name, watch in watches.items():
        yield from _watch(name, watch, owner)


def _beginning(watches: Mapping[str, Watch], functions: Composable, owner: str | None) -> str:
    """The part that finds what is in the way, locks, drops these functions, and becomes the owner."""
    owners: Composable = SQL("SELECT current_user")
    if owner is not None:
        owners = composed("SELECT {}", owner)
    elif watches:
        owners = SQL(_PARTS["owners"])
    relations = ["changes", BELL, *(name_of(watch) for watch in watches for name_of in (missed_of, bell_of))]
    return render(
        template("begin.sql"),
        **_locks(tables_of_all(watches), functions),
        owners=owners,
        relations=map(Literal, relations),
        gives_by_default=SQL(own_path.gives_by_default("owner")),
    )


def _watch(name: str, watch: Watch, owner: str | None) -> Iterator[str]:
    """The parts that make a watch's counter, function and triggers; these as the tables' owners."""
    names = {"missed": SQL(missed_of(name)), "function": SQL(function_of(name))}
    yield render(
        template("watch.sql"),
        **names,
        watch_name=SQL(visible(name)),
        former_bell=SQL(bell_of(name)),
        body=SQL(function_body(name, watch)),
        comment=f"cdc-sync: {name}",
    )
    if owner is not None:
        tables = map(own_path.oid_of, tables_of_all({name: watch}))
        yield render(template("table_owners.sql"), **names, tables=tables)
    for recorded in recorded_tables(watch):
        if owner is not None:
            yield "\n" + render(_PARTS["as_tables_owner"], own_path.oid_of(recorded.table)) + "\n"
        made = ""
        for kind in TRIGGERS:
            trigger = SQL(trigger_of(name, kind, recorded.number))
            its = {**names, "trigger": trigger, "table": quoted(recorded.table)}
            made += render(_PARTS[kind], **its, argument=SQL(recorded.argument)) + "\n"
            made += render(_PARTS["always"], **its) + "\n" if watch.capture.replicated else ""
        yield own_path.naming(recorded.table, made)
    if owner is not None:
        yield render(_PARTS["as_owner"], Identifier(owner)) + "\n"


def _locks(tables: Iterable[QualifiedName], functions: Composable) -> dict[str, Composable]:
    """The parts that lock these tables and those with earlier triggers, and drop the functions of these."""
    return {
        "declare_locks": composed(_PARTS["declare_locks"], functions=functions, tables=map(own_path.existing, tables)),
        "lock": SQL(_PARTS["lock"]),
        "busy": SQL(_PARTS["busy"]),
    }


def uninstall(watch: str | None = None) -> str:
    """The script that removes everything, or one watch's objects, whatever is configured."""
    functions, sequences = composed("~ '^(record|install)_'"), composed("~ '^(bell$|bell_|missed_)'")
    what, rest = "everything that `cdc-sync sql install` ever installed in this database", _PARTS["of_all"]
    if watch is not None:
        functions, sequences = among([function_of(watch)]), among([missed_of(watch), bell_of(watch)])
        what = f"what `cdc-sync sql install` installed for the watch {visible(watch)}"
        rest = render(_PARTS["of_watch"], watch=watch)
    head = render(template("uninstall.sql"), what=SQL(what))
    locks = _locks([], functions)
    removed = render(template("uninstalled.sql"), **locks, sequences=sequences, rest=SQL(rest))
    return head + _transaction([removed])


def for_psql(parts: Iterable[Part]) -> Iterator[str]:
    """A script as a file for psql, whatever its encoding; it stops at the first watch that fails."""
    is_stopping = False
    for part in parts:
        if part.watch is not None and not is_stopping:
            is_stopping = True
            yield "\\set ON_ERROR_STOP on\n"
        yield part.script if part.script.isascii() else f"SET client_encoding = 'UTF8';\n{part.script}"


# The tenants of a template.


class BySchema(NamedTuple):
    """SQL that is the same for each tenant of a template, but for its schema; and an SQL function that runs it for one.

    `script` is for the schema `placeholder`, a name that occurs nowhere else in it. `prefix` is a watch's name before
    the schema's.
    """

    prefix: str
    script: str
    placeholder: str

    def schema_of(self, watch: str) -> str | None:
        """A watch's schema; None if it cannot be put in as it is."""
        label, schema = label_of(watch), watch.removeprefix(self.prefix)
        is_plain = watch.startswith(self.prefix) and label.endswith(f"${schema}") and not schema.startswith("cdc_sync")
        return schema if is_plain else None

    @property
    def function(self) -> str:
        """The function's name."""
        return f"install_{self.prefix[:-1].replace(SEPARATOR, '$')}"

    @property
    def body(self) -> str:
        """The function's text between the quotes."""
        return render(
            template("tenant_function.sql"),
            longest=LONGEST_LABEL - len(self.prefix),
            watch=self.prefix,
            script=self.quoted,
            placeholder=self.placeholder,
        )

    @property
    def quoted(self) -> SQL:
        """The script as a text in SQL."""
        return SQL(render("$cdc_sync${}$cdc_sync$", SQL(self.script)))

    def create(self, schema: str) -> str:
        """The statement that creates the function in a schema."""
        names = {"schema": SQL(schema), "name": Identifier(self.function)}
        kind, body = SQL(self.prefix), SQL(self.body)
        return f"\n{render(_PARTS['tenant_function'], **names, kind=kind, body=body)}\n"


def by_schema(config: Config, name: str, script: Callable[[str, Watch], str]) -> BySchema | None:
    """The SQL of a template, by what makes it for a watch; None if its tenants differ by more than a schema."""
    kind = config.templates[name]
    if kind.tenants.schemas is None:
        return None
    database = next(iter(config.databases)) if kind.tenants.databases else None
    without_headers = kind.model_copy(update={"hellowork": OwnHelloWork()})

    def script_for(schema: str) -> str:
        tenant = Tenant(database, schema)
        return script(watch_name(name, tenant), watch_for(without_headers, tenant, str))

    for number in count():
        placeholder, other = f"x{number}", f"y{number}"
        watch = watch_name(name, Tenant(database, placeholder))
        if not label_of(watch).endswith(f"${placeholder}"):
            break  # a long name: each tenant's has a hash
        if (made := script_for(placeholder)).replace(placeholder, other) == script_for(other):
            return BySchema(watch.removesuffix(placeholder), made, placeholder)
    return None


def functions_for_tenants(config: Config, owner: str | None = None, role: str | None = None) -> str:
    """The script that makes the templates' functions, which grant to the daemon's role, too; empty without any."""
    refuse_undeclared(config.templates)
    functions = tenant_functions(config, owner, role).values()
    if not functions:
        return ""
    beginning = _beginning({}, among(each.function for each in functions), owner)
    created = (each.create("cdc_sync") for each in functions)
    return f"{_PARTS['for_new_tenants']}\n{_transaction([beginning, template('log.sql'), *created])}"


def tenant_functions(config: Config, owner: str | None = None, role: str | None = None) -> dict[str, BySchema]:
    """The functions of templates in notify mode, by name; there is none if tenants differ by more than a schema."""

    def script(name: str, watch: Watch) -> str:
        steps = "".join(_steps({name: watch}, owner))
        if role is None:
            return steps
        return f"{steps}\n{_PARTS['as_caller']}\n{_granting_watch(name, watch, Identifier(role))}\n"

    found = {name: by_schema(config, name, script) for name in noticed(config.templates)}
    return {name: of for name, of in found.items() if of is not None}


# The role's rights.


def grants(config: Config, role: str) -> str:
    """The GRANTs for the daemon's role: columns to read, and in notify mode the log, the bell and the counters.

    Those for tenants that differ by their schema only are in a loop.
    """
    statements = partial(_granting_watch, role=Identifier(role))
    of_templates = {name: by_schema(config, name, statements) for name in config.templates}
    schemas = defaultdict[BySchema, list[str]](list)
    script = render(template("grants.sql"), role=role, begin=SQL(own_path.begin(tables_of_all(config.watches))))
    for name, watch in config.watches.items():
        of = of_templates.get(template_of(name))
        schema = None if of is None else of.schema_of(name)
        if of is None or schema is None:
            script += f"\n-- Watch {visible(name)}\n{statements(name, watch)}\n"
        else:
            schemas[of].append(schema)
    for of, its_schemas in schemas.items():
        script += render(
            template("each_schema.sql"),
            kind=SQL(of.prefix),
            schemas=map(Literal, its_schemas),
            statements=of.quoted,
            placeholder=of.placeholder,
        )
    end = render(template("granted.sql"), role=SQL(visible(Identifier(role).as_string())))
    return f"{script}\n{end}\nCOMMIT;\n"


def missing_grants(name: str, watch: Watch, role: str | None = None) -> str:
    """The query of the GRANTs that a role (None: ours) lacks for a watch; what does not exist, it does not lack."""
    whose = _OUR_ROLE if role is None else Literal(role)
    rows = [composed("({}, {})", need.what, need.has) for need in _needs(name, watch, whose)]
    return composed(_PARTS["missing_grants"], rows=rows, role=whose).as_string()


def _granting_watch(name: str, watch: Watch, role: Identifier) -> str:
    lines = [_UNKNOWN] if watched(watch) is None else []
    for need in _needs(name, watch, _OUR_ROLE):
        grant = render("GRANT {} TO {};", SQL(need.what), role)
        lines.append(grant if need.table is None else own_path.naming(need.table, grant).rstrip())
    return "\n".join(lines)


class _Need(NamedTuple):
    """What the daemon's role needs: as GRANT has it, and whether a role has it, in SQL (NULL: it does not exist).

    `table` is one that the configuration names.
    """

    what: str
    has: Composable
    table: QualifiedName | None = None


def _needs(name: str, watch: Watch, role: Composable) -> Iterator[_Need]:
    """What a role needs for a watch."""
    needed, watermark = watched(watch), watch.capture.needed_watermark
    if needed is not None and watermark is not None:
        needed = tuple(dict.fromkeys((*needed, watermark)))
    # Which of the related tables' columns an expression reads, only the server knows.
    for table, columns in [(watch.table, needed or ()), *((each.table, ()) for each in watch.related)]:
        if table.schema is not None:
            yield _schema(table.schema, role)
        part = _PARTS["has_columns" if columns else "has_some_column"]
        has = composed(part, table=own_path.oid_of(table), columns=map(Literal, columns), role=role)
        yield _Need(_select(table, columns), has, table)
    if watch.capture.needs_log:
        yield _schema("cdc_sync", role)
        yield _ours("changes", ("SELECT", "DELETE", "TRUNCATE"), role)
        yield _ours(BELL, ("SELECT", "UPDATE"), role)
        yield _ours(missed_of(name), ("SELECT",), role)


def _schema(schema: str, role: Composable) -> _Need:
    return _Need(_usage(schema), composed(_PARTS["has_schema"], schema=written(schema), role=role))


def _usage(schema: str) -> str:
    return f"USAGE ON SCHEMA {Identifier(schema).as_string()}"


def _ours(relation: str, privileges: Sequence[str], role: Composable) -> _Need:
    """Privileges on a relation of our schema."""
    oid = own_path.oid_of(QualifiedName("cdc_sync", relation))
    has = [composed(_PARTS["has_privilege"], role=role, oid=oid, privilege=each) for each in privileges]
    return _Need(f"{', '.join(privileges)} ON cdc_sync.{relation}", SQL(" AND ").join(has))


def _select(table: QualifiedName, columns: Sequence[str]) -> str:
    which = composed(" ({})", map(Identifier, columns)) if columns else SQL("")
    return composed("SELECT{} ON {}", which, quoted(table)).as_string()


# The side table of HelloWork's ids, for an ATS without them.

_SUFFIX, _ID, _URL = "_hellowork", "hellowork_id", "status_url"


def id_table(watch: Watch, role: str) -> str:
    """The script that creates a watch's side table, for the daemon's role to read, and the watch's keys for it."""
    watched_name = watch.table
    beginning = watched_name.name.encode()[: LONGEST - len(_SUFFIX)].decode(errors="ignore")
    table = QualifiedName(watched_name.schema, beginning + _SUFFIX)
    usage = [] if table.schema is None else [_usage(table.schema)]
    privileges = (*usage, _select(table, (*watch.key, _ID, _URL)))
    granted = [render("GRANT {} TO {};", SQL(what), Identifier(role)) for what in privileges]
    made = render(
        template("id_table.sql"),
        **_making_id_table(watch.key),
        side=SQL(visible(str(table))),
        watched=SQL(visible(str(watched_name))),
        begin=SQL(own_path.begin([watched_name, table])),
        watched_name=own_path.existing(watched_name),
        side_name=own_path.new_name(table),
        side_oid=own_path.oid_of(table),
        grants=SQL(own_path.naming(table, "\n".join(granted)).rstrip()),
    )
    wanted = "".join(f"--   {visible(line)}\n" for line in _configuring(table, watch.key).splitlines())
    return f"{made}\n-- In the watch's configuration, then `cdc-sync sql install` once more in notify mode:\n{wanted}"


def _configuring(table: QualifiedName, key: Sequence[str]) -> str:
    """The watch's keys for this side table, as YAML."""
    columns = list(map(written, key))
    on = " AND ".join(f"h.{column} = t.{column}" for column in columns)
    mapped = {
        # YAML would refer to the same list.
        field: {"sql": f"(SELECT h.{column} FROM {table} h WHERE {on})", "depends_on": [*columns]}  # noqa: S608 - for a file
        for field, column in {"application_id": _ID, "status_url": _URL}.items()
    }
    return block({"columns": mapped, "related": [{"table": str(table), "key": columns}]})


def _making_id_table(key: Sequence[str]) -> dict[str, str]:
    """What makes it, as formats for `format()`: the first %s is the side table, the other the watched one."""
    columns = [*map(quoted_name, key)]
    copied = [*columns, *(composed("''::text AS {}", quoted_name(each)) for each in (_ID, _URL))]
    unique = "ALTER TABLE %s ADD PRIMARY KEY ({}), ALTER {} SET NOT NULL, ADD UNIQUE ({})"
    parts = columns, quoted_name(_ID), quoted_name(_ID), id_in_url(quoted_name(_URL))
    refers = "ALTER TABLE %s ADD FOREIGN KEY ({}) REFERENCES %s ({}) ON UPDATE CASCADE ON DELETE CASCADE"
    return {
        "create": composed("CREATE TABLE %s AS SELECT {} FROM %s WITH NO DATA", copied).as_string(),
        "alter": composed(f"{unique}; CREATE INDEX ON %1$s ({{}})", *parts).as_string(),
        "refer": composed(refers, columns, columns).as_string(),
    }
