DO $cdc_sync$ BEGIN PERFORM pg_advisory_xact_lock(hashtext('cdc-sync scripts')); END $cdc_sync$; -- scripts take turns
DO $cdc_sync$
DECLARE
{declare_locks}
    counter regclass;
BEGIN
{lock}
    FOR counter IN SELECT oid FROM pg_class
        WHERE relnamespace = to_regnamespace('cdc_sync') AND relkind = 'S' AND relname {sequences}
    LOOP EXECUTE format('DROP SEQUENCE %s', counter); END LOOP;
{rest}
{busy}
END $cdc_sync$;
