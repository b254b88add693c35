-- name: lock_watches
SELECT name, fuse FROM cdc_sync.watch WHERE %(watch)s::text IS NULL OR name = %(watch)s ORDER BY name FOR UPDATE;

-- name: in_state
SELECT watch, application_id
  FROM cdc_sync.outbox
 WHERE state = %(state)s AND watch = ANY (%(watches)s::text[])
   AND (%(ids)s::text[] IS NULL OR application_id = ANY (%(ids)s::text[]))
   AND (%(deleted)s::boolean IS NULL OR deleted = %(deleted)s)
   AND (%(under_way)s OR claimed_by IS NULL)
 ORDER BY queued_at, watch, application_id
 LIMIT %(limit)s;

-- name: lock_in_state
SELECT o.watch, o.application_id, o.status, o.job_id, o.deleted, o.created, o.event_date, o.source, o.extra, o.url
  FROM cdc_sync.outbox o
  JOIN json_to_recordset(%(rows)s::json) AS x (watch text, application_id text)
    ON o.watch = x.watch AND o.application_id = x.application_id
 WHERE o.state = %(state)s AND (%(under_way)s OR o.claimed_by IS NULL)
 ORDER BY o.watch, o.application_id
   FOR UPDATE OF o;

-- name: revive
UPDATE cdc_sync.outbox o
   SET state = 'pending', due_at = %(now)s, attempts = 0, first_attempt_at = NULL, not_found_since = NULL,
       reason = NULL, endpoint = x.endpoint
  FROM json_to_recordset(%(rows)s::json) AS x (watch text, application_id text, endpoint text)
 WHERE o.watch = x.watch AND o.application_id = x.application_id;

-- name: to_resend
SELECT watch, application_id, status, job_id, deleted, created, event_date, source, extra, url
  FROM cdc_sync.snapshot
 WHERE application_id = ANY (%(ids)s::text[]) AND watch = ANY (%(watches)s::text[])
 ORDER BY watch, application_id
   FOR UPDATE;

-- name: waiting
SELECT o.watch, o.application_id, o.state
  FROM cdc_sync.outbox o
  JOIN json_to_recordset(%(rows)s::json) AS x (watch text, application_id text)
    ON o.watch = x.watch AND o.application_id = x.application_id
 ORDER BY o.watch, o.application_id
   FOR UPDATE OF o;

-- name: hasten
UPDATE cdc_sync.outbox o
   SET due_at = %(now)s
  FROM json_to_recordset(%(rows)s::json) AS x (watch text, application_id text)
 WHERE o.watch = x.watch AND o.application_id = x.application_id AND o.claimed_by IS NULL;

-- name: held_left
SELECT EXISTS (SELECT FROM cdc_sync.outbox WHERE state = 'held' AND watch = %(watch)s);

-- name: fuses
SELECT name, fuse FROM cdc_sync.watch WHERE fuse IS NOT NULL;

-- name: add_repairs
INSERT INTO cdc_sync.repair (watch, cause, count)
SELECT %(watch)s, x.cause, x.count FROM json_to_recordset(%(rows)s::json) AS x (cause text, count bigint)
ON CONFLICT (watch, cause) DO UPDATE SET count = cdc_sync.repair.count + excluded.count;

-- name: set_condition
INSERT INTO cdc_sync.condition (daemon, name, message, since) VALUES (%(daemon)s, %(name)s, %(message)s, %(now)s)
ON CONFLICT (daemon, name) DO UPDATE SET message = excluded.message;

-- name: clear_condition
DELETE FROM cdc_sync.condition WHERE daemon = %(daemon)s AND name = %(name)s;

-- name: prune
WITH oldest AS (
    -- By itself: inside of the other it could be looked for again for each row, and find others each time.
    SELECT number, at FROM cdc_sync.history ORDER BY number LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), pruned AS (
    DELETE FROM cdc_sync.history
     WHERE number IN (SELECT number FROM oldest
                       WHERE at < %(before)s OR number <= (SELECT max(number) FROM cdc_sync.history) - %(keep)s)
    RETURNING 1
)
SELECT count(*) FROM pruned;

-- name: prune_call_counts
DELETE FROM cdc_sync.call_count WHERE step <= %(until)s;

-- name: identity
SELECT value FROM cdc_sync.about WHERE name = 'database';

-- name: rebind
INSERT INTO cdc_sync.about (name, value) VALUES ('database', %(identity)s)
ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- name: hosts
SELECT value FROM cdc_sync.about WHERE name = 'hosts';

-- name: set_hosts
INSERT INTO cdc_sync.about (name, value) VALUES ('hosts', %(hosts)s)
ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- name: replace_hosts
-- Of several daemons that have read the same, one writes; the others look again.
INSERT INTO cdc_sync.about AS a (name, value) VALUES ('hosts', %(hosts)s)
ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE a.value = %(instead_of)s
RETURNING 1;

-- name: set_identity
INSERT INTO cdc_sync.about (name, value) VALUES ('database', %(identity)s) ON CONFLICT DO NOTHING;

-- name: clock
SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint,
       (SELECT value::bigint FROM cdc_sync.about WHERE name = 'clock_ahead'), pg_postmaster_start_time()::text;

-- name: raise_clock
-- Of several daemons that find it behind, the first raises it.
INSERT INTO cdc_sync.about AS a (name, value) VALUES ('clock_ahead', %(ahead)s::text)
ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE a.value = %(was)s::text
RETURNING 1;

-- name: newest_event
SELECT at FROM cdc_sync.history ORDER BY number DESC LIMIT 1;
