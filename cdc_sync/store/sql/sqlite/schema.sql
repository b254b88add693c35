-- SQLite's own part of the schema.

CREATE TRIGGER IF NOT EXISTS snapshot_verified
    AFTER UPDATE OF row_key, in_scope, status, job_id, deleted ON snapshot
    WHEN OLD.verified IS NOT NULL
BEGIN
    UPDATE snapshot SET verified = NULL WHERE number = NEW.number;
END;
