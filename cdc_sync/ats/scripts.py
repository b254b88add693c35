"""The DBA's scripts, rendered from the .sql files, for PostgreSQL 10 to 18 (every one knows EXECUTE PROCEDURE)."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import count
from typing import NamedTuple

from psycopg import sql

from cdc_sync import own_path, rights
from cdc_sync.ats.depends_on import refuse_undeclared
from cdc_sync.ats.expressions import (
    Dependencies,
    composed,
    render,
    sections,
    template,
    watched,
)
from cdc_sync.ats.expressions import table as quoted
from cdc_sync.ats.recorders import (
    BELL,
    LONGEST_LABEL,
    bell_of,
    function_of,
    label_of,
    missed_of,
    only_tables,
    recorder,
    tables_of,
)
from cdc_sync.config import Config, Watch
from cdc_sync.config.dsn import user_of
from cdc_sync.config.hellowork import OwnHelloWork
from cdc_sync.config.tenants import Tenant, watch_for, watch_name
from cdc_sync.core.identifiers import QualifiedName
from cdc_sync.core.visible import visible
from cdc_sync.core.watch_names import SEPARATOR

PATIENCE = timedelta(seconds=3)
"""How long a script waits for the first lock by default; `LONGEST_PATIENCE` is the most."""

LONGEST_PATIENCE = timedelta(minutes=1)

_PARTS = sections("parts.sql")

_UNKNOWN = """\
-- An expression of this watch has no depends_on. With it (`cdc-sync check` prints the list) a few columns
-- are enough here."""

_IF_ROWS_ARE_HIDDEN = """\
-- If the table has row-level security: a row hidden from the daemon looks like a deleted one, so that every
-- deletion waits for a person. Then also:"""


def install(config: Config, patience: timedelta = PATIENCE) -> str:
    """The installation script for every watch in notify mode."""
    return "".join(part.script for part in installation(config, patience))


class Part(NamedTuple):
    """Whole transactions of a script; `watch` names the only watch in them, if there is only one."""

    watch: str | None
    script: str


def installation(config: Config, patience: timedelta = PATIENCE) -> Iterator[Part]:
    """The installation script in parts, each of which waits for its first lock as long as `patience`.

    The log and the file's watches are one transaction, each tenant's watch another: none locks a thousand tables, and
    one broken schema affects no other tenant.
    """
    watches = noticed(config.watches)
    refuse_undeclared(watches)
    most = {_kind(name): f"{_kind(name)}: {watch.capture.max_backlog:,} bytes" for name, watch in watches.items()}
    head = template("install.sql").replace("{backlog}", ", ".join(most.values()) or "no watch is in notify mode")
    of_file = {name: watch for name, watch in watches.items() if SEPARATOR not in name}
    yield Part(None, head.replace("{patience}", _setting(patience)) + _transaction(config, of_file, patience))
    tenants = {name: watch for name, watch in watches.items() if name not in of_file}
    if tenants:
        yield Part(None, f"\n{_PARTS['tenants']}\n")
    functions: dict[str, TenantFunction | None] = {}
    for name, watch in tenants.items():
        kind = name.partition(SEPARATOR)[0]
        if kind not in functions:
            functions[kind] = function = tenant_function(config, kind, patience)
            yield Part(None, "" if function is None else function.create("pg_temp"))
        function = functions[kind]
        if function is not None and (schema := function.schema_of(name)) is not None:
            yield Part(name, f"{function.call('pg_temp', schema)}\n")
        else:
            yield Part(name, _transaction(config, {name: watch}, patience))


def functions_for_tenants(config: Config, patience: timedelta = PATIENCE) -> str:
    """The script that installs the log and the templates' functions; empty if there are none."""
    refuse_undeclared(config.templates)
    functions = tenant_functions(config, patience)
    if not functions:
        return ""
    return f"{_PARTS['for_new_tenants']}\n{_transaction(config, {}, patience, functions)}"


class TenantFunction(NamedTuple):
    """An SQL function that installs a template's triggers for a tenant's schema.

    `prefix` is a watch's name before the schema's. `script` is for the schema `placeholder`, a name that occurs
    nowhere else in it.
    """

    prefix: str
    script: str
    placeholder: str
    patience: timedelta

    @property
    def name(self) -> str:
        """The function's name."""
        return f"install_{self.prefix[:-1].replace(SEPARATOR, '$')}"

    def schema_of(self, watch: str) -> str | None:
        """A watch's schema; None if the function does not accept it."""
        label, schema = label_of(watch), watch.removeprefix(self.prefix)
        is_taken = watch.startswith(self.prefix) and label.endswith(f"${schema}") and not schema.startswith("cdc_sync")
        return schema if is_taken else None

    def create(self, schema: str) -> str:
        """The statement that creates the function in a schema."""
        quoted = render("$cdc_sync${script}$cdc_sync$", script=sql.SQL(self.script))
        return render(
            template("tenant_function.sql"),
            kind=sql.SQL(self.prefix),
            schema=sql.SQL(schema),
            name=sql.Identifier(self.name),
            patience=sql.SQL(_setting(self.patience)),
            longest=LONGEST_LABEL - len(self.prefix),
            watch=self.prefix,
            script=sql.SQL(quoted),
            placeholder=self.placeholder,
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


def tenant_function(config: Config, name: str, patience: timedelta = PATIENCE) -> TenantFunction | None:
    """A template's function; None if its tenants differ by more than a schema."""
    kind = config.templates.get(name)
    if kind is None or kind.for_each is None or kind.for_each.schemas is None or not kind.capture.needs.log:
        return None
    database = next(iter(config.databases)) if kind.for_each.databases else None

    without_headers = kind.model_copy(update={"hellowork": OwnHelloWork()})

    def script_for(schema: str) -> str:
        tenant = Tenant(database, schema)
        watch = watch_for(without_headers, tenant, str)
        return "".join(_steps(config, {watch_name(name, tenant): watch}))

    for number in count():
        placeholder, other = f"x{number}", f"y{number}"
        watch = watch_name(name, Tenant(database, placeholder))
        if not label_of(watch).endswith(f"${placeholder}"):
            break  # a long name: each tenant's has a hash
        if (script := script_for(placeholder)).replace(placeholder, other) == script_for(other):
            return TenantFunction(watch.removesuffix(placeholder), script, placeholder, patience)
    return None


def tenant_functions(config: Config, patience: timedelta = PATIENCE) -> list[TenantFunction]:
    """The functions of all templates that have one."""
    return [each for name in config.templates if (each := tenant_function(config, name, patience)) is not None]


def _transaction(
    config: Config, watches: Mapping[str, Watch], patience: timedelta, functions: Sequence[TenantFunction] = ()
) -> str:
    tables = [table for watch in watches.values() for table in tables_of(watch)]
    timeouts = _PARTS["timeouts"].replace("{patience}", _setting(patience))
    steps = "".join(_steps(config, watches, functions))
    return f"\n{own_path.begin(tables)}\n{timeouts}\n{steps}\nCOMMIT;\n"


def _steps(config: Config, watches: Mapping[str, Watch], for_tenants: Sequence[TenantFunction] = ()) -> Iterator[str]:
    tables = list(dict.fromkeys(table for watch in watches.values() for table in tables_of(watch)))
    sequences = _literals([BELL, *(missed_of(name) for name in watches)])
    functions = _in(map(function_of, watches))
    yield render(
        template("refused.sql"),
        sequences=sequences,
        functions=functions,
        installing=_in(each.name for each in for_tenants),
        watched=_values(2, [(table.schema, table.name) for table in tables]),
    )
    yield _only_keeps_rows()
    yield _locks(tables, functions, _PARTS["log_is_unfinished"])
    yield template("log.sql")
    for name, watch in watches.items():
        yield only_tables(watch)
        yield render(
            template("watch.sql"),
            watch_name=sql.SQL(visible(name)),
            former_bell=sql.Identifier(bell_of(name)),
            missed=sql.Identifier(missed_of(name)),
            function_name=function_of(name),
        )
        yield recorder(name, watch).script
    # First revoked, then looked at: another role may have used its rights.
    was_there = "ANY (pg_catalog.string_to_array(pg_catalog.current_setting('cdc_sync.there'), ' '))"
    is_tenant, of_all, relations = any(SEPARATOR in name for name in watches), _PARTS["functions"], _PARTS["relations"]
    if is_tenant:
        of_all = composed("pg_catalog.regexp_replace(p.proname, '[$][0-9]+$', '') {}", functions).as_string()
        relations = composed("c.relname IN ('changes', {})", sequences).as_string()
    objects = _ours(
        f"NOT 'schema' = {was_there}",
        f"NOT c.oid::text = {was_there}",
        f"{of_all}\n                   AND pg_catalog.pg_has_role(current_user, p.proowner, 'USAGE')",
        relations,
    )
    ourselves = "SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = current_user"
    daemon = sql.Literal(user_of(config.database.dsn.get_secret_value())).as_string()
    revoke = sql.SQL(rights.revoke(objects, ourselves, daemon))
    yield render(template("rights.sql"), revoke=revoke, functions=sql.SQL(of_all))
    yield _only_keeps_rows()
    readable = [rights.readable(rights.owners(tables), _PARTS["relations"])]
    if is_tenant:  # the other tables' owners
        readable.append(rights.readable(_PARTS["owners_of_watched"], relations))
    for each in readable:
        yield render(template("readable.sql"), readable=sql.SQL(each))
    # After the check of who owns what is there, and in its transaction: a function that is replaced keeps its owner.
    for function in for_tenants:
        yield function.create("cdc_sync")


def _kind(name: str) -> str:
    template, separator, _ = name.partition(SEPARATOR)
    return f"{template}{separator}*" if separator else name


def uninstall(watch: str | None = None, patience: timedelta = PATIENCE) -> str:
    """The script that removes everything, or one watch's objects, whatever is configured."""
    functions, sequences = "~ '^(record|install)_'", "~ '^(bell$|bell_|missed_)'"
    what, rest = "everything that `cdc-sync sql install` ever installed in this database", _PARTS["uninstall_rest"]
    if watch is not None:
        functions = composed("= {}", function_of(watch)).as_string()
        sequences = _in([missed_of(watch), bell_of(watch)]).as_string()
        what = f"what `cdc-sync sql install` installed for the watch {visible(watch)}"
        rest = composed(_PARTS["uninstall_pending"], watch=watch).as_string()
    # The locks have dollar quotes of their own.
    head, tail = template("uninstall.sql").split("{locks}")
    put_in = {"functions": sql.SQL(functions), "sequences": sql.SQL(sequences), "rest": sql.SQL(f"\n{rest}")}
    locks = _locks([], put_in["functions"], "true" if watch is None else "false")
    begun = render(head, what=sql.SQL(what), patience=sql.SQL(_setting(patience)), begin=sql.SQL(own_path.begin()))
    return begun + locks + render(tail, **put_in)


def verify(
    watches: Mapping[str, Watch],
    for_tenants: Sequence[TenantFunction] | None = None,
    *,
    is_all: bool = True,
    rights_too: bool = True,
) -> str:
    """The query that compares what is installed with what `install` would install.

    Others' objects are ignored unless `is_all`. Rights take as long as all the rest. The functions `for_tenants` may be
    missing; without a list of them they are not looked at.
    """
    watches = noticed(watches)
    wanted = [recorder(name, watch) for name, watch in watches.items()]
    functions = [
        (each.watch, each.function, str(each.triggers[0].table), _md5(each.body), each.fingerprint) for each in wanted
    ]
    triggers = [
        (
            each.watch,
            trigger.name,
            each.function,
            str(trigger.table),
            # `tgenabled` of the table and its partitions, as a regular expression.
            "^A$" if each.always else "^[OA]+$",
            each.fingerprint,
        )
        for each in wanted
        for trigger in each.triggers
    ]
    relations: list[tuple[str | None, ...]] = [(None, "changes", "r"), (None, BELL, "S")] if wanted else []
    relations += [(name, missed_of(name), "S") for name in watches]
    exposed = unreadable = _PARTS["nothing_exposed"]
    if rights_too:
        owners = rights.owners(table for watch in watches.values() for table in tables_of(watch))
        ours = _ours("false", "false", _PARTS["functions"], _PARTS["relations"])
        exposed = rights.exposed(ours, _PARTS["installers"])
        unreadable = rights.unreadable(owners, _PARTS["relations"])
    return render(
        template("verify.sql"),
        functions=_values(5, functions),
        triggers=_values(6, triggers),
        relations=_values(3, relations),
        installing=_values(2, [(each.name, _md5(each.body)) for each in for_tenants or ()]),
        of_installing=sql.SQL("IS NULL" if for_tenants is None else r"LIKE 'install\_%'"),
        of_functions=sql.SQL(r"LIKE 'record\_%'") if is_all else _in(each.function for each in wanted),
        not_ours=sql.SQL(template("not_ours.sql").rstrip()),
        exposed=sql.SQL(exposed),
        unreadable=sql.SQL(unreadable),
    )


def as_script(query: str, watches: Mapping[str, Watch]) -> str:
    """A query of `verify` or `absent` for these watches, for psql."""
    return own_path.in_transaction(query, [table for watch in watches.values() for table in tables_of(watch)])


def absent(watch: str | None = None) -> str:
    """The query of all that is installed, or of one watch's objects, whatever is configured."""
    functions = relations = schema = composed("true")
    if watch is not None:
        functions = composed("pg_catalog.regexp_replace(p.proname, '[$][0-9]+$', '') = {}", function_of(watch))
        relations = composed("c.relname {}", _in([missed_of(watch), bell_of(watch)]))
        schema = composed("false")
    what = sql.SQL("cdc-sync" if watch is None else f"the watch {visible(watch)}")
    return render(template("absent.sql"), what=what, functions=functions, relations=relations, schema=schema)


def grants(config: Config, role: str) -> str:
    """The GRANTs for the daemon's role: columns to read, and in notify mode the log, the bell and the counters."""
    begin = sql.SQL(own_path.begin(_all_tables(config)))
    script = render(template("grants.sql").rstrip(), role=role, begin=begin)
    for name, watch in config.watches.items():
        lines = dict.fromkeys(_grants(name, watch, sql.Identifier(role)))
        script += "\n".join(["", "", f"-- Watch {visible(name)}", *lines])
    granted = _block(rights.all_granted(_granted(config.watches, sql.Literal(role).as_string())))
    return f"{script}\n\n-- GRANT only warns of what it leaves out.\n{granted}\n\nCOMMIT;\n"


def _grants(name: str, watch: Watch, to: sql.Identifier) -> Iterator[str]:
    for number, (table, needed) in enumerate(_tables(watch)):
        if number == 0 and not needed.complete:
            yield _UNKNOWN
        *usage, select = granting(table, "SELECT", needed.columns if needed.complete else (), to)
        yield from usage
        yield own_path.naming(table, select)
    yield _IF_ROWS_ARE_HIDDEN
    policy = render("CREATE POLICY cdc_sync ON {} FOR SELECT TO {} USING (true);", quoted(watch.table), to)
    yield f"-- {visible(policy)}"
    for one, privileges in _log_rights(name, watch).items():
        yield render("GRANT USAGE ON SCHEMA cdc_sync TO {};", to)
        kind = "" if one == "changes" else "SEQUENCE "
        yield render(f"GRANT {privileges} ON {kind}cdc_sync.{{}} TO {{}};", sql.Identifier(one), to)


def granting(table: QualifiedName, privileges: str, columns: Sequence[str], to: sql.Identifier) -> list[str]:
    """The GRANTs of privileges on a table, or on columns."""
    schema = (
        [] if table.schema is None else [render("GRANT USAGE ON SCHEMA {} TO {};", sql.Identifier(table.schema), to)]
    )
    which = composed(" ({})", map(sql.Identifier, columns)) if columns else sql.SQL("")
    return [*schema, render(f"GRANT {privileges}{{}} ON {{}} TO {{}};", which, quoted(table), to)]


def revokes(config: Config, role: str) -> str:
    """The script that revokes what `grants` gives, so that the role can be dropped."""
    granted = _granted(config.watches, sql.Literal(role).as_string())
    block = own_path.in_transaction(_block(rights.take_back(granted)), _all_tables(config)).rstrip()
    head = template("revokes.sql").replace("{revoked}", block)
    policies = (render("DROP POLICY cdc_sync ON {};", quoted(each.table)) for each in config.watches.values())
    return head + "".join(f"-- {visible(policy)}\n" for policy in policies)


def missing_grants(name: str, watch: Watch) -> str:
    """The query of the GRANTs that our role lacks for a watch."""
    return rights.missing(_granted({name: watch}, "current_user"))


def _all_tables(config: Config) -> list[QualifiedName]:
    return [table for watch in config.watches.values() for table in tables_of(watch)]


def _tables(watch: Watch) -> list[tuple[QualifiedName, Dependencies]]:
    """The columns that a watch reads, by table, its own first."""
    needed, watermark = watched(watch), watch.capture.needs.watermark
    if watermark is not None:
        needed = needed._replace(columns=tuple(dict.fromkeys((*needed.columns, watermark))))
    # Which of their columns an expression reads, only the server knows.
    whole = Dependencies((), complete=False)
    return [(watch.table, needed), *((each.table, whole) for each in watch.related)]


def _log_rights(name: str, watch: Watch) -> dict[str, str]:
    """A watch's privileges in the schema cdc_sync, as in GRANT."""
    if not watch.capture.needs.log:
        return {}
    return {"changes": "SELECT, DELETE, TRUNCATE", BELL: "SELECT, UPDATE", missed_of(name): "SELECT"}


def _block(body: str) -> str:
    return render("DO $cdc_sync$\n{body}\n$cdc_sync$;", body=sql.SQL(body))


def _granted(watches: Mapping[str, Watch], role: str) -> rights.Grants:
    """`grants` as data; the role is SQL."""
    read = [each for watch in watches.values() for each in _tables(watch)]
    ours = {one: each for name, watch in watches.items() for one, each in _log_rights(name, watch).items()}
    schemas = [table.schema for table, _ in read if table.schema is not None] + (["cdc_sync"] if ours else [])
    tables = [(table.schema, table.name, list(needed.columns) if needed.complete else None) for table, needed in read]
    return rights.granted(role, tables, ours.items(), schemas)


def for_psql(script: str) -> str:
    """The script as a file for psql, whatever its encoding."""
    return script if script.isascii() else f"SET client_encoding = 'UTF8';\n\n{script}"


def noticed(watches: Mapping[str, Watch]) -> dict[str, Watch]:
    """The watches in notify mode."""
    return {name: watch for name, watch in watches.items() if watch.capture.needs.log}


def _setting(patience: timedelta) -> str:
    milliseconds = patience // timedelta(milliseconds=1)
    return f"{milliseconds}ms" if milliseconds % 1000 else f"{milliseconds // 1000}s"


def _locks(tables: Iterable[QualifiedName], functions: sql.Composable, log_is_altered: str) -> str:
    """Lock these tables, and those whose triggers call functions to be dropped."""
    return render(
        template("locks.sql"),
        tables=map(own_path.oid_of, tables),
        functions=functions,
        log_is_altered=sql.SQL(log_is_altered),
    )


def _literals(values: Iterable[str]) -> list[sql.Composable]:
    """Values in a list of SQL, which is never empty."""
    return [*map(sql.Literal, values)] or [sql.NULL]


def _in(values: Iterable[str]) -> sql.Composed:
    return composed("IN ({})", _literals(values))


def _only_keeps_rows() -> str:
    return render(template("only_keeps_rows.sql"), not_ours=sql.SQL(template("not_ours.sql").rstrip()))


def _ours(new_schema: str, new_relation: str, functions: str, relations: str) -> str:
    return render(
        template("ours.sql").rstrip(),
        new_schema=sql.SQL(new_schema),
        new_relation=sql.SQL(new_relation),
        functions=sql.SQL(functions),
        relations=sql.SQL(relations),
    )


def _md5(body: str) -> str:
    return hashlib.md5(body.replace("\r", "").encode(), usedforsecurity=False).hexdigest()


def _values(width: int, lines: Sequence[tuple[str | None, ...]]) -> sql.Composable:
    """Lines of VALUES: at least one, with the types in the first."""
    values = [
        ", ".join(f"{sql.Literal(value).as_string()}::pg_catalog.text" for value in line)
        for line in lines or [(None,) * width]
    ]
    return sql.SQL(",\n    ".join(f"({line})" for line in values))
