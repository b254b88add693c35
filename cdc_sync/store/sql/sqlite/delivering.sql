-- name: due
SELECT watch, application_id, status, job_id, deleted, created, event_date, source, extra, url, kinds, state, revision,
       queued_at, due_at, attempted, attempts, first_attempt_at, not_found_since, reason
  FROM outbox
 WHERE state = 'pending' AND claimed = 0 AND endpoint = ? AND due_at <= ?
 ORDER BY due_at
 LIMIT ?;

-- name: overdue_by_clock
SELECT watch, application_id, status, job_id, deleted, created, event_date, source, extra, url, kinds, state, revision,
       queued_at, due_at, attempted, attempts, first_attempt_at, not_found_since, reason
  FROM outbox
 WHERE state = 'pending' AND claimed = 0 AND endpoint = ? AND due_at > ?
 ORDER BY due_at
 LIMIT ?;

-- name: claim
UPDATE outbox
   SET claimed = 1, attempted = 1, attempts = attempts + 1, first_attempt_at = coalesce(first_attempt_at, ?)
 WHERE watch = ? AND application_id = ?;

-- name: release_claims
UPDATE outbox SET claimed = 0 WHERE claimed = 1;

-- name: current
SELECT revision, status, job_id, deleted FROM outbox WHERE watch = ? AND application_id = ?;

-- name: drop
DELETE FROM outbox WHERE watch = ? AND application_id = ?;

-- name: unclaim
UPDATE outbox SET claimed = 0 WHERE watch = ? AND application_id = ?;

-- name: heard
UPDATE outbox SET claimed = 0, attempted = 0 WHERE watch = ? AND application_id = ?;

-- name: again
UPDATE outbox SET claimed = 0, due_at = ?, not_found_since = ?, reason = ? WHERE watch = ? AND application_id = ?;

-- name: bury
UPDATE outbox SET claimed = 0, state = 'dead', reason = ? WHERE watch = ? AND application_id = ?;

-- name: count_calls
INSERT INTO call_count (step, outcome, count) VALUES (?, ?, ?)
ON CONFLICT (step, outcome) DO UPDATE SET count = call_count.count + excluded.count;

-- name: set_health
INSERT INTO endpoint (endpoint, health) VALUES (?, ?) ON CONFLICT (endpoint) DO UPDATE SET health = excluded.health;

-- name: endpoints
SELECT e.endpoint, e.health,
       (SELECT due_at FROM outbox o
         WHERE o.state = 'pending' AND o.claimed = 0 AND o.endpoint = e.endpoint ORDER BY due_at LIMIT 1)
  FROM endpoint e;
