-- name: due
-- As they are once they are claimed: if they were due for longer than counts, the first attempt moves on, up to now, and
-- so does the first 404.
SELECT json_group_array(json_array(
       watch, application_id, status, job_id, deleted, created, event_date, source, extra, url, kinds, state, revision,
       queued_at, due_at, 1, attempts + 1, coalesce(min(first_attempt_at + max(:overdue - due_at, 0), :now), :now),
       min(not_found_since + max(:unasked - due_at, 0), :now), reason))
  FROM (SELECT * FROM outbox
         WHERE state = 'pending' AND claimed = 0 AND endpoint = :endpoint AND due_at <= :now
         ORDER BY due_at
         LIMIT :limit);

-- name: probe
-- Goes through all that is due, but only once after each of the endpoint's waits.
SELECT json_group_array(json_array(
       watch, application_id, status, job_id, deleted, created, event_date, source, extra, url, kinds, state, revision,
       queued_at, due_at, 1, attempts + 1, coalesce(min(first_attempt_at + max(:overdue - due_at, 0), :now), :now),
       min(not_found_since + max(:unasked - due_at, 0), :now), reason))
  FROM (SELECT * FROM outbox
         WHERE state = 'pending' AND claimed = 0 AND endpoint = :endpoint AND due_at <= :now
         ORDER BY attempts, due_at
         LIMIT :limit);

-- name: overdue_by_clock
SELECT json_group_array(json_array(
       watch, application_id, status, job_id, deleted, created, event_date, source, extra, url, kinds, state, revision,
       queued_at, due_at, 1, attempts + 1, coalesce(min(first_attempt_at + max(:overdue - due_at, 0), :now), :now),
       min(not_found_since + max(:unasked - due_at, 0), :now), reason))
  FROM (SELECT * FROM outbox
         WHERE state = 'pending' AND claimed = 0 AND endpoint = :endpoint AND due_at > :latest
         ORDER BY due_at
         LIMIT :limit);

-- name: claim
UPDATE outbox
   SET claimed = 1, attempted = 1, attempts = attempts + 1,
       first_attempt_at = coalesce(min(first_attempt_at + max(:overdue - due_at, 0), :now), :now),
       not_found_since = min(not_found_since + max(:unasked - due_at, 0), :now)
 WHERE (watch, application_id) IN (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(:whose));

-- name: release_claims
UPDATE outbox SET claimed = 0 WHERE claimed = 1;

-- name: current
SELECT json_group_array(json_array(o.watch, o.application_id, o.revision, o.status, o.job_id, o.deleted))
  FROM json_each(?) j
 CROSS JOIN outbox o
    ON o.watch = json_extract(j.value, '$[0]') AND o.application_id = json_extract(j.value, '$[1]');

-- name: drop
DELETE FROM outbox
 WHERE (watch, application_id) IN (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?));

-- name: unclaim
UPDATE outbox SET claimed = 0 WHERE watch = ? AND application_id = ?;

-- name: heard
UPDATE outbox SET claimed = 0, attempted = 0 WHERE watch = ? AND application_id = ?;

-- name: again
UPDATE outbox
   SET claimed = 0, due_at = ?, not_found_since = ?,
       first_attempt_at = CASE WHEN ? THEN NULL ELSE first_attempt_at END, reason = ?
 WHERE watch = ? AND application_id = ?;

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
