-- What is put into the templates of the scripts, and a remedy of `cdc-sync check`; each below its name.

-- The first recorded row of a transaction rings. Never where a NOTIFY can make a COMMIT or PREPARE TRANSACTION fail, or wait.
-- name: ring
            IF pg_sequence_last_value('cdc_sync.bell') > extract(epoch FROM clock_timestamp()) AND patience = '0'
                AND current_setting('max_prepared_transactions') = '0'
                AND current_setting('synchronous_standby_names') = ''
            THEN
                NOTIFY cdc_sync, {watch};
            END IF;

-- PostgreSQL 10 prepares no expression with a record that the operation does not have: hence one branch for each.
-- name: keys
        IF TG_OP = 'UPDATE' THEN
            IF {old}
                *= {new}
            THEN
                RETURN NULL;
            END IF;
            key := ARRAY[{new_key}];
            former := ARRAY[{old_key}];
        ELSIF TG_OP = 'INSERT' THEN
            key := ARRAY[{new_key}];
        ELSIF TG_OP = 'DELETE' THEN
            key := ARRAY[{old_key}];
        END IF;

-- Of a table without a key: any row of the watched one may be concerned.
-- name: any_key
        IF TG_OP = 'UPDATE' THEN
            IF {old} *= {new} THEN
                RETURN NULL;
            END IF;
        END IF;

-- name: uninstall_rest
    DROP TABLE IF EXISTS cdc_sync.changes;
    BEGIN
        DROP SCHEMA IF EXISTS cdc_sync;
    EXCEPTION WHEN dependent_objects_still_exist THEN
        RAISE WARNING 'The schema cdc_sync stays: it holds something else. A store of cdc-sync is removed by '
            '`cdc-sync sql uninstall --store`.';
    END;

-- name: uninstall_pending
    IF pg_catalog.to_regclass('cdc_sync.changes') IS NOT NULL THEN
        DELETE FROM cdc_sync.changes WHERE watch = {watch};
    END IF;

-- Partitions of partitions, which have none of their own either, are looked through.
-- name: index_on_each_partition
DO $cdc_sync$
DECLARE
    part pg_catalog.regclass;
BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    FOR part IN
        WITH RECURSIVE parts (part) AS (
            SELECT {table}::regclass::oid
            UNION ALL
            SELECT i.inhrelid FROM pg_inherits i JOIN parts p ON i.inhparent = p.part
        )
        SELECT c.oid FROM parts p JOIN pg_class c ON c.oid = p.part WHERE c.relkind = 'r'
    LOOP
        EXECUTE format('CREATE INDEX ON %s%s', part, {columns});
    END LOOP;
END
$cdc_sync$;

-- A side table for HelloWork's ids, behind the columns of its key.
-- name: id_table
,
        {value} text NOT NULL UNIQUE,{url}
        PRIMARY KEY ({key}),
        FOREIGN KEY ({key}) REFERENCES

-- name: id_table_end
 ({watched_key}) ON UPDATE CASCADE ON DELETE CASCADE)

-- name: log_is_unfinished
-- Only what `log.sql` has to alter is worth a lock that keeps the triggers from recording.
(c.relreplident <> 'f'
                        OR pg_catalog.current_setting('server_version_num')::int >= 120000
                           AND coalesce(pg_catalog.array_to_string(c.reloptions, ' '), '') !~ 'vacuum_truncate=')

-- name: timeouts
SET LOCAL lock_timeout = '{patience}';
SET LOCAL client_min_messages = warning;

-- name: functions
p.proname LIKE 'record\_%'

-- name: owners_of_watched
SELECT DISTINCT c.relowner
          FROM pg_catalog.pg_proc p
          JOIN pg_catalog.pg_trigger t ON t.tgfoid = p.oid
          JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
         WHERE p.pronamespace = pg_catalog.to_regnamespace('cdc_sync') AND p.proname LIKE 'record\_%'

-- name: tenants
/* The tenants of templates, each in a transaction of its own: their tables are locked for milliseconds, one after the
   other. If one fails, the others are installed all the same; repair its cause, and run the whole again. */

-- name: for_new_tenants
/* cdc-sync: functions that install what a new tenant needs, to be called when its tables are there, by the owner of these:
       SELECT cdc_sync.install_…('its schema');
   Each does what the script of `cdc-sync sql install --watch` does, with the rights of who calls it. What the daemon's role
   needs is printed by `cdc-sync sql grants`. Run this script again after an upgrade, or after a change of a template. */

-- name: installers
SELECT p.proowner FROM pg_catalog.pg_proc p
         WHERE p.pronamespace = pg_catalog.to_regnamespace('cdc_sync') AND p.proname LIKE 'record\_%'

-- name: relations
-- What `install` creates in the schema besides functions, as a condition on pg_class.
(c.relname = 'changes' OR c.relkind = 'S' AND c.relname ~ '^(bell$|bell_|missed_)')

-- name: nothing_exposed
SELECT NULL::text AS name, NULL::text AS what WHERE false
