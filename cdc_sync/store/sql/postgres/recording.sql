-- name: lock_watch
SELECT leased_by, fuse FROM cdc_sync.watch WHERE name = %(watch)s FOR UPDATE;

-- name: add_watch
INSERT INTO cdc_sync.watch (name) VALUES (%(watch)s) ON CONFLICT DO NOTHING;

-- name: lease
-- One whose daemon has ended in order is free.
SELECT d.id, d.host, d.process, w.session
  FROM cdc_sync.watch w
  LEFT JOIN cdc_sync.daemon d ON d.id = w.leased_by AND d.alive_until <> '-infinity'
 WHERE w.name = %(watch)s
   FOR UPDATE OF w;

-- name: set_lease
UPDATE cdc_sync.watch SET leased_by = %(daemon)s, session = %(session)s WHERE name = %(watch)s;

-- name: give_lease_back
UPDATE cdc_sync.watch SET leased_by = NULL WHERE name = %(watch)s AND leased_by = %(daemon)s;

-- name: lock_snapshot
SELECT number, application_id, row_key, in_scope, status, job_id, deleted, created, event_date, source, extra, url,
       told_at
  FROM cdc_sync.snapshot
 WHERE watch = %(watch)s AND application_id = ANY (%(ids)s::text[])
 ORDER BY application_id
   FOR UPDATE;

-- name: lock_outbox
SELECT application_id, status, job_id, deleted, created, event_date, source, extra, url, attempted, state, reason,
       queued_at
  FROM cdc_sync.outbox
 WHERE watch = %(watch)s AND application_id = ANY (%(ids)s::text[])
 ORDER BY application_id
   FOR UPDATE;

-- name: known
SELECT s.number, s.application_id, s.row_key, s.in_scope,
       s.status, s.job_id, s.deleted, s.created, s.event_date, s.source, s.extra, s.url,
       o.status, o.job_id, o.deleted, o.created, o.event_date, o.source, o.extra, o.url, o.attempted,
       s.told_at
  FROM cdc_sync.snapshot s
  LEFT JOIN cdc_sync.outbox o ON o.watch = s.watch AND o.application_id = s.application_id
 WHERE s.watch = %(watch)s AND s.application_id = ANY (%(ids)s::text[]);

-- name: owners
SELECT s.number, s.application_id, s.row_key, s.in_scope,
       s.status, s.job_id, s.deleted, s.created, s.event_date, s.source, s.extra, s.url,
       o.status, o.job_id, o.deleted, o.created, o.event_date, o.source, o.extra, o.url, o.attempted,
       s.told_at
  FROM cdc_sync.snapshot s
  LEFT JOIN cdc_sync.outbox o ON o.watch = s.watch AND o.application_id = s.application_id
 WHERE s.watch = %(watch)s AND s.row_key = ANY (%(keys)s::text[]);

-- name: unseen
SELECT s.application_id
  FROM cdc_sync.snapshot s
  LEFT JOIN cdc_sync.outbox o ON o.watch = s.watch AND o.application_id = s.application_id
 WHERE s.number = ANY (%(numbers)s::bigint[]) AND s.watch = %(watch)s AND s.in_scope
   AND NOT coalesce(o.deleted, s.deleted)
 ORDER BY s.number;

-- name: compare
SELECT json_agg(
       coalesce(s.number,
                CASE left(e.value, 1)
                WHEN 'n' THEN 0
                WHEN 'o' THEN coalesce((SELECT -1 FROM cdc_sync.snapshot o
                                         WHERE o.watch = %(watch)s AND o.in_scope
                                           AND o.application_id = substr(e.value, 2)::json ->> 1), 0)
                ELSE -1
                END) ORDER BY e.place)::text
  FROM json_array_elements_text(%(digests)s::json) WITH ORDINALITY AS e (value, place)
  LEFT JOIN cdc_sync.snapshot s
    ON s.watch = %(watch)s AND s.row_key = substr(e.value, 17) AND s.verified = left(e.value, 16)
   AND NOT EXISTS (SELECT FROM cdc_sync.outbox o
                    WHERE o.watch = s.watch AND o.application_id = s.application_id);

-- name: verify
WITH said AS (
    SELECT s.number, x.digest
      FROM cdc_sync.snapshot s
      JOIN json_to_recordset(%(rows)s::json)
        AS x (application_id text, row_key text, digest text, status text, job_id text, deleted boolean)
        ON s.watch = %(watch)s AND s.application_id = x.application_id
     WHERE s.row_key = x.row_key AND s.in_scope
       AND (x.status IS NULL OR (s.status = x.status AND s.job_id = x.job_id AND s.deleted = x.deleted))
     ORDER BY s.application_id
       FOR UPDATE OF s
)
UPDATE cdc_sync.snapshot s SET verified = said.digest FROM said WHERE s.number = said.number;

-- name: seen_new
INSERT INTO cdc_sync.snapshot (watch, application_id, row_key)
SELECT %(watch)s, x.application_id, x.row_key
  FROM json_to_recordset(%(rows)s::json) AS x (application_id text, row_key text);

-- name: adopt_new
INSERT INTO cdc_sync.snapshot (watch, application_id, row_key, status, job_id, deleted, created, event_date, source,
                               extra, url, told_at, verified)
SELECT %(watch)s, x.application_id, x.row_key, x.status, x.job_id, x.deleted, x.created, x.event_date, x.source,
       x.extra, x.url, %(now)s, x.verified
  FROM json_to_recordset(%(rows)s::json)
    AS x (application_id text, row_key text, status text, job_id text, deleted boolean, created bigint,
          event_date bigint, source text, extra text, url text, verified text);

-- name: move
UPDATE cdc_sync.snapshot s
   SET row_key = x.row_key, in_scope = true
  FROM json_to_recordset(%(rows)s::json) AS x (application_id text, row_key text)
 WHERE s.watch = %(watch)s AND s.application_id = x.application_id;

-- name: tell
UPDATE cdc_sync.snapshot s
   SET status = x.status, job_id = x.job_id, deleted = x.deleted, created = x.created, event_date = x.event_date,
       source = x.source, extra = x.extra, url = x.url, told_at = x.told_at
  FROM json_to_recordset(%(rows)s::json)
    AS x (watch text, application_id text, status text, job_id text, deleted boolean, created bigint,
          event_date bigint, source text, extra text, url text, told_at bigint)
 WHERE s.watch = x.watch AND s.application_id = x.application_id;

-- name: leave_scope
UPDATE cdc_sync.snapshot s
   SET in_scope = false
  FROM (SELECT number FROM cdc_sync.snapshot
         WHERE watch = %(watch)s AND in_scope AND application_id = ANY (%(ids)s::text[])
         ORDER BY application_id
           FOR UPDATE) x
 WHERE s.number = x.number;

-- name: queue
INSERT INTO cdc_sync.outbox AS o
       (watch, application_id, status, job_id, deleted, created, event_date, source, extra, url, kinds, state, revision,
        queued_at, due_at, attempted, attempts, reason, endpoint)
SELECT %(watch)s, x.application_id, x.status, x.job_id, x.deleted, x.created, x.event_date, x.source, x.extra, x.url,
       x.kinds, x.state, 1, x.at, x.due_at, false, 0, x.reason, x.endpoint
  FROM json_to_recordset(%(rows)s::json)
    AS x (application_id text, status text, job_id text, deleted boolean, created bigint, event_date bigint,
          source text, extra text, url text, kinds text, state text, at bigint, due_at bigint, reason text,
          endpoint text)
ON CONFLICT (watch, application_id) DO UPDATE
   SET status = excluded.status, job_id = excluded.job_id, deleted = excluded.deleted, created = excluded.created,
       event_date = excluded.event_date, source = excluded.source, extra = excluded.extra, url = excluded.url,
       kinds = excluded.kinds, state = excluded.state, revision = o.revision + 1, queued_at = excluded.queued_at,
       due_at = excluded.due_at, attempts = 0, first_attempt_at = NULL, not_found_since = NULL,
       reason = excluded.reason, endpoint = excluded.endpoint;

-- name: refresh
UPDATE cdc_sync.outbox o
   SET created = x.created, source = x.source, extra = x.extra, url = x.url, endpoint = x.endpoint,
       revision = o.revision + 1
  FROM json_to_recordset(%(rows)s::json)
    AS x (application_id text, created bigint, source text, extra text, url text, endpoint text)
 WHERE o.watch = %(watch)s AND o.application_id = x.application_id;

-- name: cancel
DELETE FROM cdc_sync.outbox WHERE watch = %(watch)s AND application_id = ANY (%(ids)s::text[]);

-- name: endpoint
INSERT INTO cdc_sync.endpoint (endpoint) SELECT unnest(%(endpoints)s::text[]) ON CONFLICT DO NOTHING;

-- name: suspect
INSERT INTO cdc_sync.suspicion (watch, application_id, at, due_at)
SELECT %(watch)s, x.application_id, x.at, x.due_at
  FROM json_to_recordset(%(rows)s::json) AS x (application_id text, at bigint, due_at bigint)
ON CONFLICT (watch, application_id) DO NOTHING
RETURNING application_id;

-- name: answer
DELETE FROM cdc_sync.suspicion WHERE watch = %(watch)s AND application_id = ANY (%(ids)s::text[]);

-- name: due_suspicions
SELECT application_id, at, due_at
  FROM cdc_sync.suspicion
 WHERE watch = %(watch)s AND (due_at <= %(now)s OR due_at > %(latest)s)
 ORDER BY due_at, application_id
 LIMIT %(limit)s;

-- name: suspected
SELECT application_id FROM cdc_sync.suspicion WHERE watch = %(watch)s AND application_id = ANY (%(ids)s::text[]);

-- name: next_suspicion
SELECT min(due_at) FROM cdc_sync.suspicion WHERE watch = %(watch)s;

-- name: skip
INSERT INTO cdc_sync.skipped (watch, row_key, application_id, reason, at)
SELECT %(watch)s, x.row_key, x.application_id, x.reason, %(now)s
  FROM json_to_recordset(%(rows)s::json) AS x (row_key text, application_id text, reason text)
ON CONFLICT (watch, row_key) DO UPDATE
   SET application_id = excluded.application_id, reason = excluded.reason, at = excluded.at;

-- name: unskip
DELETE FROM cdc_sync.skipped WHERE watch = %(watch)s AND row_key = ANY (%(keys)s::text[]);

-- name: set_position
INSERT INTO cdc_sync.position (watch, name, value)
SELECT %(watch)s, x.name, x.value FROM json_to_recordset(%(rows)s::json) AS x (name text, value text)
ON CONFLICT (watch, name) DO UPDATE SET value = excluded.value;

-- name: positions
SELECT name, value FROM cdc_sync.position WHERE watch = %(watch)s;

-- name: set_fuse
UPDATE cdc_sync.watch SET fuse = %(fuse)s WHERE name = %(watch)s;

-- name: tally
UPDATE cdc_sync.watch
   SET known = known + %(new)s, changed_at = coalesce(%(changed_at)s, changed_at)
 WHERE name = %(watch)s;

-- name: remember
INSERT INTO cdc_sync.history (at, watch, application_id, event, detail)
SELECT x.at, x.watch, x.application_id, x.event, x.detail
  FROM json_to_recordset(%(rows)s::json)
    AS x (at bigint, watch text, application_id text, event text, detail text);
