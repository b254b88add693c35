-- name: entries
SELECT watch, application_id, status, job_id, deleted, created, event_date, source, extra, url, kinds, state, revision,
       queued_at, due_at, attempted, attempts, first_attempt_at, not_found_since, reason
  FROM cdc_sync.outbox
 WHERE state = %(state)s AND (%(watch)s::text IS NULL OR watch = %(watch)s)
 ORDER BY queued_at, watch, application_id
 LIMIT %(limit)s;

-- name: tallies
SELECT name, known, changed_at FROM cdc_sync.watch WHERE known > 0 OR changed_at IS NOT NULL;

-- name: captured
SELECT DISTINCT watch FROM cdc_sync.position;

-- name: count_outbox
SELECT watch, state, count(*), min(queued_at) FROM cdc_sync.outbox GROUP BY watch, state;

-- name: count_skipped
SELECT watch, count(*) FROM cdc_sync.skipped GROUP BY watch;

-- name: count_suspected
SELECT watch, count(*) FROM cdc_sync.suspicion GROUP BY watch;

-- name: skipped
SELECT row_key, application_id, reason FROM cdc_sync.skipped WHERE watch = %(watch)s ORDER BY row_key LIMIT %(limit)s;

-- name: records
SELECT watch, application_id, row_key, in_scope, status, job_id, deleted, created, event_date, source, extra, url,
       told_at
  FROM cdc_sync.snapshot
 WHERE application_id = %(id)s AND (%(watch)s::text IS NULL OR watch = %(watch)s)
 ORDER BY watch;

-- name: entries_of
SELECT watch, application_id, status, job_id, deleted, created, event_date, source, extra, url, kinds, state, revision,
       queued_at, due_at, attempted, attempts, first_attempt_at, not_found_since, reason
  FROM cdc_sync.outbox
 WHERE application_id = %(id)s AND watch = ANY (%(watches)s::text[]);

-- name: suspicions_of
SELECT watch, application_id, at, due_at
  FROM cdc_sync.suspicion
 WHERE application_id = %(id)s AND watch = ANY (%(watches)s::text[]);

-- name: skipped_one
SELECT watch, row_key, reason
  FROM cdc_sync.skipped
 WHERE application_id = %(id)s AND (%(watch)s::text IS NULL OR watch = %(watch)s)
 ORDER BY watch, row_key;

-- name: story
SELECT at, watch, application_id, event, detail
  FROM cdc_sync.history
 WHERE application_id = %(id)s AND (%(watch)s::text IS NULL OR watch = %(watch)s)
 ORDER BY number DESC
 LIMIT %(limit)s;

-- name: recent
SELECT at, watch, application_id, event, detail FROM cdc_sync.history ORDER BY number DESC LIMIT %(limit)s;

-- name: recent_ends
-- One part for each kind, since that is what the index is ordered by.
SELECT at, watch, application_id, event, detail
  FROM unnest(%(events)s::text[]) AS kind,
       LATERAL (SELECT at, watch, application_id, event, detail, number
                  FROM cdc_sync.history
                 WHERE event = kind AND event IN ('acknowledged', 'answered', 'dead-lettered')
                   AND NOT (%(failed)s AND detail::json ->> 'acknowledged' IS NOT NULL)
                 ORDER BY number DESC
                 LIMIT %(limit)s) newest
 ORDER BY number DESC
 LIMIT %(limit)s;

-- name: call_counts
SELECT step, outcome, count FROM cdc_sync.call_count WHERE step > %(after)s ORDER BY step;

-- name: conditions
-- Of the daemons that live; of those that were the last to live if none does.
SELECT c.name, c.message, c.since, d.host, d.process
  FROM cdc_sync.condition c
  JOIN cdc_sync.daemon d ON d.id = c.daemon
 WHERE d.alive_until > clock_timestamp()
    OR NOT EXISTS (SELECT FROM cdc_sync.daemon l WHERE l.alive_until > clock_timestamp())
 ORDER BY c.since, c.name, d.id;

-- name: repairs
SELECT watch, cause, count FROM cdc_sync.repair ORDER BY watch, cause;

-- name: highest_number
SELECT coalesce(max(number), 0) FROM cdc_sync.snapshot;
