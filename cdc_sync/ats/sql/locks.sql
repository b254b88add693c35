
-- Lock what the ATS could notice, and drop what was installed before. After the first lock none is waited for longer than
-- 10 ms, so no deadlock with the ATS is ever found.
DO $cdc_sync$
DECLARE
    earlier CONSTANT regprocedure[] := ARRAY(SELECT oid FROM pg_proc
        WHERE pronamespace = to_regnamespace('cdc_sync') AND regexp_replace(proname, '[$]\d+$', '') {functions});
    tables CONSTANT regclass[] := ARRAY(SELECT DISTINCT oid FROM pg_class
        WHERE oid IN ({tables}) OR oid IN (SELECT tgrelid FROM pg_trigger WHERE tgfoid = ANY (earlier)));
    mode CONSTANT text := CASE WHEN earlier = '{{}}' THEN 'SHARE ROW EXCLUSIVE' ELSE 'ACCESS EXCLUSIVE' END;
BEGIN
    FOR n IN 1 .. cardinality(tables) LOOP
        EXECUTE format('LOCK TABLE ONLY %s IN %s MODE', tables[n], mode);
        SET LOCAL lock_timeout = '10ms';
    END LOOP;
    FOR n IN 1 .. cardinality(earlier) LOOP
        EXECUTE format('DROP FUNCTION %s CASCADE', earlier[n]);
    END LOOP;
EXCEPTION WHEN lock_not_available THEN
    RAISE lock_not_available USING MESSAGE = 'a table is in use, so nothing was changed', HINT = 'Run this again later.',
        DETAIL = (SELECT coalesce(string_agg(DISTINCT format('%s by process %s (%s)', relation::regclass, pid, usename), ', '), '-')
                    FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE relation = ANY (tables) AND granted);
END $cdc_sync$;
