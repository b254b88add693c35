-- PostgreSQL's own part of the schema.

CREATE OR REPLACE FUNCTION cdc_sync.forget_verified() RETURNS trigger LANGUAGE plpgsql AS $forget$
BEGIN
    NEW.verified := NULL;
    RETURN NEW;
END
$forget$;
DROP TRIGGER IF EXISTS snapshot_verified ON cdc_sync.snapshot;
CREATE TRIGGER snapshot_verified
    BEFORE UPDATE OF row_key, in_scope, status, job_id, deleted ON cdc_sync.snapshot
    FOR EACH ROW WHEN (OLD.verified IS NOT NULL) EXECUTE PROCEDURE cdc_sync.forget_verified();

ALTER TABLE cdc_sync.snapshot SET (fillfactor = 90);
-- A queue, empty most of the time: vacuum by number, not by share.
ALTER TABLE cdc_sync.outbox SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 10000
);
