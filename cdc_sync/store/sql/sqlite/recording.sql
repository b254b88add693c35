-- name: known
SELECT s.number, s.application_id, s.row_key, s.in_scope,
       s.status, s.job_id, s.deleted, s.created, s.event_date, s.source, s.extra, s.url,
       o.status, o.job_id, o.deleted, o.created, o.event_date, o.source, o.extra, o.url, o.attempted,
       o.state, o.reason
  FROM json_each(:ids) j
 CROSS JOIN snapshot s ON s.watch = :watch AND s.application_id = j.value
  LEFT JOIN outbox o ON o.watch = s.watch AND o.application_id = s.application_id;

-- name: owners
SELECT s.number, s.application_id, s.row_key, s.in_scope,
       s.status, s.job_id, s.deleted, s.created, s.event_date, s.source, s.extra, s.url,
       o.status, o.job_id, o.deleted, o.created, o.event_date, o.source, o.extra, o.url, o.attempted
  FROM json_each(:keys) j
 CROSS JOIN snapshot s ON s.watch = :watch AND s.row_key = j.value
  LEFT JOIN outbox o ON o.watch = s.watch AND o.application_id = s.application_id;

-- name: unseen
SELECT s.number, s.application_id
  FROM snapshot s
  LEFT JOIN outbox o ON o.watch = s.watch AND o.application_id = s.application_id
 WHERE s.number BETWEEN :first AND :last AND s.watch = :watch AND s.in_scope = 1
   AND coalesce(o.deleted, s.deleted) = 0
   AND NOT marked(s.number);

-- name: adopt_new
INSERT INTO snapshot (watch, application_id, row_key, status, job_id, deleted, created, event_date, source, extra, url,
                      told_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: seen_new
INSERT INTO snapshot (watch, application_id, row_key) VALUES (?, ?, ?);

-- name: tally
INSERT INTO tally (watch, known, changed_at) VALUES (:watch, :new, :changed_at)
ON CONFLICT (watch) DO UPDATE
   SET known = tally.known + excluded.known, changed_at = coalesce(excluded.changed_at, tally.changed_at);

-- name: move
UPDATE snapshot SET row_key = ?, in_scope = 1 WHERE watch = ? AND application_id = ?;

-- name: tell
UPDATE snapshot
   SET status = ?, job_id = ?, deleted = ?, created = ?, event_date = ?, source = ?, extra = ?, url = ?, told_at = ?
 WHERE watch = ? AND application_id = ?;

-- name: leave_scope
UPDATE snapshot SET in_scope = 0
 WHERE watch = :watch AND in_scope = 1 AND application_id IN (SELECT value FROM json_each(:ids));

-- name: queue
INSERT INTO outbox (watch, application_id, status, job_id, deleted, created, event_date, source, extra, url, kinds,
                    state, revision, queued_at, due_at, attempted, attempts, reason, endpoint)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, ?, ?, 0, 0, ?, ?)
ON CONFLICT (watch, application_id) DO UPDATE
   SET status = excluded.status, job_id = excluded.job_id, deleted = excluded.deleted, created = excluded.created,
       event_date = excluded.event_date, source = excluded.source, extra = excluded.extra, url = excluded.url,
       kinds = excluded.kinds, state = excluded.state, revision = outbox.revision + 1, queued_at = excluded.queued_at,
       due_at = excluded.due_at, attempts = 0, first_attempt_at = NULL, not_found_since = NULL,
       reason = excluded.reason, endpoint = excluded.endpoint;

-- name: cancel
DELETE FROM outbox WHERE watch = ? AND application_id = ?;

-- name: endpoint
INSERT INTO endpoint (endpoint) VALUES (?) ON CONFLICT DO NOTHING;

-- name: suspect
INSERT INTO suspicion (watch, application_id, at, due_at) VALUES (?, ?, ?, ?)
ON CONFLICT (watch, application_id) DO NOTHING;

-- name: answer
DELETE FROM suspicion WHERE watch = :watch AND application_id IN (SELECT value FROM json_each(:ids));

-- name: due_suspicions
SELECT application_id, at, due_at FROM suspicion WHERE watch = :watch AND due_at <= :now ORDER BY due_at LIMIT :limit;

-- name: suspected
SELECT application_id FROM suspicion WHERE watch = :watch AND application_id IN (SELECT value FROM json_each(:ids));

-- name: next_suspicion
SELECT min(due_at) FROM suspicion WHERE watch = ?;

-- name: skip
INSERT INTO skipped (watch, row_key, application_id, reason, at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (watch, row_key) DO UPDATE
   SET application_id = excluded.application_id, reason = excluded.reason, at = excluded.at;

-- name: unskip
DELETE FROM skipped WHERE watch = :watch AND row_key IN (SELECT value FROM json_each(:keys));

-- name: set_position
INSERT INTO position (watch, name, value) VALUES (?, ?, ?)
ON CONFLICT (watch, name) DO UPDATE SET value = excluded.value;

-- name: drop_position
DELETE FROM position WHERE watch = ? AND name = ?;

-- name: positions
SELECT name, value FROM position WHERE watch = ?;

-- name: fuse
SELECT state FROM fuse WHERE watch = ?;

-- name: set_fuse
INSERT INTO fuse (watch, state) VALUES (?, ?) ON CONFLICT (watch) DO UPDATE SET state = excluded.state;

-- name: remember
INSERT INTO history (at, watch, application_id, event, detail) VALUES (?, ?, ?, ?, ?);
