
DO $cdc_sync$
DECLARE
    counter regclass;
BEGIN
    FOR counter IN
        SELECT oid FROM pg_class WHERE relnamespace = to_regnamespace('cdc_sync') AND relkind = 'S' AND relname {sequences}
    LOOP
        EXECUTE format('DROP SEQUENCE %s', counter);
    END LOOP;
{rest}
END $cdc_sync$;
