-- SQLite's own statements.

-- name: set_session
-- The former leader of a file has ended, and its sessions with it. So a watch connects while the disk is full, too.
SELECT NULL;

-- name: before
-- By application, and by rows that belonged to another application.
SELECT s.number, s.application_id, s.row_key, s.in_scope, s.status, s.job_id, s.deleted, s.metadata, s.acknowledged_at,
       s.adopted, o.status, o.job_id, o.deleted, o.metadata, o.attempted, o.revision, o.state, o.reason, o.queued_at
  FROM json_each(:ids) i
 CROSS JOIN snapshot s ON s.watch = :watch AND s.application_id = i.value
  LEFT JOIN outbox o ON o.watch = s.watch AND o.application_id = s.application_id
UNION ALL
SELECT s.number, s.application_id, s.row_key, s.in_scope, s.status, s.job_id, s.deleted, s.metadata, s.acknowledged_at,
       s.adopted, o.status, o.job_id, o.deleted, o.metadata, o.attempted, o.revision, o.state, o.reason, o.queued_at
  FROM json_each(:rows) j
 CROSS JOIN snapshot s
    ON s.watch = :watch AND s.row_key = json_extract(j.value, '$[0]')
   AND s.application_id <> json_extract(j.value, '$[1]')
  LEFT JOIN @outbox o ON o.watch = s.watch AND o.application_id = s.application_id;

-- name: need_no_flush
-- Nothing is flushed where nothing was written.
SELECT NULL;

-- name: remove(watch text, application_id text)
DELETE FROM @outbox WHERE (watch, application_id) IN (SELECT x.watch, x.application_id FROM @rows);

-- name: forget_application(watch text, application_id text)
DELETE FROM @snapshot WHERE (watch, application_id) IN (SELECT x.watch, x.application_id FROM @rows);

-- name: known_elsewhere
SELECT s.application_id, s.status, s.job_id, s.deleted, s.metadata, s.adopted,
       EXISTS (SELECT 1 FROM outbox o WHERE o.watch = s.watch AND o.application_id = s.application_id)
  FROM json_each(:ids) i
 CROSS JOIN json_each(:watches) w
 CROSS JOIN snapshot s ON s.watch = w.value AND s.application_id = i.value
 ORDER BY s.acknowledged_at;

-- name: rivals
-- Only in watches with a pending entry, found from watch to watch in the index: no index has applications alone.
WITH RECURSIVE waiting (watch) AS (
    SELECT (SELECT watch FROM outbox WHERE state = 'pending' ORDER BY watch LIMIT 1)
    UNION ALL
    SELECT (SELECT o.watch FROM outbox o WHERE o.state = 'pending' AND o.watch > w.watch ORDER BY o.watch LIMIT 1)
      FROM waiting w
     WHERE w.watch IS NOT NULL
)
SELECT o.watch, o.application_id, o.endpoint, o.attempted, o.revision, o.status
  FROM waiting w
 CROSS JOIN json_each(:ids) i
 CROSS JOIN outbox o ON o.watch = w.watch AND o.application_id = i.value
 WHERE o.state = 'pending' AND w.watch IN (SELECT value FROM json_each(:watches));

-- name: compare
SELECT json_group_array(
       coalesce(s.number,
                CASE substr(e.value, 1, 1)
                WHEN 'n' THEN 0
                WHEN 'o' THEN coalesce((SELECT -1 FROM @snapshot o
                                         WHERE o.watch = :watch AND o.in_scope = 1
                                           AND o.application_id = json_extract(substr(e.value, 2), '$[1]')), 0)
                ELSE -1
                END))
  FROM json_each(:digests) e
  LEFT JOIN @snapshot s
    ON s.watch = :watch AND s.row_key = substr(e.value, 17) AND s.verified = substr(e.value, 1, 16)
   AND NOT EXISTS (SELECT 1 FROM @outbox o WHERE o.watch = s.watch AND o.application_id = s.application_id);

-- name: prune
DELETE FROM @history
 WHERE number IN (SELECT number FROM (SELECT number, at FROM @history ORDER BY number LIMIT :limit) AS oldest
                   WHERE at < :before OR number <= (SELECT max(number) FROM @history) - :keep);

-- name: current
SELECT o.watch, o.application_id, o.status, o.job_id, o.deleted, o.metadata, o.kinds, o.state, o.revision, o.queued_at,
       o.due_at, o.attempted, o.attempts, o.first_attempt_at, o.not_found_since, o.reason
  FROM json_each(:ends) e
 CROSS JOIN outbox o ON o.watch = json_extract(e.value, '$[0]') AND o.application_id = json_extract(e.value, '$[1]');

-- name: entries
-- Watch by watch, in the index's order: a mass change costs only the wanted rows. The same in the next two. The caller
-- sorts the result.
SELECT o.watch, o.application_id, o.status, o.job_id, o.deleted, o.metadata, o.kinds, o.state, o.revision, o.queued_at,
       o.due_at, o.attempted, o.attempts, o.first_attempt_at, o.not_found_since, o.reason
  FROM json_each(:watches) w
 CROSS JOIN @outbox o
    ON o.watch = w.value
   AND o.application_id IN (SELECT i.application_id FROM @outbox i
                             WHERE i.state = :state AND i.watch = w.value
                             ORDER BY i.queued_at, i.application_id LIMIT :each);

-- name: skipped_of_each
SELECT k.watch, k.row_key, k.application_id, k.reason
  FROM json_each(:watches) w
 CROSS JOIN @skipped k
    ON k.watch = w.value
   AND k.row_key IN (SELECT i.row_key FROM @skipped i WHERE i.watch = w.value ORDER BY i.row_key LIMIT :each);

-- name: ids_from
-- The `+` keeps the index of watches away, so that the index of ids gives the order.
SELECT s.watch, s.application_id, s.row_key, NULL AS reason
  FROM json_each(:watches) w
 CROSS JOIN @snapshot s
    ON s.watch = w.value
   AND s.application_id IN (SELECT i.application_id FROM @snapshot i
                             WHERE i.watch = w.value AND i.application_id >= :text
                             ORDER BY i.application_id LIMIT :limit)
UNION ALL
SELECT * FROM (SELECT watch, application_id, row_key, reason
                 FROM @skipped
                WHERE application_id >= :text AND +watch IN (SELECT value FROM json_each(:watches))
                ORDER BY application_id LIMIT :limit) AS unreported;
