DO $cdc_sync$ -- the tables' owners make the triggers; and their pg_dump reads all of it
DECLARE
    owners CONSTANT text := (SELECT string_agg(DISTINCT format('%I', pg_get_userbyid(relowner)), ', ')
                               FROM pg_class WHERE oid IN ({tables}));
BEGIN
    EXECUTE 'GRANT USAGE ON SCHEMA cdc_sync TO ' || owners;
    EXECUTE 'GRANT SELECT ON cdc_sync.changes, cdc_sync.bell, cdc_sync.{missed} TO ' || owners;
    EXECUTE 'GRANT EXECUTE ON FUNCTION cdc_sync.{function}() TO ' || owners;
END $cdc_sync$;
