
CREATE TABLE IF NOT EXISTS cdc_sync.changes ( -- whose rows live for milliseconds: hence autovacuum by their number
    watch      text NOT NULL,
    operation  "char" NOT NULL, -- of the ATS: I, U, D or T
    row_key    text[], -- NULL: any row may have changed
    changed_at timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_analyze_threshold = 100000);
CREATE SEQUENCE IF NOT EXISTS cdc_sync.bell MINVALUE 0 START 0; -- until when (in seconds since 1970) to ring
DO $cdc_sync$ BEGIN
    IF (SELECT relreplident FROM pg_class WHERE oid = 'cdc_sync.changes'::regclass) <> 'f' THEN
        ALTER TABLE cdc_sync.changes REPLICA IDENTITY FULL; -- so that the daemon can delete from it, also where it is published
        IF current_setting('server_version_num')::int >= 120000 AND NOT EXISTS (
            SELECT FROM pg_publication_tables WHERE schemaname = 'cdc_sync' AND tablename = 'changes')
        THEN ALTER TABLE cdc_sync.changes SET (vacuum_truncate = false); END IF; -- the daemon shortens the file
    END IF;
END $cdc_sync$;
