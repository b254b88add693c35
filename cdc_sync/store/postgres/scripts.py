"""The DBA's scripts for the store, rendered without a connection; what the daemon runs itself where it may."""

import re
from collections.abc import Iterable

from psycopg import sql

from cdc_sync import rights
from cdc_sync.core.identifiers import QualifiedName, requoted
from cdc_sync.store.statements import migrations, text

TABLES = (
    "call_count",
    "history",
    "condition",
    "repair",
    "endpoint",
    "position",
    "skipped",
    "suspicion",
    "outbox",
    "snapshot",
    "watch",
    "daemon",
    "about",
)
"""All of the store's tables; what refers to another comes before it."""

_NAMES = ", ".join(f"'{name}'" for name in TABLES)

_HEAD = """\
-- cdc-sync: the tables of state.backend postgres, in a schema of their own. One transaction, to be run again at any
-- time: it does what an earlier version has not done yet.
--
-- Creates   the schema cdc_sync, if it is missing, and in it the tables {tables};
--           a function forget_verified() and a trigger on snapshot. Nothing else, and nothing that the triggers of
--           capture.mode notify share.
-- Locks     nothing of anybody else's.
-- Refuses   to change the tables while a daemon of an older version works on them.
-- Grows     snapshot by about 300 bytes for each application ever seen; history for as long as state.history says; the
--           other tables are empty while all is well.
-- Holds     ids, statuses, dates and HelloWork's replies: no personal data.
-- Rights    what ALTER DEFAULT PRIVILEGES or a GRANT gave other roles on all this is revoked: who may put a trigger on
--           a table acts as whoever writes to it. Of what was there before, the daemon's role keeps what it needs.
--           The owners of the watched tables may read it, where they are in this database: their pg_dump would fail.
-- Then      what `cdc-sync sql grants --store` prints gives the daemon's role the rows of these tables, and no more. A
--           role that may create schemas here needs neither script: the daemon does it at its start.
-- Remove    with what `cdc-sync sql uninstall --store` prints.

"""

# An older daemon would go on with tables that it does not know. Nobody registers between this look and the commit.
_NOBODY_OLDER = """\
    IF version BETWEEN 1 AND {newest} - 1 THEN
        LOCK TABLE cdc_sync.daemon IN SHARE ROW EXCLUSIVE MODE;
        SELECT pg_catalog.string_agg(pg_catalog.format('process %s on %s', process, host), ', ' ORDER BY id)
          INTO older
          FROM cdc_sync.daemon
         WHERE alive_until BETWEEN pg_catalog.clock_timestamp() AND pg_catalog.clock_timestamp() + lease;
        IF older IS NOT NULL THEN
            RAISE EXCEPTION 'an older cdc-sync works on the store: %', older
                USING ERRCODE = 'object_not_in_prerequisite_state',
                      HINT = 'Stop all daemons that share the store, then try again. One that was killed is gone when '
                             'its lease has lapsed, in less than a minute.';
        END IF;
    END IF;
"""

_MIGRATION = """\
    IF version < {number} THEN
{statements}
        {remember}
    END IF;
"""

# With the sequences of identity columns.
_RELATIONS = """\
(c.relname IN (TABLES)
               OR c.relkind = 'S' AND EXISTS (
                  SELECT FROM pg_catalog.pg_depend d
                    JOIN pg_catalog.pg_class t ON t.oid = d.refobjid
                   WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid
                     AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.deptype IN ('a', 'i')
                     AND t.relnamespace = c.relnamespace AND t.relname IN (TABLES)))""".replace(
    "(TABLES)", f"({_NAMES})"
)

_NOBODY = rights.owners(())

_OURSELVES = "SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = current_user"

_OWNER = "SELECT c.relowner FROM pg_catalog.pg_class c WHERE c.oid = pg_catalog.to_regclass('cdc_sync.about')"

_OURS = """\
        -- A schema that is another role's, the script of the triggers looks after.
        SELECT 'SCHEMA' AS kind, 'cdc_sync' AS name, n.nspowner AS owner, n.nspacl AS acl, ARRAY['USAGE'] AS needed,
               is_new_schema AS is_new
          FROM pg_catalog.pg_namespace n
         WHERE n.nspname = 'cdc_sync' AND pg_catalog.pg_has_role(current_user, n.nspowner, 'USAGE')
         UNION ALL
        SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
               pg_catalog.format('cdc_sync.%I', c.relname), c.relowner, acls.acl,
               CASE c.relkind WHEN 'S' THEN ARRAY['SELECT'] ELSE ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'] END,
               version = 0
          FROM pg_catalog.pg_class c
         CROSS JOIN LATERAL (
            SELECT c.relacl
             UNION ALL
            SELECT a.attacl FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND NOT a.attisdropped
               ) AS acls (acl)
         WHERE c.relnamespace = pg_catalog.to_regnamespace('cdc_sync')
           AND (RELATIONS)
         UNION ALL
        SELECT 'FUNCTION', 'cdc_sync.forget_verified()', p.proowner,
               coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner)), '{}'::text[], version = 0
          FROM pg_catalog.pg_proc p
         WHERE p.pronamespace = pg_catalog.to_regnamespace('cdc_sync') AND p.proname = 'forget_verified'
           AND p.pronargs = 0""".replace("(RELATIONS)", _RELATIONS)

_NOT_OURS = """
 UNION ALL
SELECT 'TABLE', pg_catalog.format('cdc_sync.%I', c.relname), 'with the ' || alien.kind || ' ' || alien.name
  FROM pg_catalog.pg_class c
 CROSS JOIN LATERAL (
    SELECT 'trigger', t.tgname::text FROM pg_catalog.pg_trigger t
     WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgname <> 'snapshot_verified'
     UNION ALL
    SELECT 'rule', r.rulename::text FROM pg_catalog.pg_rewrite r WHERE r.ev_class = c.oid
     UNION ALL
    SELECT 'policy', p.polname::text FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid
       ) AS alien (kind, name)
 WHERE c.relnamespace = pg_catalog.to_regnamespace('cdc_sync') AND c.relname IN (TABLES)""".replace(
    "(TABLES)", f"({_NAMES})"
)

_FIRST = "INSERT INTO cdc_sync.about (name, value) VALUES ('schema', '1');"
_NEXT = "UPDATE cdc_sync.about SET value = '{number}' WHERE name = 'schema';"


def owners(tables: Iterable[QualifiedName]) -> str:
    """The query of the roles that own these tables, where they are in the store's database."""
    return rights.owners(
        (sql.Literal(table.schema).as_string(), sql.Literal(table.name).as_string()) for table in tables
    )


def install(daemon: str | None = None, tables_owners: str = _NOBODY) -> str:
    """Create the store's tables, or bring them up to date.

    Args:
        daemon: the daemon's role, which keeps what it needs; where it is not known, everybody keeps that.
        tables_owners: the query of the watched tables' `owners`, who may read it all, for `pg_dump` does.
    """
    parts = [
        _HEAD.format(tables=", ".join(reversed(TABLES))),
        "DO $cdc_sync$\nDECLARE\n    version integer := 0;\n    older text;\n",
        "    is_new_schema boolean := false;\nBEGIN\n",
        "    -- Two daemons may start at once.\n",
        "    PERFORM pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('cdc-sync store'));\n",
        "    IF pg_catalog.to_regnamespace('cdc_sync') IS NULL THEN\n",
        "        CREATE SCHEMA cdc_sync;\n        is_new_schema := true;\n    END IF;\n",
        "    IF pg_catalog.to_regclass('cdc_sync.about') IS NOT NULL THEN\n",
        "        SELECT value INTO version FROM cdc_sync.about WHERE name = 'schema';\n    END IF;\n",
    ]
    scripts = migrations("postgres")
    parts.append(_NOBODY_OLDER.format(newest=len(scripts)))
    for number, script in enumerate(scripts, start=1):
        remember = _FIRST if number == 1 else _NEXT.format(number=number)
        statements = "\n".join(f"        {line}".rstrip() for line in text(script).splitlines())
        parts.append(_MIGRATION.format(number=number, statements=statements, remember=remember))
    parts += [rights.revoke(_OURS, _OURSELVES, "{daemon}"), "\n", "{readable}", "\nEND\n$cdc_sync$;\n"]
    name, readable = sql.Literal(daemon).as_string(), rights.readable(tables_owners, _RELATIONS)
    put_in = {"{daemon}": name, "{readable}": readable}
    return re.sub(r"\{(daemon|readable)\}", lambda found: put_in[found[0]], requoted("".join(parts), put_in.values()))


def unreadable(tables_owners: str) -> str:
    """The query of what the watched tables' owners may not read of the store, so that their `pg_dump` fails."""
    return rights.unreadable(tables_owners, _RELATIONS)


def exposed() -> str:
    """The query of what other roles may do with the store beyond a daemon's needs, and of foreign triggers."""
    return rights.exposed(_OURS.replace("is_new_schema", "false").replace("version = 0", "false"), _OWNER) + _NOT_OURS


def grants(role: str) -> str:
    """The least privileges of the role that the daemon and its commands run as."""
    name = sql.Literal(role)
    quotes = sql.SQL(requoted("$cdc_sync$", [name.as_string()]))
    return (
        sql.SQL(
            "-- cdc-sync: what the daemon's role needs of the store's tables. Run it after\n"
            "-- `cdc-sync sql install --store`.\n\n"
            "DO {quotes} BEGIN\n"
            "    EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), {name});\n"
            "END {quotes};\n"
            "GRANT USAGE ON SCHEMA cdc_sync TO {role};\n"
            "GRANT SELECT, INSERT, UPDATE, DELETE ON {tables} TO {role};\n"
            "-- GRANT only warns of what it leaves out.\n"
            "DO {quotes}\n{check}\n{quotes};\n"
        )
        .format(
            name=name,
            quotes=quotes,
            role=sql.Identifier(role),
            tables=_tables(reversed(TABLES)),
            check=sql.SQL(rights.all_granted(_granted(role))),
        )
        .as_string()
    )


def revokes(role: str) -> str:
    """What takes back all that `grants` gives."""
    block = rights.take_back(_granted(role))
    quotes = requoted("$cdc_sync$", [block])
    return (
        "-- cdc-sync: take back what `cdc-sync sql grants --store` gave the daemon's role. USAGE on the schema, and\n"
        "-- CONNECT, stay as long as the role has something else there.\n"
        f"DO {quotes}\n{block}\n{quotes};\n"
    )


def _granted(role: str) -> rights.Grants:
    """The same as data."""
    ours = [(sql.Literal(name).as_string(), "'SELECT, INSERT, UPDATE, DELETE'") for name in TABLES]
    return rights.Grants(sql.Literal(role).as_string(), [], ours, ["'cdc_sync'"])


def uninstall() -> str:
    """Remove the store's tables, and the schema if nothing else is in it."""
    return (
        sql.SQL(
            "-- cdc-sync: remove the store: what HelloWork was told, what is to be sent, and the history. A daemon\n"
            "-- that starts on an empty store takes the table as it is then for known: see `baseline`.\n\n"
            "BEGIN;\n"
            "SET LOCAL lock_timeout = '3s';\n"
            "SET LOCAL client_min_messages = warning;\n"
            "DROP TABLE IF EXISTS {tables};\n"
            "DROP FUNCTION IF EXISTS cdc_sync.forget_verified();\n"
            "DO $cdc_sync$ BEGIN\n"
            "    DROP SCHEMA IF EXISTS cdc_sync;\n"
            "EXCEPTION WHEN dependent_objects_still_exist THEN\n"
            "    RAISE WARNING 'The schema cdc_sync stays: the change log of capture.mode notify is in it, which "
            "`cdc-sync sql uninstall` removes.';\n"
            "END $cdc_sync$;\n"
            "COMMIT;\n"
        )
        .format(tables=_tables(TABLES))
        .as_string()
    )


def _tables(names: Iterable[str]) -> sql.Composable:
    return sql.SQL(",\n    ").join(sql.Identifier("cdc_sync", name) for name in names)
