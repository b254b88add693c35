
-- ---------------------------------------------------------------------------------------------------------------------
-- Watch {watch_name}

-- How many changes were not recorded. A sequence, since it is not rolled back with what failed.
CREATE SEQUENCE IF NOT EXISTS cdc_sync.{missed};

-- What was installed for this watch before goes, with its triggers, from whatever table they are on.
DO $cdc_sync$
DECLARE
    found regprocedure;
BEGIN
    FOR found IN
        SELECT p.oid FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
         WHERE n.nspname = 'cdc_sync' AND pg_catalog.regexp_replace(p.proname, '[$][0-9]+$', '') = {function_name}
    LOOP
        EXECUTE pg_catalog.format('DROP FUNCTION %s CASCADE', found);
    END LOOP;
END
$cdc_sync$;
DROP SEQUENCE IF EXISTS cdc_sync.{former_bell};
