-- name: entries
SELECT watch, application_id, status, job_id, deleted, created, event_date, source, extra, url, kinds, state, revision,
       queued_at, due_at, attempted, attempts, first_attempt_at, not_found_since, reason
  FROM outbox
 WHERE state = :state AND watch = :watch
 ORDER BY queued_at, application_id
 LIMIT :limit;

-- name: watches
SELECT watch FROM tally;

-- name: tallies
SELECT watch, known, changed_at FROM tally;

-- name: captured
SELECT DISTINCT watch FROM position;

-- name: count_outbox
SELECT watch, state, count(*), min(queued_at) FROM outbox GROUP BY watch, state;

-- name: count_skipped
SELECT watch, count(*) FROM skipped GROUP BY watch;

-- name: count_suspected
SELECT watch, count(*) FROM suspicion GROUP BY watch;

-- name: skipped
SELECT row_key, application_id, reason FROM skipped WHERE watch = ? ORDER BY row_key LIMIT ?;

-- name: records
SELECT watch, application_id, row_key, in_scope, status, job_id, deleted, created, event_date, source, extra, url,
       told_at
  FROM snapshot
 WHERE application_id = :id AND watch IN (SELECT watch FROM tally WHERE :watch IS NULL OR watch = :watch)
 ORDER BY watch;

-- name: entry
SELECT watch, application_id, status, job_id, deleted, created, event_date, source, extra, url, kinds, state, revision,
       queued_at, due_at, attempted, attempts, first_attempt_at, not_found_since, reason
  FROM outbox
 WHERE watch = ? AND application_id = ?;

-- name: suspicion
SELECT application_id, at, due_at FROM suspicion WHERE watch = ? AND application_id = ?;

-- name: skipped_one
SELECT watch, row_key, reason FROM skipped
 WHERE application_id = :id AND (:watch IS NULL OR watch = :watch)
 ORDER BY watch, row_key;

-- name: story
SELECT at, watch, application_id, event, detail
  FROM history
 WHERE application_id = :id AND (:watch IS NULL OR watch = :watch)
 ORDER BY number DESC
 LIMIT :limit;

-- name: recent
SELECT at, watch, application_id, event, detail FROM history ORDER BY number DESC LIMIT ?;

-- name: recent_acknowledged
-- The index's own condition has to stand in the statement, word for word, or SQLite does not see that it applies.
SELECT at, watch, application_id, event, detail, number
  FROM history INDEXED BY history_ends
 WHERE event IN ('acknowledged', 'answered', 'dead-lettered') AND event = 'acknowledged'
 ORDER BY number DESC LIMIT ?;

-- name: recent_answered
SELECT at, watch, application_id, event, detail, number
  FROM history INDEXED BY history_ends
 WHERE event IN ('acknowledged', 'answered', 'dead-lettered') AND event = 'answered'
 ORDER BY number DESC LIMIT ?;

-- name: recent_dead
SELECT at, watch, application_id, event, detail, number
  FROM history INDEXED BY history_ends
 WHERE event IN ('acknowledged', 'answered', 'dead-lettered') AND event = 'dead-lettered'
 ORDER BY number DESC LIMIT ?;

-- name: call_counts
SELECT step, outcome, count FROM call_count WHERE step > ? ORDER BY step;

-- name: conditions
SELECT name, message, since FROM condition ORDER BY since, name;

-- name: repairs
SELECT watch, cause, count FROM repair ORDER BY watch, cause;

-- name: highest_number
SELECT coalesce(max(number), 0) FROM snapshot;
