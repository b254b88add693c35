-- What is sent but not compared is one JSON object, as in the shared store; what a watch has is one row. A state that was
-- adopted, and never sent, is marked as such: it was a negative time.

CREATE TABLE watch (
    name       TEXT PRIMARY KEY,
    fuse       TEXT,
    known      INTEGER NOT NULL DEFAULT 0,
    changed_at INTEGER,
    leased_by  INTEGER,
    session    TEXT
) WITHOUT ROWID;
INSERT INTO watch (name, fuse, known, changed_at)
SELECT names.watch, fuse.state, coalesce(tally.known, 0), tally.changed_at
  FROM (SELECT watch FROM tally UNION SELECT watch FROM fuse UNION SELECT watch FROM position) AS names
  LEFT JOIN tally ON tally.watch = names.watch
  LEFT JOIN fuse ON fuse.watch = names.watch;
DROP TABLE tally;
DROP TABLE fuse;

-- One record per application ever seen. status, job_id, deleted and metadata are its last acknowledged state, NULL as long
-- as there is none. number is a place in a sweep's bitmap; verified is the digest of the row that was found to be no news.
CREATE TABLE snapshot_5 (
    number          INTEGER PRIMARY KEY,
    watch           TEXT NOT NULL,
    application_id  TEXT NOT NULL,
    row_key         TEXT NOT NULL,
    in_scope        INTEGER NOT NULL DEFAULT 1,
    status          TEXT,
    job_id          TEXT,
    deleted         INTEGER,
    metadata        TEXT,
    acknowledged_at INTEGER,
    adopted         INTEGER NOT NULL DEFAULT 0,
    verified        TEXT
);
INSERT INTO snapshot_5
SELECT number, watch, application_id, row_key, in_scope, status, job_id, deleted,
       CASE WHEN status IS NOT NULL THEN
            json_object('created', created, 'event_date', event_date, 'source', source, 'extra', extra, 'url', url) END,
       abs(told_at), coalesce(told_at < 0, 0), verified
  FROM snapshot;
DROP TABLE snapshot;
ALTER TABLE snapshot_5 RENAME TO snapshot;
CREATE UNIQUE INDEX snapshot_application ON snapshot (watch, application_id);
CREATE INDEX snapshot_row_key ON snapshot (watch, row_key);
CREATE TRIGGER snapshot_verified
    AFTER UPDATE OF row_key, in_scope, status, job_id, deleted ON snapshot
    WHEN OLD.verified IS NOT NULL
BEGIN
    UPDATE snapshot SET verified = NULL WHERE number = NEW.number;
END;

-- At most one entry per application: its newest state wins. claimed_by: a call is under way, or about to be; whoever finds
-- it so at a start takes it for attempted.
CREATE TABLE outbox_5 (
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
    claimed_by       INTEGER,
    PRIMARY KEY (watch, application_id)
) WITHOUT ROWID;
-- A claim of an earlier version is marked as attempted already.
INSERT INTO outbox_5
SELECT watch, application_id, status, job_id, deleted,
       json_object('created', created, 'event_date', event_date, 'source', source, 'extra', extra, 'url', url),
       kinds, state, revision, queued_at, due_at, attempted, attempts, first_attempt_at, not_found_since, reason, endpoint,
       NULL
  FROM outbox;
DROP TABLE outbox;
ALTER TABLE outbox_5 RENAME TO outbox;
CREATE INDEX outbox_due ON outbox (endpoint, due_at) WHERE state = 'pending' AND claimed_by IS NULL;
CREATE INDEX outbox_state ON outbox (state, watch, queued_at);

-- What is wrong now, as each daemon sees it: here there is one.
CREATE TABLE condition_5 (
    daemon  INTEGER NOT NULL,
    name    TEXT NOT NULL,
    message TEXT NOT NULL,
    since   INTEGER NOT NULL,
    PRIMARY KEY (daemon, name)
) WITHOUT ROWID;
INSERT INTO condition_5 SELECT 1, name, message, since FROM condition;
DROP TABLE condition;
ALTER TABLE condition_5 RENAME TO condition;
