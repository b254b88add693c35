
-- Not CREATE SCHEMA IF NOT EXISTS, which asks for the right to create one if it exists too.
DO $cdc_sync$ BEGIN
    -- What was there before: of what this script makes itself, nobody else keeps any right.
    PERFORM pg_catalog.set_config('cdc_sync.there', coalesce((
        SELECT 'schema ' || coalesce(pg_catalog.string_agg(c.oid::text, ' '), '')
          FROM pg_catalog.pg_namespace n
          LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid
         WHERE n.nspname = 'cdc_sync'
         GROUP BY n.oid), ''), true);
    IF pg_catalog.to_regnamespace('cdc_sync') IS NULL THEN
        CREATE SCHEMA cdc_sync;
    END IF;
END $cdc_sync$;

CREATE TABLE IF NOT EXISTS cdc_sync.changes (
    watch      text NOT NULL,
    operation  "char" NOT NULL, -- of the ATS: I, U, D or T
    row_key    text[], -- NULL: any row may have changed
    changed_at timestamptz NOT NULL
) WITH (
    -- Rows live for milliseconds. Vacuum by number, not by share of a table that is empty most of the time.
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_analyze_scale_factor = 0,
    autovacuum_analyze_threshold = 100000
);

-- Until when (seconds since the epoch) an idle daemon wants to be rung. A sequence is read outside MVCC, so a transaction
-- with an old snapshot sees its present value.
CREATE SEQUENCE IF NOT EXISTS cdc_sync.bell MINVALUE 0 START 0;

-- What earlier versions left out. Only where it is missing: each of these takes a lock.
DO $cdc_sync$
DECLARE
    log record;
BEGIN
    SELECT c.relreplident, c.reloptions, pg_catalog.obj_description(c.oid, 'pg_class') AS comment
      INTO STRICT log
      FROM pg_catalog.pg_class c
     WHERE c.oid = pg_catalog.to_regclass('cdc_sync.changes');
    IF log.comment IS NULL THEN
        COMMENT ON TABLE cdc_sync.changes IS 'Keys of changed rows, until the cdc-sync daemon has taken them.';
    END IF;
    -- Where a publication takes it in, the daemon could not delete from it otherwise.
    IF log.relreplident <> 'f' THEN
        ALTER TABLE cdc_sync.changes REPLICA IDENTITY FULL;
    END IF;
    -- VACUUM would take ACCESS EXCLUSIVE each minute to shorten the file, and cancel every pg_dump on a standby. The
    -- daemon does it, seldom; but not where subscribers get its TRUNCATE. Known since 12.
    IF pg_catalog.current_setting('server_version_num')::int >= 120000
       AND coalesce(pg_catalog.array_to_string(log.reloptions, ' '), '') !~ 'vacuum_truncate='
    THEN
        EXECUTE pg_catalog.format('ALTER TABLE cdc_sync.changes SET (vacuum_truncate = %s)', EXISTS (
            SELECT FROM pg_catalog.pg_publication_tables p
             WHERE p.schemaname = 'cdc_sync' AND p.tablename = 'changes'));
    END IF;
END
$cdc_sync$;
