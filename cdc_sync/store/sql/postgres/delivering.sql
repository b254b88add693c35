-- name: due
-- As they are once they are claimed: if they were due for longer than counts, the first attempt moves on, up to now, and
-- so does the first 404.
SELECT watch, application_id, status, job_id, deleted, created, event_date, source, extra, url, kinds, state, revision,
       queued_at, due_at, true, attempts + 1,
       coalesce(least(first_attempt_at + greatest(%(overdue)s - due_at, 0), %(now)s), %(now)s),
       CASE WHEN not_found_since IS NOT NULL
            THEN least(not_found_since + greatest(%(unasked)s - due_at, 0), %(now)s) END, reason
  FROM cdc_sync.outbox
 WHERE state = 'pending' AND claimed_by IS NULL AND endpoint = %(endpoint)s AND due_at <= %(now)s
 ORDER BY due_at, watch, application_id
 LIMIT %(limit)s
   FOR UPDATE SKIP LOCKED;

-- name: probe
-- Goes through all that is due, but only once after each of the endpoint's waits.
SELECT watch, application_id, status, job_id, deleted, created, event_date, source, extra, url, kinds, state, revision,
       queued_at, due_at, true, attempts + 1,
       coalesce(least(first_attempt_at + greatest(%(overdue)s - due_at, 0), %(now)s), %(now)s),
       CASE WHEN not_found_since IS NOT NULL
            THEN least(not_found_since + greatest(%(unasked)s - due_at, 0), %(now)s) END, reason
  FROM cdc_sync.outbox
 WHERE state = 'pending' AND claimed_by IS NULL AND endpoint = %(endpoint)s AND due_at <= %(now)s
 ORDER BY attempts, due_at, watch, application_id
 LIMIT %(limit)s
   FOR UPDATE SKIP LOCKED;

-- name: overdue_by_clock
SELECT watch, application_id, status, job_id, deleted, created, event_date, source, extra, url, kinds, state, revision,
       queued_at, due_at, true, attempts + 1,
       coalesce(least(first_attempt_at + greatest(%(overdue)s - due_at, 0), %(now)s), %(now)s),
       CASE WHEN not_found_since IS NOT NULL
            THEN least(not_found_since + greatest(%(unasked)s - due_at, 0), %(now)s) END, reason
  FROM cdc_sync.outbox
 WHERE state = 'pending' AND claimed_by IS NULL AND endpoint = %(endpoint)s AND due_at > %(latest)s
 ORDER BY due_at, watch, application_id
 LIMIT %(limit)s
   FOR UPDATE SKIP LOCKED;

-- name: claim
UPDATE cdc_sync.outbox o
   SET claimed_by = %(daemon)s, attempted = true, attempts = o.attempts + 1,
       first_attempt_at = coalesce(least(o.first_attempt_at + greatest(%(overdue)s - o.due_at, 0), %(now)s), %(now)s),
       not_found_since = CASE WHEN o.not_found_since IS NOT NULL
                              THEN least(o.not_found_since + greatest(%(unasked)s - o.due_at, 0), %(now)s) END
  FROM json_to_recordset(%(rows)s::json) AS x (watch text, application_id text)
 WHERE o.watch = x.watch AND o.application_id = x.application_id;

-- name: claimed
SELECT watch, application_id FROM cdc_sync.outbox WHERE claimed_by = %(daemon)s;

-- name: give_back
-- Only what is still ours: it may have ended since it was looked at, and be another daemon's.
UPDATE cdc_sync.outbox o
   SET claimed_by = NULL
  FROM json_to_recordset(%(rows)s::json) AS x (watch text, application_id text)
 WHERE o.watch = x.watch AND o.application_id = x.application_id AND o.claimed_by = %(daemon)s;

-- name: claim_again
UPDATE cdc_sync.outbox o
   SET claimed_by = %(daemon)s, attempted = true
  FROM json_to_recordset(%(rows)s::json) AS x (watch text, application_id text, revision bigint, attempts integer)
 WHERE o.watch = x.watch AND o.application_id = x.application_id AND o.claimed_by IS NULL
   AND (o.revision <> x.revision OR o.attempts <= x.attempts)
RETURNING o.watch, o.application_id;

-- name: lock_told
SELECT FROM cdc_sync.snapshot s
  JOIN json_to_recordset(%(rows)s::json) AS x (watch text, application_id text)
    ON s.watch = x.watch AND s.application_id = x.application_id
 ORDER BY s.watch, s.application_id
   FOR UPDATE OF s;

-- name: current
SELECT o.watch, o.application_id, o.claimed_by, o.revision, o.status, o.job_id, o.deleted
  FROM cdc_sync.outbox o
  JOIN json_to_recordset(%(rows)s::json) AS x (watch text, application_id text)
    ON o.watch = x.watch AND o.application_id = x.application_id
 ORDER BY o.watch, o.application_id
   FOR UPDATE OF o;

-- name: drop
DELETE FROM cdc_sync.outbox o
 USING json_to_recordset(%(rows)s::json) AS x (watch text, application_id text)
 WHERE o.watch = x.watch AND o.application_id = x.application_id;

-- name: unclaim
UPDATE cdc_sync.outbox o
   SET claimed_by = NULL,
       attempted = o.attempted AND x.becomes <> 'unheard',
       state = CASE x.becomes WHEN 'dead' THEN 'dead' ELSE o.state END,
       due_at = CASE x.becomes WHEN 'again' THEN x.due_at ELSE o.due_at END,
       not_found_since = CASE x.becomes WHEN 'again' THEN x.not_found_since ELSE o.not_found_since END,
       first_attempt_at = CASE WHEN x.becomes = 'again' AND x.anew THEN NULL ELSE o.first_attempt_at END,
       reason = CASE WHEN x.becomes IN ('again', 'dead') THEN x.reason ELSE o.reason END
  FROM json_to_recordset(%(rows)s::json)
    AS x (watch text, application_id text, becomes text, due_at bigint, not_found_since bigint, anew boolean,
          reason text)
 WHERE o.watch = x.watch AND o.application_id = x.application_id;

-- name: count_calls
INSERT INTO cdc_sync.call_count (step, outcome, count)
SELECT x.step, x.outcome, x.count
  FROM json_to_recordset(%(rows)s::json) AS x (step bigint, outcome text, count bigint)
ON CONFLICT (step, outcome) DO UPDATE SET count = cdc_sync.call_count.count + excluded.count;

-- name: set_health
INSERT INTO cdc_sync.endpoint (endpoint, health)
SELECT x.endpoint, x.health FROM json_to_recordset(%(rows)s::json) AS x (endpoint text, health text)
ON CONFLICT (endpoint) DO UPDATE SET health = excluded.health;

-- name: endpoints
SELECT e.endpoint, e.health,
       (SELECT o.due_at FROM cdc_sync.outbox o
         WHERE o.state = 'pending' AND o.claimed_by IS NULL AND o.endpoint = e.endpoint ORDER BY o.due_at LIMIT 1)
  FROM cdc_sync.endpoint e;
