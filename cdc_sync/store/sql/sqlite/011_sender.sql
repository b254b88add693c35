-- What is being called is in the sender's memory only. A claim of an earlier version is an attempt. The table is made again:
-- SQLite 3.34 cannot drop a column.
CREATE TABLE outbox_9 (
    watch            TEXT NOT NULL,
    application_id   TEXT NOT NULL,
    status           TEXT NOT NULL,
    job_id           TEXT NOT NULL,
    deleted          INTEGER NOT NULL,
    metadata         TEXT NOT NULL,
    kinds            TEXT NOT NULL,
    state            TEXT NOT NULL CHECK (state IN ('pending', 'held', 'dead')),
    revision         INTEGER NOT NULL,
    queued_at        INTEGER NOT NULL,
    due_at           INTEGER NOT NULL,
    attempted        INTEGER NOT NULL,
    attempts         INTEGER NOT NULL,
    first_attempt_at INTEGER,
    not_found_since  INTEGER,
    reason           TEXT,
    endpoint         TEXT NOT NULL,
    PRIMARY KEY (watch, application_id)
) WITHOUT ROWID;
INSERT INTO outbox_9
SELECT watch, application_id, status, job_id, deleted, metadata, kinds, state, revision, queued_at, due_at,
       attempted OR claimed_by IS NOT NULL, attempts + (claimed_by IS NOT NULL),
       CASE WHEN claimed_by IS NULL THEN first_attempt_at ELSE coalesce(first_attempt_at, due_at) END,
       not_found_since, reason, endpoint
  FROM outbox;
DROP TABLE outbox;
ALTER TABLE outbox_9 RENAME TO outbox;
CREATE INDEX outbox_due ON outbox (endpoint, watch, due_at) WHERE state = 'pending';
CREATE INDEX outbox_state ON outbox (state, watch, queued_at);
