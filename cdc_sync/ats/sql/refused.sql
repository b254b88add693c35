
-- Refuse what somebody else made, or would get to see, and what is not allowed, all of it at once and before anything is
-- locked.
DO $cdc_sync$
DECLARE
    me CONSTANT pg_catalog.text := pg_catalog.quote_ident(current_user);
    found record;
    publications text;
BEGIN
    -- Who owns the schema or the log can put a trigger on the log, which acts with the rights of our functions' owner.
    -- That is nothing to gain for a superuser, or for a role that has these rights anyway.
    WITH ours (place, kind, name, oid, owner, drops, needs) AS (
        SELECT 1, 'schema', pg_catalog.quote_ident(n.nspname), n.oid, n.nspowner,
               pg_catalog.format('ALTER SCHEMA cdc_sync OWNER TO %s', me), ARRAY['USAGE', 'CREATE']
          FROM pg_catalog.pg_namespace n
         WHERE n.nspname = 'cdc_sync'
         UNION ALL
        -- Not ALTER TABLE ... OWNER: what its owner put into it, as a CHECK or a DEFAULT, would stay. Another
        -- configuration's sequences are nothing to this script.
        SELECT CASE c.relname WHEN 'changes' THEN 2 ELSE 3 END, 'relation', c.oid::regclass::text, c.oid, c.relowner,
               pg_catalog.format(
                   'DROP %s cdc_sync.%I, which this script creates again',
                   CASE c.relkind WHEN 'S' THEN 'SEQUENCE' WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, c.relname),
               CASE WHEN c.relkind <> 'S' THEN ARRAY['INSERT'] ELSE ARRAY['SELECT', 'UPDATE'] END
          FROM pg_catalog.pg_class c
         WHERE c.relnamespace = pg_catalog.to_regnamespace('cdc_sync')
           AND (c.relname = 'changes' OR c.relkind = 'S' AND c.relname IN ({sequences}))
         UNION ALL
        -- A role that calls one runs, with its own rights, what the owner of the function has written.
        SELECT 3, 'function', p.oid::regprocedure::text, p.oid, p.proowner,
               pg_catalog.format('DROP FUNCTION %s, which this script creates again', p.oid::regprocedure), '{{}}'
          FROM pg_catalog.pg_proc p
         WHERE p.pronamespace = pg_catalog.to_regnamespace('cdc_sync') AND p.proname {installing}
    ), in_the_way (place, message, owner, drops, grants) AS (
        SELECT o.place, pg_catalog.format('the %s %s belongs to %I', o.kind, o.name, pg_catalog.pg_get_userbyid(o.owner)),
               o.owner, o.drops, NULL
          FROM ours o
         WHERE NOT pg_catalog.pg_has_role(o.owner, current_user, 'USAGE')
         UNION ALL
        SELECT 4, pg_catalog.format('permission denied for database %I: %s may not create the schema cdc_sync in it',
                   d.datname, me),
               d.datdba, NULL,
               pg_catalog.format('CREATE SCHEMA cdc_sync AUTHORIZATION %s (or GRANT CREATE ON DATABASE %I TO %1$s)',
                   me, d.datname)
          FROM pg_catalog.pg_database d
         WHERE d.datname = pg_catalog.current_database()
           AND pg_catalog.to_regnamespace('cdc_sync') IS NULL
           AND NOT pg_catalog.has_database_privilege(d.oid, 'CREATE')
         UNION ALL
        SELECT 5, pg_catalog.format('permission denied for %s %s: it belongs to %I', o.kind, o.name,
                   pg_catalog.pg_get_userbyid(o.owner)),
               o.owner, NULL,
               pg_catalog.format('GRANT %s ON %s%s TO %s', pg_catalog.array_to_string(o.needs, ', '),
                   CASE WHEN o.kind = 'schema' THEN 'SCHEMA ' WHEN o.place = 3 THEN 'SEQUENCE ' ELSE '' END, o.name, me)
          FROM ours o
         WHERE NOT pg_catalog.pg_has_role(current_user, o.owner, 'USAGE')
           AND EXISTS (SELECT FROM pg_catalog.unnest(o.needs) AS need
                        WHERE NOT CASE o.place
                                  WHEN 1 THEN pg_catalog.has_schema_privilege(o.oid, need)
                                  WHEN 2 THEN pg_catalog.has_table_privilege(o.oid, need)
                                  ELSE pg_catalog.has_sequence_privilege(o.oid, need) END)
         UNION ALL
        SELECT 6, pg_catalog.format('permission denied for function %s: it belongs to %I', p.oid::regprocedure,
                   pg_catalog.pg_get_userbyid(p.proowner)),
               p.proowner, NULL, pg_catalog.format('DROP FUNCTION %s CASCADE', p.oid::regprocedure)
          FROM pg_catalog.pg_proc p
         WHERE p.pronamespace = pg_catalog.to_regnamespace('cdc_sync')
           AND pg_catalog.regexp_replace(p.proname, '[$][0-9]+$', '') {functions}
           AND NOT pg_catalog.pg_has_role(current_user, p.proowner, 'USAGE')
         UNION ALL
        SELECT 7, pg_catalog.format('permission denied for table %I.%I: it belongs to %I', n.nspname, c.relname,
                   pg_catalog.pg_get_userbyid(c.relowner)),
               c.relowner, NULL, NULL
          FROM (VALUES {watched}) AS watched (schema, name)
          JOIN pg_catalog.pg_class c ON c.relname = watched.name
          JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE CASE WHEN watched.schema IS NULL THEN ON_OWN_PATH(c)
                    ELSE n.nspname = watched.schema END
           AND NOT pg_catalog.pg_has_role(current_user, c.relowner, 'USAGE')
    )
    SELECT pg_catalog.string_agg(w.message, '; ' ORDER BY w.place, w.message) AS messages,
           pg_catalog.bool_or(w.drops IS NOT NULL) AS dangerous,
           pg_catalog.concat_ws(' ',
               'If it owns the watched tables too, log in as '
                   || pg_catalog.string_agg(DISTINCT pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(w.owner)), ' or ')
                          FILTER (WHERE w.drops IS NOT NULL)
                   || ' and run this script. Else: '
                   || pg_catalog.string_agg(w.drops, '; ' ORDER BY w.place, w.message) || '.',
               'As '
                   || pg_catalog.string_agg(DISTINCT pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(w.owner)), ', ')
                          FILTER (WHERE w.grants IS NOT NULL)
                   || ' or a superuser: ' || pg_catalog.string_agg(w.grants, '; ' ORDER BY w.place, w.message) || '.',
               'Only who has the rights of all owners of the watched tables installs this: a member of '
                   || pg_catalog.string_agg(DISTINCT pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(w.owner)), ' and ')
                          FILTER (WHERE w.place = 7)
                   || ', or a superuser.') AS remedies
      INTO found
      FROM in_the_way w;
    IF found.messages IS NOT NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = CASE WHEN found.dangerous THEN 'object_not_in_prerequisite_state' ELSE 'insufficient_privilege' END,
            MESSAGE = pg_catalog.regexp_replace(found.messages, '^the ', 'The '),
            DETAIL = CASE WHEN found.dangerous THEN pg_catalog.format(
                'So that role could act with the rights of %I, which the functions will have.', current_user) ELSE '' END,
            HINT = found.remedies;
    END IF;

    -- A log that is there already is published already.
    IF pg_catalog.to_regclass('cdc_sync.changes') IS NULL
       AND coalesce(pg_catalog.current_setting('cdc_sync.published', true), '') <> 'yes'
    THEN
        SELECT pg_catalog.string_agg(p.pubname::text, ', ' ORDER BY p.pubname) INTO publications
          FROM pg_catalog.pg_publication p
         WHERE p.puballtables;
        IF publications IS NULL AND pg_catalog.current_setting('server_version_num')::int >= 150000 THEN
            SELECT pg_catalog.string_agg(p.pubname::text, ', ' ORDER BY p.pubname) INTO publications
              FROM pg_catalog.pg_publication p
              JOIN pg_catalog.pg_publication_namespace s ON s.pnpubid = p.oid
             WHERE s.pnnspid = pg_catalog.to_regnamespace('cdc_sync');
        END IF;
        IF publications IS NOT NULL THEN
            RAISE EXCEPTION USING
                ERRCODE = 'object_not_in_prerequisite_state',
                MESSAGE = 'A publication would take in the log cdc_sync.changes: ' || publications,
                DETAIL = 'A subscriber that does not have this table stops when the first change is recorded.',
                HINT = 'Publish the tables by name; or create the table on the subscribers first, if they are of '
                    'PostgreSQL. When none of them minds: SET cdc_sync.published = ''yes'' before this script (with '
                    '--apply in the DSN: options=''-c cdc_sync.published=yes'').';
        END IF;
    END IF;
END
$cdc_sync$;
