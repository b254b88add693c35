
-- Refuse what somebody else made, or would get to see, before anything is locked.
DO $cdc_sync$
DECLARE
    found record;
    publications text;
BEGIN
    -- Who owns the schema or the log can put a trigger on the log, which acts with the rights of our functions' owner.
    -- That is nothing to gain for a superuser, or for a role that has these rights anyway.
    FOR found IN
        SELECT pg_catalog.format('The schema %I', n.nspname) AS object, n.nspowner AS owner,
               pg_catalog.format('ALTER SCHEMA cdc_sync OWNER TO %I', current_user) AS remedy, 1 AS place
          FROM pg_catalog.pg_namespace n
         WHERE n.nspname = 'cdc_sync'
         UNION ALL
        -- Not ALTER TABLE ... OWNER: what its owner put into it, as a CHECK or a DEFAULT, would stay.
        SELECT pg_catalog.format('The relation %s', c.oid::regclass), c.relowner,
               pg_catalog.format(
                   'DROP %s cdc_sync.%I, which this script makes anew',
                   CASE c.relkind WHEN 'S' THEN 'SEQUENCE' WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, c.relname),
               CASE c.relname WHEN 'changes' THEN 2 ELSE 3 END
          FROM pg_catalog.pg_class c
         WHERE c.relnamespace = pg_catalog.to_regnamespace('cdc_sync')
           AND (c.relname = 'changes' OR c.relkind = 'S' AND c.relname ~ '^(bell|missed)_')
         ORDER BY place -- the schema and the log first
    LOOP
        IF NOT pg_catalog.pg_has_role(found.owner, current_user, 'USAGE') THEN
            RAISE EXCEPTION USING
                ERRCODE = 'object_not_in_prerequisite_state',
                MESSAGE = pg_catalog.format(
                    '%s belongs to %I', found.object, pg_catalog.pg_get_userbyid(found.owner)),
                DETAIL = pg_catalog.format(
                    'So that role could act with the rights of %I, which the functions will have.', current_user),
                HINT = pg_catalog.format(
                    'If it owns the watched tables too, log in as %I and run this script. Else: %s.',
                    pg_catalog.pg_get_userbyid(found.owner), found.remedy);
        END IF;
    END LOOP;

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
