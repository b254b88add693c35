-- By what a sweep passes over a row that is as it was.
--
-- The digest of the row that was last found to say what this record holds: to be the record's row, and no news about
-- status, job_id and deleted, as long as nothing of the application waits in the outbox. NULL: unknown.
ALTER TABLE cdc_sync.snapshot ADD COLUMN verified text;

-- By a trigger, so that no statement can forget it: not one of an older daemon on the same store either.
CREATE FUNCTION cdc_sync.forget_verified() RETURNS trigger LANGUAGE plpgsql AS $forget$
BEGIN
    NEW.verified := NULL;
    RETURN NEW;
END
$forget$;
CREATE TRIGGER snapshot_verified
    BEFORE UPDATE OF row_key, in_scope, status, job_id, deleted ON cdc_sync.snapshot
    FOR EACH ROW WHEN (OLD.verified IS NOT NULL) EXECUTE PROCEDURE cdc_sync.forget_verified();
