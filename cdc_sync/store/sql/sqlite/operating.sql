-- name: in_state
SELECT watch, application_id, status, job_id, deleted, created, event_date, source, extra, url
  FROM outbox
 WHERE state = :state AND (:watch IS NULL OR watch = :watch)
   AND (:ids IS NULL OR application_id IN (SELECT value FROM json_each(:ids)))
   AND (:deleted IS NULL OR deleted = :deleted)
   AND (:under_way OR claimed = 0)
 ORDER BY queued_at, watch, application_id
 LIMIT :limit;

-- name: revive
UPDATE outbox
   SET state = 'pending', due_at = :now, attempts = 0, first_attempt_at = NULL, not_found_since = NULL, reason = NULL,
       endpoint = :endpoint
 WHERE watch = :watch AND application_id = :application_id;

-- name: drop
DELETE FROM outbox WHERE watch = ? AND application_id = ?;

-- name: to_resend
SELECT s.watch, s.application_id, s.status, s.job_id, s.deleted, s.created, s.event_date, s.source, s.extra, s.url,
       o.state
  FROM snapshot s
  LEFT JOIN outbox o ON o.watch = s.watch AND o.application_id = s.application_id
 WHERE s.application_id IN (SELECT value FROM json_each(:ids)) AND (:watch IS NULL OR s.watch = :watch)
 ORDER BY s.watch, s.application_id;

-- name: hasten
UPDATE outbox SET due_at = ? WHERE watch = ? AND application_id = ? AND claimed = 0;

-- name: held_left
SELECT count(*) FROM outbox WHERE state = 'held' AND watch = ?;

-- name: fuses
SELECT watch, state FROM fuse;

-- name: add_repairs
INSERT INTO repair (watch, cause, count) VALUES (?, ?, ?)
ON CONFLICT (watch, cause) DO UPDATE SET count = repair.count + excluded.count;

-- name: set_condition
INSERT INTO condition (name, message, since) VALUES (?, ?, ?)
ON CONFLICT (name) DO UPDATE SET message = excluded.message;

-- name: clear_condition
DELETE FROM condition WHERE name = ?;

-- name: prune
DELETE FROM history
 WHERE number IN (SELECT number FROM (SELECT number, at FROM history ORDER BY number LIMIT :limit)
                   WHERE at < :before OR number <= (SELECT max(number) FROM history) - :keep);

-- name: prune_call_counts
DELETE FROM call_count WHERE step <= ?;

-- name: identity
SELECT value FROM about WHERE name = 'database';

-- name: rebind
INSERT INTO about (name, value) VALUES ('database', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- name: hosts
SELECT value FROM about WHERE name = 'hosts';

-- name: set_hosts
INSERT INTO about (name, value) VALUES ('hosts', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- name: replace_hosts
INSERT INTO about (name, value) VALUES ('hosts', :hosts)
ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE value = :instead_of;

-- name: set_identity
INSERT INTO about (name, value) VALUES ('database', ?);

-- name: clock
SELECT value FROM about WHERE name = 'clock';

-- name: set_clock
INSERT INTO about (name, value) VALUES ('clock', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- name: newest_event
SELECT at FROM history ORDER BY number DESC LIMIT 1;
