"""What other roles may do with what the DBA's scripts create, as SQL that the triggers and the store share.

`ALTER DEFAULT PRIVILEGES` gives others rights on whatever a role creates, without a word. A role that may put a trigger
on a table of ours has its code run by whoever writes to it: by the recording functions with the rights of their owner,
by the daemon with the daemon's. So nobody keeps more than a daemon needs, but a role that has the rights at stake
anyway.

`objects` is a query of (kind, name, owner, acl, needed, is_new): the word for REVOKE, the quoted name, the owner's oid,
the ACL, the privileges that a daemon needs, and whether this script has just made it. `installers` is a query of the
roles whose rights are at stake. MAINTAIN of 17 is included: only what is needed is named.

The owners of the watched tables, though, get what `pg_dump` reads: it locks and reads every table and sequence of a
database, and fails as a whole where it may not.

All of it works on PostgreSQL 10 to 18.
"""

from collections.abc import Iterable

_GRANTED = """\
SELECT o.kind, o.name, o.owner, o.needed, o.is_new, g.grantee,
               CASE g.grantee WHEN 0 THEN 'PUBLIC'
                    ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(g.grantee)) END AS to_whom,
               pg_catalog.array_agg(DISTINCT g.privilege_type ORDER BY g.privilege_type) AS had,
               pg_catalog.bool_or(g.is_grantable OR g.privilege_type <> ALL (o.needed)) AS beyond
          FROM (
{objects}
               ) AS o
         CROSS JOIN LATERAL pg_catalog.aclexplode(o.acl) AS g
         WHERE g.grantee <> o.owner
           AND CASE g.grantee WHEN 0 THEN true
                    ELSE NOT pg_catalog.pg_has_role(g.grantee, o.owner, 'USAGE')
                     AND NOT EXISTS (SELECT FROM ({installers}) AS i (role)
                                      WHERE pg_catalog.pg_has_role(g.grantee, i.role, 'USAGE')) END
         GROUP BY 1, 2, 3, 4, 5, 6"""

_REVOKE = """\
DECLARE
    -- Keeps what a daemon needs. Where it is not known, everybody does.
    daemon CONSTANT pg_catalog.text := {daemon};
    given record;
BEGIN
    FOR given IN
        {granted}
    LOOP
        CONTINUE WHEN NOT given.is_new AND NOT given.beyond;
        IF NOT pg_catalog.pg_has_role(current_user, given.owner, 'USAGE') THEN
            RAISE EXCEPTION USING
                ERRCODE = 'object_not_in_prerequisite_state',
                MESSAGE = pg_catalog.format('%s has %s on the %s %s', given.to_whom,
                    pg_catalog.array_to_string(given.had, ', '), pg_catalog.lower(given.kind), given.name),
                DETAIL = pg_catalog.format(
                    'With it that role could act as others, or disturb them. It belongs to %I, so %I cannot revoke it.',
                    pg_catalog.pg_get_userbyid(given.owner), current_user),
                HINT = pg_catalog.format('As %I or a superuser: REVOKE ALL ON %s %s FROM %s CASCADE.',
                    pg_catalog.pg_get_userbyid(given.owner), given.kind, given.name, given.to_whom);
        END IF;
        EXECUTE pg_catalog.format('REVOKE ALL ON %s %s FROM %s CASCADE', given.kind, given.name, given.to_whom);
        IF given.kind = 'TABLE' THEN
            -- Whoever is making a trigger has asked before us: once we have this lock, it is there to be seen, or gone.
            EXECUTE pg_catalog.format('LOCK TABLE %s IN SHARE UPDATE EXCLUSIVE MODE', given.name);
        END IF;
        IF NOT given.is_new AND given.grantee <> 0
           AND coalesce(pg_catalog.pg_get_userbyid(given.grantee) = daemon, true)
        THEN
            SELECT pg_catalog.string_agg(word, ', ') INTO given.to_whom
              FROM pg_catalog.unnest(given.had) AS word WHERE word = ANY (given.needed);
            IF given.to_whom IS NOT NULL THEN
                EXECUTE pg_catalog.format('GRANT %s ON %s %s TO %I',
                    given.to_whom, given.kind, given.name, pg_catalog.pg_get_userbyid(given.grantee));
            END IF;
        END IF;
    END LOOP;
END;"""

# Not by to_regclass, which asks for a right on the schema.
_OWNERS = """\
SELECT DISTINCT c.relowner
          FROM (VALUES {tables}) AS watched (schema, name)
          JOIN pg_catalog.pg_class c ON c.relname = watched.name
          JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE CASE WHEN watched.schema IS NULL THEN pg_catalog.pg_table_is_visible(c.oid)
                    ELSE n.nspname = watched.schema END"""

_UNREADABLE = """\
SELECT dumped.kind, dumped.name, dumped.owner, reader.role
          FROM (
            SELECT 'SCHEMA' AS kind, 'cdc_sync' AS name, n.oid, n.nspowner AS owner, 1 AS place
              FROM pg_catalog.pg_namespace n
             WHERE n.nspname = 'cdc_sync'
             UNION ALL
            SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
                   pg_catalog.format('cdc_sync.%I', c.relname), c.oid, c.relowner, 2
              FROM pg_catalog.pg_class c
             WHERE c.relnamespace = pg_catalog.to_regnamespace('cdc_sync') AND {relations}
               ) AS dumped
         CROSS JOIN ({owners}) AS reader (role)
         WHERE NOT CASE dumped.kind
                   WHEN 'SCHEMA' THEN pg_catalog.has_schema_privilege(reader.role, dumped.oid, 'USAGE')
                   WHEN 'SEQUENCE' THEN pg_catalog.has_sequence_privilege(reader.role, dumped.oid, 'SELECT')
                   ELSE pg_catalog.has_table_privilege(reader.role, dumped.oid, 'SELECT') END
         ORDER BY dumped.place, dumped.name, reader.role"""

_READABLE = """\
DECLARE
    lacking record;
    lacks pg_catalog.text;
BEGIN
    FOR lacking IN
        {unreadable}
    LOOP
        lacks := pg_catalog.format('GRANT %s ON %s %s TO %I',
            CASE lacking.kind WHEN 'SCHEMA' THEN 'USAGE' ELSE 'SELECT' END, lacking.kind, lacking.name,
            pg_catalog.pg_get_userbyid(lacking.role));
        IF pg_catalog.pg_has_role(current_user, lacking.owner, 'USAGE') THEN
            EXECUTE lacks;
        ELSE
            RAISE WARNING 'pg_dump by %, who owns a watched table, will fail: as % or a superuser: %',
                pg_catalog.pg_get_userbyid(lacking.role), pg_catalog.pg_get_userbyid(lacking.owner), lacks;
        END IF;
    END LOOP;
END;"""

_LACKING = """\
SELECT lacking.kind, lacking.name,
       CASE lacking.kind WHEN 'SCHEMA' THEN 'no USAGE for ' ELSE 'no SELECT for ' END
       || pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(lacking.role)) AS what
  FROM (
        {unreadable}
       ) AS lacking"""

_EXPOSED = """\
SELECT granted.kind, granted.name,
       pg_catalog.array_to_string(granted.had, ', ') || ' to ' || granted.to_whom AS what
  FROM (
        {granted}
       ) AS granted
 WHERE granted.beyond
 UNION ALL
SELECT DISTINCT owned.kind, owned.name, 'owned by ' || pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(owned.owner))
  FROM (
{objects}
       ) AS owned
 WHERE owned.kind <> 'FUNCTION'
   AND EXISTS (SELECT FROM ({installers}) AS i (role))
   AND NOT EXISTS (SELECT FROM ({installers}) AS i (role) WHERE pg_catalog.pg_has_role(owned.owner, i.role, 'USAGE'))"""


def revoke(objects: str, installers: str, daemon: str) -> str:
    """A block of PL/pgSQL that takes from other roles what the daemon does not need.

    Args:
        objects: see the module.
        installers: see the module.
        daemon: the name of the daemon's role as an SQL literal, or NULL.
    """
    granted = _GRANTED.replace("{objects}", objects).replace("{installers}", installers)
    return _REVOKE.replace("{granted}", granted).replace("{daemon}", daemon)


def exposed(objects: str, installers: str) -> str:
    """A query of what other roles have beyond the daemon's needs, as (kind, name, text such as `TRIGGER to ats`)."""
    granted = _GRANTED.replace("{objects}", objects).replace("{installers}", installers)
    return _EXPOSED.replace("{granted}", granted).replace("{objects}", objects).replace("{installers}", installers)


def owners(tables: Iterable[tuple[str, str]]) -> str:
    """The query of the roles that own these tables.

    Args:
        tables: the schema's name and the table's, as SQL literals; NULL for a schema that is not named.
    """
    listed = [("NULL::pg_catalog.text", "NULL::pg_catalog.text"), *tables]
    return _OWNERS.replace("{tables}", ", ".join(f"({schema}, {name})" for schema, name in listed))


def readable(tables_owners: str, relations: str) -> str:
    """A block of PL/pgSQL that gives the owners of the watched tables what `pg_dump` reads of ours.

    What it may not give is a WARNING with the GRANT.

    Args:
        tables_owners: the query of `owners`.
        relations: a condition on `c`, a pg_class: which relations of the schema are meant.
    """
    return _READABLE.replace("{unreadable}", _unreadable(tables_owners, relations))


def unreadable(tables_owners: str, relations: str) -> str:
    """A query of what they may not read, as (kind, name, text such as `no SELECT for ats`)."""
    return _LACKING.replace("{unreadable}", _unreadable(tables_owners, relations))


def _unreadable(tables_owners: str, relations: str) -> str:
    return _UNREADABLE.replace("{relations}", relations).replace("{owners}", tables_owners)
