-- name: known
SELECT json_group_array(json_array(
       s.number, s.application_id, s.row_key, s.in_scope, s.status, s.job_id, s.deleted, s.created, s.event_date,
       s.source, s.extra, s.url, o.status, o.job_id, o.deleted, o.created, o.event_date, o.source, o.extra, o.url,
       o.attempted, s.told_at, o.state, o.reason, o.queued_at))
  FROM json_each(:ids) j
 CROSS JOIN snapshot s ON s.watch = :watch AND s.application_id = j.value
  LEFT JOIN outbox o ON o.watch = s.watch AND o.application_id = s.application_id;

-- name: owners
SELECT json_group_array(json_array(
       s.number, s.application_id, s.row_key, s.in_scope, s.status, s.job_id, s.deleted, s.created, s.event_date,
       s.source, s.extra, s.url, o.status, o.job_id, o.deleted, o.created, o.event_date, o.source, o.extra, o.url,
       o.attempted, s.told_at))
  FROM json_each(:keys) j
 CROSS JOIN snapshot s ON s.watch = :watch AND s.row_key = j.value
  LEFT JOIN outbox o ON o.watch = s.watch AND o.application_id = s.application_id;

-- name: unseen
SELECT s.application_id
  FROM json_each(:numbers) j
 CROSS JOIN snapshot s ON s.number = j.value
  LEFT JOIN outbox o ON o.watch = s.watch AND o.application_id = s.application_id
 WHERE s.watch = :watch AND s.in_scope = 1 AND coalesce(o.deleted, s.deleted) = 0;

-- name: compare
SELECT json_group_array(
       coalesce(s.number,
                CASE substr(e.value, 1, 1)
                WHEN 'n' THEN 0
                WHEN 'o' THEN coalesce((SELECT -1 FROM snapshot o
                                         WHERE o.watch = :watch AND o.in_scope = 1
                                           AND o.application_id = json_extract(substr(e.value, 2), '$[1]')), 0)
                ELSE -1
                END))
  FROM json_each(:digests) e
  LEFT JOIN snapshot s
    ON s.watch = :watch AND s.row_key = substr(e.value, 17) AND s.verified = substr(e.value, 1, 16)
   AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.watch = s.watch AND o.application_id = s.application_id);

-- name: verifiable
-- Apart from the UPDATE, and CROSS: left to itself, SQLite goes through all records of the watch for each row.
SELECT json_group_array(json_array(json_extract(j.value, '$[2]'), s.number))
  FROM json_each(:rows) j
 CROSS JOIN snapshot s ON s.watch = :watch AND s.application_id = json_extract(j.value, '$[0]')
 WHERE +s.row_key = json_extract(j.value, '$[1]') AND s.in_scope = 1
   AND (json_extract(j.value, '$[3]') IS NULL
        OR (s.status = json_extract(j.value, '$[3]') AND s.job_id = json_extract(j.value, '$[4]')
            AND s.deleted = json_extract(j.value, '$[5]')));

-- name: verify
UPDATE snapshot SET verified = ? WHERE number = ?;

-- name: adopt_new
INSERT INTO snapshot (watch, application_id, row_key, status, job_id, deleted, created, event_date, source, extra, url,
                      told_at, verified)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

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
   SET status = told.status, job_id = told.job_id, deleted = told.deleted, created = told.created,
       event_date = told.event_date, source = told.source, extra = told.extra, url = told.url, told_at = told.at
  FROM (SELECT json_extract(value, '$[0]') AS status, json_extract(value, '$[1]') AS job_id,
               json_extract(value, '$[2]') AS deleted, json_extract(value, '$[3]') AS created,
               json_extract(value, '$[4]') AS event_date, json_extract(value, '$[5]') AS source,
               json_extract(value, '$[6]') AS extra, json_extract(value, '$[7]') AS url,
               json_extract(value, '$[8]') AS at, json_extract(value, '$[9]') AS watch,
               json_extract(value, '$[10]') AS application_id
          FROM json_each(?)) AS told
 WHERE snapshot.watch = told.watch AND snapshot.application_id = told.application_id;

-- name: leave_scope
UPDATE snapshot SET in_scope = 0
 WHERE watch = :watch AND in_scope = 1 AND application_id IN (SELECT value FROM json_each(:ids));

-- name: queue
INSERT INTO outbox (watch, application_id, status, job_id, deleted, created, event_date, source, extra, url, kinds,
                    state, revision, queued_at, due_at, attempted, attempts, reason, endpoint)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
       json_extract(value, '$[3]'), json_extract(value, '$[4]'), json_extract(value, '$[5]'),
       json_extract(value, '$[6]'), json_extract(value, '$[7]'), json_extract(value, '$[8]'),
       json_extract(value, '$[9]'), json_extract(value, '$[10]'), json_extract(value, '$[11]'), 1,
       json_extract(value, '$[12]'), json_extract(value, '$[13]'), 0, 0, json_extract(value, '$[14]'),
       json_extract(value, '$[15]')
  FROM json_each(?)
 WHERE true
ON CONFLICT (watch, application_id) DO UPDATE
   SET status = excluded.status, job_id = excluded.job_id, deleted = excluded.deleted, created = excluded.created,
       event_date = excluded.event_date, source = excluded.source, extra = excluded.extra, url = excluded.url,
       kinds = excluded.kinds, state = excluded.state, revision = outbox.revision + 1, queued_at = excluded.queued_at,
       due_at = excluded.due_at, attempts = 0, first_attempt_at = NULL, not_found_since = NULL,
       reason = excluded.reason, endpoint = excluded.endpoint;

-- name: refresh
UPDATE outbox
   SET created = :created, source = :source, extra = :extra, url = :url, endpoint = :endpoint, revision = revision + 1
 WHERE watch = :watch AND application_id = :application_id;

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
SELECT application_id, at, due_at FROM suspicion
 WHERE watch = :watch AND (due_at <= :now OR due_at > :latest)
 ORDER BY due_at
 LIMIT :limit;

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
INSERT INTO history (at, watch, application_id, event, detail)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
       json_extract(value, '$[3]'), json_extract(value, '$[4]')
  FROM json_each(?);
