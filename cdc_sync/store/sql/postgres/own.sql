-- PostgreSQL's own statements.

-- name: try_lead
SELECT pg_try_advisory_lock(@lock, 0);

-- name: give_up_lead
SELECT pg_advisory_unlock(@lock, 0);

-- name: renew
-- The answer is the store's clock: see `clock.py`.
UPDATE @leader SET beat = beat + 1, lease = :lease, configuration = :configuration WHERE holder = :holder;

-- name: @holder
-- The process of the session that holds the lock. Every role sees locks.
(SELECT l.pid FROM pg_locks l
  WHERE l.locktype = 'advisory' AND l.classid = @lock AND l.objid = 0 AND l.objsubid = 2 AND l.granted
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))

-- name: lock_holder
SELECT @holder;

-- name: end_holder
-- Ends the session that holds the lock, if the leader's row has not changed. Another program's session is never ended.
SELECT a.pid, coalesce(a.usename, '?')::text, session_user::text,
       CASE WHEN a.usename = session_user AND pg_has_role(a.usesysid, 'USAGE')
            THEN pg_terminate_backend(a.pid) ELSE false END
  FROM pg_stat_activity a
 WHERE a.pid = @holder AND a.pid = :backend AND a.pid <> pg_backend_pid()
   AND a.application_name = current_setting('application_name')
   AND coalesce((SELECT r.holder || ' ' || r.beat::text FROM @leader r), '') = :row;

-- name: compare
SELECT coalesce(s.number,
                CASE left(e.value, 1)
                WHEN 'n' THEN 0
                WHEN 'o' THEN coalesce((SELECT -1 FROM @snapshot o
                                         WHERE o.watch = :watch AND o.in_scope
                                           AND o.application_id = substr(e.value, 2)::json ->> 1), 0)
                ELSE -1
                END)
  FROM json_array_elements_text(:digests::json) WITH ORDINALITY AS e (value, place)
  LEFT JOIN LATERAL (SELECT s.number FROM @snapshot s
                      WHERE s.watch = :watch AND s.row_key = substr(e.value, 17) AND s.verified = left(e.value, 16)
                        AND NOT @has_entry OFFSET 0) AS s ON TRUE ORDER BY e.place;

-- name: clock
SELECT @clock;

-- name: verify(watch text, application_id text, row_key text, digest text, status text, job_id text, deleted boolean)
-- Row by row: see `@found`.
WITH found AS (
    SELECT l.number, x.digest
      FROM @rows CROSS JOIN LATERAL (SELECT t.number FROM @snapshot t WHERE @still_so OFFSET 0) AS l
)
UPDATE @snapshot AS s SET verified = found.digest
  FROM found WHERE s.number = found.number AND s.number = ANY (ARRAY(SELECT number FROM found));

-- name: skipped_of_each
SELECT k.watch, k.row_key, k.application_id, k.reason FROM @each(watches) w
 CROSS JOIN LATERAL (SELECT * FROM @skipped i WHERE i.watch = w.value ORDER BY i.row_key LIMIT :limit) AS k;
