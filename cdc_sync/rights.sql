-- What other roles may do with what the DBA's scripts create: parts of scripts that the triggers and the store share.
-- What is to be put in stands in braces; `cdc_sync/rights.py` puts it in, and says what it is. All of it works on
-- PostgreSQL 10 to 18.

-- name: granted
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
         GROUP BY 1, 2, 3, 4, 5, 6

-- name: revoke
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
END;

-- Not by to_regclass, which asks for a right on the schema.
-- name: owners
SELECT DISTINCT c.relowner
          FROM (VALUES {tables}) AS watched (schema, name)
          JOIN pg_catalog.pg_class c ON c.relname = watched.name
          JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE CASE WHEN watched.schema IS NULL THEN ON_OWN_PATH(c)
                    ELSE n.nspname = watched.schema END

-- name: unreadable
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
         ORDER BY dumped.place, dumped.name, reader.role

-- name: readable
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
END;

-- name: lacking
SELECT lacking.kind, lacking.name,
       CASE lacking.kind WHEN 'SCHEMA' THEN 'no USAGE for ' ELSE 'no SELECT for ' END
       || pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(lacking.role)) AS what
  FROM (
        {unreadable}
       ) AS lacking

-- name: acls
SELECT c.relnamespace AS namespace, c.oid AS relation, 0 AS number, c.relacl AS acl FROM pg_catalog.pg_class c
         UNION ALL
        SELECT c.relnamespace, c.oid, a.attnum, a.attacl
          FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
         WHERE NOT a.attisdropped
         UNION ALL
        SELECT p.pronamespace, NULL, 0, p.proacl FROM pg_catalog.pg_proc p

-- Of columns all that were granted, whatever the configuration was then. USAGE and CONNECT go with the last thing that
-- they give access to.
-- name: take_back
DECLARE
    role CONSTANT pg_catalog.text := {role};
    role_oid CONSTANT pg_catalog.oid := (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = role);
    given record;
    kept pg_catalog.text;
BEGIN
    IF role_oid IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = pg_catalog.format('role "%s" does not exist', role);
    END IF;
    FOR given IN
        SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) AS name,
               (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ')
                  FROM pg_catalog.pg_attribute a
                 WHERE a.attrelid = c.oid AND NOT a.attisdropped AND EXISTS (
                       SELECT FROM pg_catalog.aclexplode(a.attacl) AS g
                        WHERE g.grantee = role_oid AND g.privilege_type = 'SELECT')) AS columns,
               watched.columns IS NULL AND EXISTS (
                   SELECT FROM pg_catalog.aclexplode(c.relacl) AS g
                    WHERE g.grantee = role_oid AND g.privilege_type = 'SELECT') AS whole
          FROM (VALUES {tables}) AS watched (schema, name, columns)
          JOIN pg_catalog.pg_class c ON c.relname = watched.name
          JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE CASE WHEN watched.schema IS NULL THEN ON_OWN_PATH(c)
                    ELSE n.nspname = watched.schema END
    LOOP
        IF given.columns IS NOT NULL THEN
            EXECUTE pg_catalog.format('REVOKE SELECT (%s) ON %s FROM %I', given.columns, given.name, role);
        END IF;
        IF given.whole THEN
            EXECUTE pg_catalog.format('REVOKE SELECT ON %s FROM %I', given.name, role);
        END IF;
    END LOOP;
    FOR given IN
        SELECT c.oid, CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind, c.relname, ours.privileges
          FROM (VALUES {ours}) AS ours (name, privileges)
          JOIN pg_catalog.pg_class c ON c.relname = ours.name
         WHERE c.relnamespace = pg_catalog.to_regnamespace('cdc_sync')
         ORDER BY c.relname = 'changes' -- last: see below
    LOOP
        -- Another configuration's watch may have the same role, and the same log.
        CONTINUE WHEN given.relname = 'changes' AND EXISTS (
            SELECT FROM pg_catalog.pg_class c CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) AS g
             WHERE c.relnamespace = pg_catalog.to_regnamespace('cdc_sync') AND c.relkind = 'S'
               AND c.relname ~ '^bell_' AND g.grantee = role_oid);
        CONTINUE WHEN NOT EXISTS (
            SELECT FROM pg_catalog.pg_class c CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) AS g
             WHERE c.oid = given.oid AND g.grantee = role_oid);
        EXECUTE pg_catalog.format('REVOKE %s ON %s cdc_sync.%I FROM %I', given.privileges, given.kind, given.relname,
            role);
    END LOOP;
    FOR given IN
        SELECT n.nspname
          FROM pg_catalog.pg_namespace n
         CROSS JOIN LATERAL pg_catalog.aclexplode(n.nspacl) AS g
         WHERE n.nspname IN ({schemas}) AND g.grantee = role_oid AND g.privilege_type = 'USAGE'
           AND NOT EXISTS (SELECT FROM (
        {acls}
               ) AS o CROSS JOIN LATERAL pg_catalog.aclexplode(o.acl) AS a
             WHERE o.namespace = n.oid AND a.grantee = role_oid)
    LOOP
        EXECUTE pg_catalog.format('REVOKE USAGE ON SCHEMA %I FROM %I', given.nspname, role);
    END LOOP;
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_namespace n CROSS JOIN LATERAL pg_catalog.aclexplode(n.nspacl) AS g
                    WHERE g.grantee = role_oid)
       AND NOT EXISTS (SELECT FROM (
        {acls}
               ) AS o CROSS JOIN LATERAL pg_catalog.aclexplode(o.acl) AS a
             WHERE a.grantee = role_oid)
       AND EXISTS (SELECT FROM pg_catalog.pg_database d CROSS JOIN LATERAL pg_catalog.aclexplode(d.datacl) AS g
                    WHERE d.datname = pg_catalog.current_database() AND g.grantee = role_oid
                      AND g.privilege_type = 'CONNECT')
    THEN
        EXECUTE pg_catalog.format('REVOKE CONNECT ON DATABASE %I FROM %I', pg_catalog.current_database(), role);
        SELECT pg_catalog.format('CONNECT on the database %I, which belongs to %I', d.datname,
                   pg_catalog.pg_get_userbyid(d.datdba)) INTO kept
          FROM pg_catalog.pg_database d CROSS JOIN LATERAL pg_catalog.aclexplode(d.datacl) AS g
         WHERE d.datname = pg_catalog.current_database() AND g.grantee = role_oid AND g.privilege_type = 'CONNECT';
    END IF;
    SELECT pg_catalog.concat_ws('; ', pg_catalog.string_agg(DISTINCT remains.what, '; '), kept) INTO kept
      FROM (
        SELECT pg_catalog.format('SELECT on %I.%I, which belongs to %I', n.nspname, c.relname,
                   pg_catalog.pg_get_userbyid(c.relowner)) AS what
          FROM (VALUES {tables}) AS watched (schema, name, columns)
          JOIN pg_catalog.pg_class c ON c.relname = watched.name
          JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
          JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND NOT a.attisdropped
         CROSS JOIN LATERAL pg_catalog.aclexplode(a.attacl) AS g
         WHERE CASE WHEN watched.schema IS NULL THEN ON_OWN_PATH(c)
                    ELSE n.nspname = watched.schema END
           AND g.grantee = role_oid AND g.privilege_type = 'SELECT'
         UNION ALL
        SELECT pg_catalog.format('USAGE on the schema %I, which belongs to %I', n.nspname,
                   pg_catalog.pg_get_userbyid(n.nspowner))
          FROM pg_catalog.pg_namespace n
         CROSS JOIN LATERAL pg_catalog.aclexplode(n.nspacl) AS g
         WHERE n.nspname IN ({schemas}) AND g.grantee = role_oid AND g.privilege_type = 'USAGE'
           AND NOT EXISTS (SELECT FROM (
        {acls}
               ) AS o CROSS JOIN LATERAL pg_catalog.aclexplode(o.acl) AS a
             WHERE o.namespace = n.oid AND a.grantee = role_oid)
           ) AS remains;
    IF kept <> '' THEN
        RAISE EXCEPTION USING
            ERRCODE = 'insufficient_privilege',
            MESSAGE = pg_catalog.format('%s still has %s', role, kept),
            HINT = 'Run this as that owner, or as a superuser.';
    END IF;
END;

-- What a role lacks, as GRANT has it; `is_some`: of a whole table it may read some columns, maybe all that are used.
-- name: lacks
SELECT pg_catalog.format('CONNECT ON DATABASE %I', d.datname) AS what, d.datdba AS owner, false AS is_some
          FROM pg_catalog.pg_database d
         WHERE d.datname = pg_catalog.current_database()
           AND NOT pg_catalog.has_database_privilege({role}::pg_catalog.name, d.oid, 'CONNECT')
         UNION ALL
        SELECT pg_catalog.format('USAGE ON SCHEMA %I', n.nspname), n.nspowner, false
          FROM pg_catalog.pg_namespace n
         WHERE n.nspname IN ({schemas})
           AND NOT pg_catalog.has_schema_privilege({role}::pg_catalog.name, n.oid, 'USAGE')
         UNION ALL
        SELECT pg_catalog.format('SELECT%s ON %I.%I', CASE WHEN watched.columns IS NOT NULL THEN
                   ' (' || pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY a.attnum) || ')' END,
                   n.nspname, c.relname),
               c.relowner,
               watched.columns IS NULL
                   AND pg_catalog.has_any_column_privilege({role}::pg_catalog.name, c.oid, 'SELECT')
          FROM (VALUES {tables}) AS watched (schema, name, columns)
          JOIN pg_catalog.pg_class c ON c.relname = watched.name
          JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
          JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
         WHERE CASE WHEN watched.schema IS NULL THEN ON_OWN_PATH(c)
                    ELSE n.nspname = watched.schema END
           AND (watched.columns IS NULL OR a.attname = ANY (watched.columns))
           AND NOT pg_catalog.has_column_privilege({role}::pg_catalog.name, c.oid, a.attnum, 'SELECT')
         GROUP BY n.nspname, c.relname, c.relowner, c.oid, watched.columns
         UNION ALL
        SELECT pg_catalog.format('%s ON %scdc_sync.%I', ours.privileges,
                   CASE c.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE '' END, c.relname),
               c.relowner, false
          FROM (VALUES {ours}) AS ours (name, privileges)
          JOIN pg_catalog.pg_class c ON c.relname = ours.name
         WHERE c.relnamespace = pg_catalog.to_regnamespace('cdc_sync')
           AND EXISTS (SELECT FROM pg_catalog.unnest(pg_catalog.string_to_array(ours.privileges, ', ')) AS privilege
                        WHERE NOT CASE c.relkind
                            WHEN 'S' THEN pg_catalog.has_sequence_privilege({role}::pg_catalog.name, c.oid, privilege)
                            ELSE pg_catalog.has_table_privilege({role}::pg_catalog.name, c.oid, privilege) END)

-- name: missing
SELECT pg_catalog.format('GRANT %s TO %I;', lacks.what, {role})
  FROM (
        {lacks}
       ) AS lacks
 WHERE NOT lacks.is_some

-- name: all_granted
DECLARE
    role CONSTANT pg_catalog.name := {role};
    lacking pg_catalog.text;
BEGIN
    SELECT pg_catalog.string_agg(
               pg_catalog.format('%s, which %I may grant', lacks.what, pg_catalog.pg_get_userbyid(lacks.owner)), '; ')
      INTO lacking
      FROM (
        {lacks}
           ) AS lacks;
    IF lacking IS NOT NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'insufficient_privilege',
            MESSAGE = pg_catalog.format('%I may not grant everything; %s lacks: %s', current_user, role, lacking),
            HINT = 'Run this as a role that may: as the one that is named, or as a superuser.';
    END IF;
END;

-- name: exposed
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
   AND NOT EXISTS (SELECT FROM ({installers}) AS i (role) WHERE pg_catalog.pg_has_role(owned.owner, i.role, 'USAGE'))
