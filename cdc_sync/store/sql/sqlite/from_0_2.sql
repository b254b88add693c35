-- From the schema of 0.2.0 and 0.2.1. What is being called is in the sender's memory only: a claim is an attempt.
ALTER TABLE outbox RENAME TO old_outbox;
ALTER TABLE watch RENAME TO old_watch;
DROP TRIGGER snapshot_verified;
DROP INDEX snapshot_application;
DROP INDEX outbox_due;
DROP INDEX outbox_state;
DROP INDEX history_failures;
DROP TABLE condition;
-- schema.sql
INSERT INTO watch SELECT name, fuse, known, changed_at, session FROM old_watch;
INSERT INTO outbox
SELECT watch, application_id, status, job_id, deleted, metadata, kinds, state, revision, queued_at, due_at,
       attempted OR claimed_by IS NOT NULL, attempts + (claimed_by IS NOT NULL),
       CASE WHEN claimed_by IS NULL THEN first_attempt_at ELSE coalesce(first_attempt_at, due_at) END,
       not_found_since, reason, endpoint
  FROM old_outbox;
DROP TABLE old_outbox;
DROP TABLE old_watch;

-- An entry's endpoint has its account, and so has a state's metadata; without one it is the default account's. What a watch
-- with headers of its own was sent, or waits, is of the account with the watch's name. The note `credentials` has the
-- watches of the last daemon, each with the owner of its own headers, NULL without any.
CREATE TEMP TABLE with_own AS
SELECT key AS watch FROM json_each((SELECT value FROM about WHERE name = 'credentials')) WHERE value IS NOT NULL;

UPDATE snapshot
   SET metadata = substr(metadata, 1, length(metadata) - 1) || ',"account":' || json_quote(watch) || '}'
 WHERE metadata IS NOT NULL AND watch IN (SELECT watch FROM with_own);
UPDATE outbox
   SET metadata = substr(metadata, 1, length(metadata) - 1) || ',"account":' || json_quote(watch) || '}',
       endpoint = CASE endpoint WHEN 'nowhere' THEN endpoint ELSE endpoint || ' [' || watch || ']' END
 WHERE watch IN (SELECT watch FROM with_own);
INSERT OR IGNORE INTO endpoint (endpoint) SELECT DISTINCT endpoint FROM outbox WHERE state = 'pending';
-- Who shared paused headers is paused: each watch has an endpoint of its own now.
UPDATE about
   SET value = (SELECT json_group_array(endpoint) FROM (
       SELECT p.value AS endpoint FROM json_each(about.value) AS p
       UNION
       SELECT replace(p.value, ' [' || o.value || ']', ' [' || o.key || ']')
         FROM json_each(about.value) AS p, json_each((SELECT value FROM about WHERE name = 'credentials')) AS o
        WHERE o.value IS NOT NULL))
 WHERE name = 'paused';
DELETE FROM about WHERE name IN ('credentials', 'actions');
DROP TABLE with_own;
