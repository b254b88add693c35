"""What other roles may do with what the DBA's scripts create, as SQL that the triggers and the store share.

`ALTER DEFAULT PRIVILEGES` gives others rights on whatever a role creates, without a word. A role that may put a trigger
on a table of ours has its code run by whoever writes to it: by the recording functions with the rights of their owner,
by the daemon with the daemon's. So nobody keeps more than a daemon needs, but a role that has the rights at stake
anyway.

`objects` is a query of (kind, name, owner, acl, needed, is_new): the word for REVOKE, the quoted name, the owner's oid,
the ACL, the privileges that a daemon needs, and whether this script has just made it. `installers` is a query of the
roles whose rights are at stake. All of it works on PostgreSQL 10 to 18. MAINTAIN of 17 is included: only what is needed
is named.
"""

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
