-- From the schemas of 0.1.0. What is sent but not compared is one JSON object. A state that was adopted, and never sent, is
-- marked as such: it was a negative time. A claim is marked as attempted already. The first sweep reads each row.
CREATE TABLE IF NOT EXISTS tally (watch TEXT, changed_at INTEGER);
ALTER TABLE tally RENAME TO old_tally;
ALTER TABLE snapshot RENAME TO old_snapshot;
ALTER TABLE outbox RENAME TO old_outbox;
DROP TRIGGER IF EXISTS snapshot_verified;
DROP INDEX snapshot_row_key;
DROP INDEX outbox_due;
DROP INDEX outbox_state;
DROP INDEX IF EXISTS history_ends;
DROP TABLE condition;
-- schema.sql
INSERT INTO snapshot
SELECT number, watch, application_id, row_key, in_scope, status, job_id, deleted,
       CASE WHEN status IS NOT NULL THEN
            json_object('created', created, 'event_date', event_date, 'source', source, 'extra', extra, 'url', url) END,
       abs(told_at), coalesce(told_at < 0, 0), NULL
  FROM old_snapshot;
INSERT INTO outbox
SELECT watch, application_id, status, job_id, deleted,
       json_object('created', created, 'event_date', event_date, 'source', source, 'extra', extra, 'url', url),
       kinds, state, revision, queued_at, due_at, attempted, attempts, first_attempt_at, not_found_since, reason, endpoint
  FROM old_outbox;
-- A fuse drains instead of counting in windows. One that was blown may have been blown for an edited map: it goes on
-- holding everything until a person decides.
INSERT INTO watch (name, fuse, known, changed_at)
SELECT names.watch,
       CASE WHEN fuse.state IS NOT NULL THEN json_object(
           'at', json_extract(fuse.state, '$.window_start'),
           'changes', json_extract(fuse.state, '$.changes'), 'deletions', json_extract(fuse.state, '$.deletions'),
           'blown_at', json_extract(fuse.state, '$.blown_at'), 'reason', json_extract(fuse.state, '$.reason'),
           'holds_all', json(CASE WHEN json_extract(fuse.state, '$.blown_at') IS NULL THEN 'false' ELSE 'true' END)) END,
       (SELECT count(*) FROM snapshot WHERE snapshot.watch = names.watch), old_tally.changed_at
  FROM (SELECT watch FROM snapshot UNION SELECT watch FROM fuse UNION SELECT watch FROM position) AS names
  LEFT JOIN old_tally ON old_tally.watch = names.watch
  LEFT JOIN fuse ON fuse.watch = names.watch;
DROP TABLE old_tally;
DROP TABLE fuse;
DROP TABLE old_snapshot;
DROP TABLE old_outbox;
