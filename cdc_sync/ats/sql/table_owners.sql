DO $cdc_sync$ -- the tables' owners make the triggers; and their pg_dump reads all of it
DECLARE
    makes_triggers name;
BEGIN
    FOR makes_triggers IN SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE oid IN ({tables}) LOOP
        EXECUTE format('GRANT USAGE ON SCHEMA cdc_sync TO %I', makes_triggers);
        EXECUTE format('GRANT SELECT ON cdc_sync.changes, cdc_sync.bell, cdc_sync.{missed} TO %I', makes_triggers);
        EXECUTE format('GRANT EXECUTE ON FUNCTION cdc_sync.{function}() TO %I', makes_triggers);
    END LOOP;
END $cdc_sync$;
