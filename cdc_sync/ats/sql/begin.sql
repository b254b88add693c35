DO $cdc_sync$ BEGIN PERFORM pg_advisory_xact_lock(hashtext('cdc-sync scripts')); END $cdc_sync$; -- scripts take turns
-- Makes the schema, so that nobody else can fill it; then reports what is in the way. Then locks the tables: each lock after
-- the first is waited for 10 ms, too short for PostgreSQL to find a deadlock. Then drops what was installed before.
DO $cdc_sync$
DECLARE
{declare_locks}
    owners CONSTANT name[] := ARRAY({owners});
    owner CONSTANT name := owners[1]; act CONSTANT text := CASE WHEN current_setting('server_version_num')::int < 160000 THEN 'MEMBER' ELSE 'SET' END; wrong record;
BEGIN
    IF to_regnamespace('cdc_sync') IS NULL AND pg_has_role(session_user, owner, act)
    THEN EXECUTE format('CREATE SCHEMA cdc_sync AUTHORIZATION %I', owner); END IF;
    SELECT string_agg(what, '; ') AS what, string_agg(DISTINCT remedy, '; ') AS remedy INTO wrong FROM (
        SELECT 'the tables belong to several roles: ' || array_to_string(owners, ', '),
               'Name one without rights on tables: --owner ROLE' WHERE cardinality(owners) > 1
        UNION ALL SELECT format('%I may not act as %I', session_user, owner), format(CASE WHEN rolsuper THEN 'Run it as %I' ELSE 'Run it as %I, or GRANT %1$I TO %I%s' END,
               owner, session_user, CASE act WHEN 'SET' THEN ' WITH INHERIT TRUE, SET TRUE' END) FROM pg_roles WHERE rolname = owner AND NOT pg_has_role(session_user, owner, act)
        UNION ALL SELECT format('%I would publish the log, and stop subscribers without this table', pubname),
               'Create it there; then SET cdc_sync.published = ''yes'' before this script' FROM pg_publication
         WHERE puballtables AND NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = to_regnamespace('cdc_sync') AND relname = 'changes')
           AND current_setting('cdc_sync.published', true) IS DISTINCT FROM 'yes'
        UNION ALL SELECT format('default privileges of %I give others more than reading', owner), 'Let another role own it: --owner ROLE'
         WHERE {gives_by_default}
        UNION ALL SELECT 'cdc_sync.changes has triggers or rules', 'Look at them and drop them' FROM pg_class WHERE relkind = 'r' AND relname = 'changes'
           AND relnamespace = to_regnamespace('cdc_sync') AND (relhasrules OR EXISTS (SELECT FROM pg_trigger WHERE tgrelid = pg_class.oid))
        UNION ALL SELECT format('%s belongs to %I', what, rolname), -- who could act with the rights of the owner
               format(CASE WHEN rolsuper THEN 'ALTER %s OWNER TO %I' ELSE 'Look at it and DROP %s, unless you trust it' END, what, owner)
          FROM (SELECT 'SCHEMA cdc_sync', nspowner FROM pg_namespace WHERE nspname = 'cdc_sync'
                UNION ALL SELECT 'FUNCTION ' || oid::regprocedure, proowner FROM pg_proc WHERE oid = ANY (earlier)
                UNION ALL SELECT 'TABLE ' || oid::regclass, relowner FROM pg_class WHERE relnamespace = to_regnamespace('cdc_sync')
                      AND relname IN ({relations})) AS object (what, of) JOIN pg_roles ON pg_roles.oid = of WHERE rolname <> owner
    ) AS found (what, remedy);
    IF wrong.what <> '' THEN RAISE object_not_in_prerequisite_state USING MESSAGE = wrong.what, HINT = wrong.remedy; END IF;
{lock}
    PERFORM set_config('role', owner, true);
{busy}
END $cdc_sync$;
