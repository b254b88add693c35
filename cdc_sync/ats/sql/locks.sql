
-- All locks that the ATS can notice, before anything is changed. Whoever waits for a table that we hold may hold one
-- that we wait for, and PostgreSQL would end its transaction when it has waited for deadlock_timeout. So whatever we
-- wait for while we hold a table, we wait for half as long.
DO $cdc_sync$
DECLARE
    first_patience CONSTANT text := pg_catalog.current_setting('lock_timeout');
    patience CONSTANT interval := (
        SELECT s.setting::float8 / 2 * interval '1 ms' FROM pg_catalog.pg_settings s WHERE s.name = 'deadlock_timeout');
    until timestamptz;
    busy oid;
    wanted record;
BEGIN
    FOR attempt IN 1 .. 5 LOOP
        until := NULL;
        PERFORM pg_catalog.set_config('lock_timeout', first_patience, true);
        BEGIN
            FOR wanted IN
                WITH RECURSIVE named (relation) AS (
                    SELECT pg_catalog.unnest(ARRAY[{tables}]::oid[])
                     UNION
                    SELECT i.inhrelid
                      FROM named
                      JOIN pg_catalog.pg_class p ON p.oid = named.relation AND p.relkind = 'p'
                      JOIN pg_catalog.pg_inherits i ON i.inhparent = p.oid
                ), replaced (relation) AS (
                    -- What was installed before may be on another table, or on partitions that are detached now.
                    SELECT t.tgrelid
                      FROM pg_catalog.pg_trigger t
                      JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
                     WHERE p.pronamespace = pg_catalog.to_regnamespace('cdc_sync')
                       AND pg_catalog.regexp_replace(p.proname, '[$][0-9]+$', '') {functions}
                ), log (relation) AS (
                    SELECT c.oid FROM pg_catalog.pg_class c
                     WHERE c.oid = pg_catalog.to_regclass('cdc_sync.changes') AND {log_is_altered}
                )
                SELECT c.oid, c.oid::regclass AS name,
                       CASE WHEN c.oid IN (SELECT relation FROM replaced UNION ALL SELECT relation FROM log)
                            THEN 'ACCESS EXCLUSIVE' ELSE 'SHARE ROW EXCLUSIVE' END AS mode
                  FROM pg_catalog.pg_class c
                 WHERE c.relkind IN ('r', 'p')
                   AND c.oid IN (SELECT relation FROM named UNION ALL SELECT relation FROM replaced
                                  UNION ALL SELECT relation FROM log)
                 -- The log last, whatever was busy: while we wait for it, nobody can record, and then nobody tries to.
                 ORDER BY c.oid IN (SELECT relation FROM log), c.oid IS NOT DISTINCT FROM busy DESC,
                          c.relkind <> 'p', c.oid
            LOOP
                busy := wanted.oid;
                IF until IS NOT NULL THEN
                    -- At least a millisecond, since 0 would be for ever.
                    PERFORM pg_catalog.set_config('lock_timeout', pg_catalog.ceil(greatest(1, 1000 *
                        extract(epoch FROM until - pg_catalog.clock_timestamp())))::text || 'ms', true);
                END IF;
                EXECUTE pg_catalog.format('LOCK TABLE ONLY %s IN %s MODE', wanted.name, wanted.mode);
                until := coalesce(until, pg_catalog.clock_timestamp() + patience);
            END LOOP;
            EXIT;
        EXCEPTION WHEN lock_not_available THEN
            -- What was locked in this block is free again. A vacuum that was in the way is cancelled by PostgreSQL when
            -- we have waited for deadlock_timeout, which we do for the first table only.
            IF until IS NULL OR attempt = 5 THEN
                RAISE;
            END IF;
        END;
    END LOOP;
    -- Nothing that follows has to wait, but if it does, somebody may wait for us.
    PERFORM pg_catalog.set_config('lock_timeout',
        pg_catalog.ceil(greatest(1, 1000 * extract(epoch FROM patience)))::text || 'ms', true);
END
$cdc_sync$;
