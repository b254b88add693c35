-- cdc-sync: remove everything that `cdc-sync sql install` ever installed in this database, whatever the configuration
-- says today. One transaction. Takes each watched table's lock for a moment; if one is not to be had within 3 seconds,
-- nothing is removed: run it again in a quieter moment.

BEGIN;
SET LOCAL lock_timeout = '3s';

DO $cdc_sync$
DECLARE
    found regprocedure;
    bell  regclass;
BEGIN
    -- The functions take their triggers with them, on partitions too.
    FOR found IN
        SELECT p.oid FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
         WHERE n.nspname = 'cdc_sync' AND p.proname LIKE 'record\_%'
    LOOP
        EXECUTE pg_catalog.format('DROP FUNCTION %s CASCADE', found);
    END LOOP;
    FOR bell IN
        SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = 'cdc_sync' AND c.relkind = 'S' AND c.relname LIKE 'bell\_%'
    LOOP
        EXECUTE pg_catalog.format('DROP SEQUENCE %s', bell);
    END LOOP;
    DROP TABLE IF EXISTS cdc_sync.changes;
    BEGIN
        DROP SCHEMA IF EXISTS cdc_sync;
    EXCEPTION WHEN dependent_objects_still_exist THEN
        RAISE NOTICE 'The schema cdc_sync stays: it holds something else (a cdc-sync store?).';
    END;
END
$cdc_sync$;

COMMIT;
