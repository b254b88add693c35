-- By what a sweep passes over a row that is as it was.
--
-- The digest of the row that was last found to say what this record holds: to be the record's row, and no news about
-- status, job_id and deleted, as long as nothing of the application waits in the outbox. NULL: unknown.
ALTER TABLE snapshot ADD COLUMN verified TEXT;

-- By a trigger, so that no statement can forget it.
CREATE TRIGGER snapshot_verified
    AFTER UPDATE OF row_key, in_scope, status, job_id, deleted ON snapshot
    WHEN OLD.verified IS NOT NULL
BEGIN
    UPDATE snapshot SET verified = NULL WHERE number = NEW.number;
END;
