"""Whether the server has as many connections as the configuration needs, and leaves enough to the ATS."""

from cdc_sync.config import Config
from cdc_sync.config.sessions import sessions_needed
from cdc_sync.core.findings import Finding, Tell
from cdc_sync.source.check.shortly import asking_shortly
from cdc_sync.source.connection import Connection

# Every role sees of all sessions which role and database they belong to, and their application_name. Our own are not
# counted: the daemon may be running. -1 is no limit; a superuser has none of his own, and may take the reserved ones.
_LIMITS = """
SELECT quote_ident(r.rolname),
       CASE WHEN r.rolsuper OR r.rolconnlimit < 0 THEN NULL ELSE r.rolconnlimit END,
       CASE WHEN r.rolsuper OR d.datconnlimit < 0 THEN NULL ELSE d.datconnlimit END,
       current_setting('max_connections')::int
           - CASE WHEN r.rolsuper THEN 0 ELSE current_setting('superuser_reserved_connections')::int
                       + coalesce(current_setting('reserved_connections', true), '0')::int END,
       others.of_role, others.of_database, others.of_server
  FROM pg_catalog.pg_roles r, pg_catalog.pg_database d,
       (SELECT count(*) FILTER (WHERE usename = current_user)::int AS of_role,
               count(*) FILTER (WHERE datname = current_database())::int AS of_database,
               count(*)::int AS of_server
          FROM pg_catalog.pg_stat_activity
         WHERE datname IS NOT NULL
           AND NOT (usename = current_user
                    AND application_name IN (current_setting('application_name'), 'cdc-sync store'))) AS others
 WHERE r.rolname = current_user AND d.datname = current_database()
"""


async def check_connections(connection: Connection, config: Config, tell: Tell) -> None:
    """Tell whether the limits of the role, the database and the server leave the daemon what it needs."""
    async with asking_shortly(connection, "asking how many connections there are"):
        found = await (await connection.execute(_LIMITS)).fetchone()
    if found is None:
        return
    role, of_role, of_database, of_server, role_has, database_has, server_has = found
    shares_store = config.state.backend == "postgres" and config.state.dsn is None
    needed = sessions_needed(len(config.watches), shares_store=shares_store)
    limits = [
        (
            of_role,
            role_has,
            f"the CONNECTION LIMIT of the role {role}",
            f"ALTER ROLE {role} CONNECTION LIMIT {needed.most};",
        ),
        (of_database, database_has, "the CONNECTION LIMIT of the database", "ALTER DATABASE … CONNECTION LIMIT …;"),
        (of_server, server_has, "max_connections without the reserved ones", "ALTER SYSTEM SET max_connections = …;"),
    ]
    left, limit, has, name, remedy = min(
        (limit - has, limit, has, name, remedy) for limit, has, name, remedy in limits if limit is not None
    )
    said = f"the daemon takes {needed}; {name} is {limit}, of which others have {has}"
    if left < needed.least:
        tell(Finding("connections", "failed", f"{said}: too few are left", remedy))
    elif limit == of_server and left < needed.most:
        remedy = f"ALTER ROLE {role} CONNECTION LIMIT {needed.least};   -- so many are enough"
        tell(Finding("connections", "warning", f"{said}: it could take the last ones from the ATS", remedy))
    else:
        tell(Finding("connections", "ok", said))
