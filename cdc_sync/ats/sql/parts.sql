-- What is put into the templates of the scripts, and a remedy of `cdc-sync check`; each below its name.

-- The first recorded row of a transaction rings. Never where a NOTIFY can make a COMMIT or PREPARE TRANSACTION fail, or wait.
-- name: ring
            IF to_timestamp(pg_sequence_last_value('cdc_sync.bell')) > clock_timestamp() AND patience = '0'
               AND current_setting('max_prepared_transactions') = '0' AND current_setting('synchronous_standby_names') = ''
            THEN NOTIFY cdc_sync, {watch}; END IF;

-- As `expressions.key_text`, on the function's own search_path, but without a cast to json that a type's owner may have made: it
-- would run with the rights of the function's owner. PostgreSQL's own types have smaller oids.
-- name: key_text
CASE WHEN pg_typeof({0})::oid < 16384 THEN to_json({0}) #>> '{{}}' WHEN num_nulls({0}) = 0 THEN format('%s', {0}) END

-- PostgreSQL 10 prepares no expression with a record that the operation does not have: hence one branch for each.
-- name: keys
        IF TG_OP = 'UPDATE' THEN
            IF {old}
                *= {new} THEN RETURN NULL; END IF;
            IF {old_place} *<> {new_place} THEN former := ARRAY[{old_key}]; END IF;
            key := ARRAY[{new_key}];
        ELSIF TG_OP = 'INSERT' THEN key := ARRAY[{new_key}];
        ELSIF TG_OP = 'DELETE' THEN key := ARRAY[{old_key}];
        END IF;

-- Of a table without a key: any row of the watched one may be concerned.
-- name: any_key
        IF mark = 'all' THEN RETURN NULL; END IF;
        IF TG_OP = 'UPDATE' THEN
            IF {old}
                *= {new} THEN RETURN NULL; END IF;
        END IF;

-- name: quietly
SET LOCAL client_min_messages = warning; SET LOCAL quote_all_identifiers = off;

-- The watched tables, the functions that were installed before, and the tables to lock; the locks; the error without them.
-- name: declare_locks
    watched CONSTANT regclass[] := ARRAY[{tables}]::regclass[];
    earlier CONSTANT regprocedure[] := ARRAY(SELECT oid FROM pg_proc
        WHERE pronamespace = to_regnamespace('cdc_sync') AND regexp_replace(proname, '[$][0-9]+$', '') {functions});
    tables CONSTANT regclass[] := ARRAY(SELECT DISTINCT oid FROM pg_class
        WHERE oid = ANY (watched) OR oid IN (SELECT tgrelid FROM pg_trigger WHERE tgfoid = ANY (earlier)));
    mode CONSTANT text := CASE WHEN earlier = '{{}}' THEN 'SHARE ROW EXCLUSIVE' ELSE 'ACCESS EXCLUSIVE' END;

-- name: lock
    PERFORM set_config('lock_timeout', least(nullif(setting::int, 0), 3000)::text, true) FROM pg_settings WHERE name = 'lock_timeout';
    FOR n IN 1 .. cardinality(tables) LOOP -- a partitioned table with its partitions
        EXECUTE (SELECT format('LOCK TABLE %s%s IN %s MODE', CASE WHEN relkind <> 'p' THEN 'ONLY ' END, oid::regclass, mode) FROM pg_class WHERE oid = tables[n]);
        SET LOCAL lock_timeout = '10ms';
    END LOOP;
    FOR n IN 1 .. cardinality(earlier) LOOP EXECUTE format('DROP FUNCTION %s CASCADE', earlier[n]); END LOOP;

-- name: busy
EXCEPTION WHEN lock_not_available THEN
    RAISE lock_not_available USING MESSAGE = 'a table is in use, so nothing was changed', HINT = 'Run this again later.',
        DETAIL = (SELECT coalesce(string_agg(DISTINCT format('%s by process %s (%s)', relation::regclass, pid, usename), ', '), '-')
                    FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE granted AND (relation = ANY (tables || to_regclass('cdc_sync.changes')) OR relation IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = ANY (tables))));

-- name: owners
SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE oid = ANY (watched)

-- name: row
CREATE TRIGGER {trigger} AFTER INSERT OR UPDATE OR DELETE ON {table}
    FOR EACH ROW EXECUTE PROCEDURE cdc_sync.{function}({argument});

-- name: truncate
CREATE TRIGGER {trigger} AFTER TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE PROCEDURE cdc_sync.{function}({argument});

-- name: always
ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger};

-- name: as_caller
SELECT set_config('role', current_setting('cdc_sync.caller'), true);

-- name: as_owner
SET LOCAL ROLE {};

-- name: as_tables_owner
SELECT set_config('role', pg_get_userbyid(relowner), true) FROM pg_class WHERE oid = {};

-- name: tenants
/* The tenants of templates, each in a transaction of its own: their tables are locked for milliseconds, one after the
   other. psql stops at the first that fails; repair its cause, and run the whole again. */

-- name: for_new_tenants
/* cdc-sync: functions for a new tenant. Once its tables are there, their owner calls SELECT cdc_sync.install_…('its schema');
   it installs and grants with his rights. Run this script again after an upgrade, or after a change of a template. */

-- name: tenant_function
/* What this script does for a tenant of {kind}, for any whose schema's name is written without quotes. */
CREATE OR REPLACE FUNCTION {schema}.{name}(tenant pg_catalog.text) RETURNS pg_catalog.void
    LANGUAGE plpgsql SET client_min_messages = warning SET quote_all_identifiers = off SET search_path = pg_catalog, pg_temp AS
$cdc_sync${body}$cdc_sync$;
REVOKE ALL ON FUNCTION {schema}.{name}(pg_catalog.text) FROM PUBLIC;

-- name: of_all
    DROP TABLE IF EXISTS cdc_sync.changes;
    BEGIN DROP SCHEMA IF EXISTS cdc_sync;
    EXCEPTION WHEN dependent_objects_still_exist THEN
        RAISE WARNING 'the schema cdc_sync stays, for it holds something else: see `cdc-sync sql uninstall --store`';
    END;

-- name: of_watch
    IF to_regclass('cdc_sync.changes') IS NOT NULL
    THEN DELETE FROM cdc_sync.changes WHERE watch = {watch}; END IF;

-- Whether a role has what it needs; NULL if there is no such thing.
-- name: has_schema
has_schema_privilege({role}, to_regnamespace({schema})::oid, 'USAGE')

-- name: has_privilege
has_table_privilege({role}, {oid}, {privilege})

-- name: has_some_column
has_any_column_privilege({role}, {table}, 'SELECT')

-- name: has_columns
(SELECT bool_and(has_column_privilege({role}, attrelid, attnum, 'SELECT'))
   FROM pg_attribute WHERE attrelid = {table} AND attname IN ({columns}))

-- name: missing_grants
SELECT format('GRANT %s TO %I;', need.what, {role}) FROM (VALUES {rows}) AS need (what, has) WHERE NOT need.has
