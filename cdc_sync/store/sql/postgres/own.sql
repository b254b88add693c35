-- PostgreSQL's own statements.

-- name: try_lead
SELECT pg_try_advisory_lock(@lock, 0);

-- name: give_up_lead
SELECT pg_advisory_unlock(@lock, 0);

-- name: renew
-- The answer is the store's clock: see `clock.py`.
UPDATE @leader SET beat = beat + 1, lease = :lease, configuration = :configuration WHERE holder = :holder;

-- name: lock_holder
-- The process of the session that holds the lock. Every role sees locks.
SELECT l.pid
  FROM pg_locks l
 WHERE l.locktype = 'advisory' AND l.classid = @lock AND l.objid = 0 AND l.objsubid = 2 AND l.granted
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database());

-- name: leads
-- Whether the session of the leader's row holds the lock.
SELECT EXISTS (
       SELECT FROM pg_locks l
         JOIN @leader r ON r.backend = l.pid
        WHERE l.locktype = 'advisory' AND l.classid = @lock AND l.objid = 0 AND l.objsubid = 2 AND l.granted
          AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()));

-- name: end_holder
-- Ends the session that holds the lock, if the leader's row has not changed. Another program's session is never ended.
SELECT a.pid, coalesce(a.usename, '?')::text, session_user::text,
       CASE WHEN a.usename = session_user AND pg_has_role(a.usesysid, 'USAGE')
            THEN pg_terminate_backend(a.pid) ELSE false END
  FROM pg_locks l
  JOIN pg_stat_activity a ON a.pid = l.pid
 WHERE l.locktype = 'advisory' AND l.classid = @lock AND l.objid = 0 AND l.objsubid = 2 AND l.granted
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND a.pid = :backend AND a.pid <> pg_backend_pid() AND a.application_name = current_setting('application_name')
   AND coalesce((SELECT r.holder || ' ' || r.beat::text FROM @leader r), '') = :row;

-- name: known_elsewhere
-- Records have an index by application here: the cost does not grow with the watches. The same in the next one.
SELECT s.application_id, s.status, s.job_id, s.deleted, s.metadata, s.adopted, o.watch IS NOT NULL
  FROM @each(ids) i
 CROSS JOIN @found snapshot s WHERE s.application_id = i.value
  LEFT JOIN @found outbox o WHERE o.watch = s.watch AND o.application_id = s.application_id
 WHERE s.watch @in(watches)
 ORDER BY s.acknowledged_at NULLS FIRST;

-- name: rivals
-- An entry has a record.
SELECT o.watch, o.application_id, o.status, o.job_id, o.deleted, o.metadata, o.kinds, o.state, o.revision, o.queued_at,
       o.due_at, o.attempted, o.attempts, o.first_attempt_at, o.not_found_since, o.reason
  FROM @each(ids) i
 CROSS JOIN @found snapshot s WHERE s.application_id = i.value
 CROSS JOIN @found outbox o WHERE o.watch = s.watch AND o.application_id = s.application_id
 WHERE o.state = 'pending' AND o.watch @in(watches);

-- name: compare
SELECT json_agg(
       coalesce(s.number,
                CASE left(e.value, 1)
                WHEN 'n' THEN 0
                WHEN 'o' THEN coalesce((SELECT -1 FROM @snapshot o
                                         WHERE o.watch = :watch AND o.in_scope
                                           AND o.application_id = substr(e.value, 2)::json ->> 1), 0)
                ELSE -1
                END) ORDER BY e.place)::text
  FROM json_array_elements_text(:digests::json) WITH ORDINALITY AS e (value, place)
  LEFT JOIN LATERAL (SELECT number FROM @snapshot i
                      WHERE i.watch = :watch AND i.row_key = substr(e.value, 17) AND i.verified = left(e.value, 16)
                        AND NOT EXISTS (SELECT FROM @outbox o
                                         WHERE o.watch = i.watch AND o.application_id = i.application_id)
                     OFFSET 0) AS s ON TRUE;

-- name: clock
SELECT @clock;

-- name: verify(watch text, application_id text, row_key text, digest text, status text, job_id text, deleted boolean)
-- Row by row: see `@found`.
WITH found AS (
    SELECT l.number, x.digest
      FROM @rows
     CROSS JOIN LATERAL (SELECT s.number FROM @snapshot s
                          WHERE s.watch = x.watch AND s.application_id = x.application_id AND s.row_key = x.row_key
                            AND s.in_scope AND (x.status IS NULL OR (s.status = x.status AND s.job_id = x.job_id
                                                                     AND s.deleted = x.deleted)) OFFSET 0) AS l
)
UPDATE @snapshot AS s SET verified = found.digest
  FROM found WHERE s.number = found.number AND s.number = ANY (ARRAY(SELECT number FROM found));

-- name: entries
-- Watch by watch, in the index's order: a mass change costs only the wanted rows. The same in the next two.
SELECT o.watch, o.application_id, o.status, o.job_id, o.deleted, o.metadata, o.kinds, o.state, o.revision, o.queued_at,
       o.due_at, o.attempted, o.attempts, o.first_attempt_at, o.not_found_since, o.reason
  FROM unnest(:watches::text[]) AS w (name)
 CROSS JOIN LATERAL (SELECT * FROM @outbox i
                      WHERE i.state = :state AND i.watch = w.name
                      ORDER BY i.queued_at, i.application_id LIMIT :each) AS o;

-- name: skipped_of_each
SELECT k.watch, k.row_key, k.application_id, k.reason
  FROM unnest(:watches::text[]) AS w (name)
 CROSS JOIN LATERAL (SELECT * FROM @skipped i WHERE i.watch = w.name ORDER BY i.row_key LIMIT :each) AS k;

-- name: ids_from
SELECT s.watch, s.application_id, s.row_key, NULL AS reason
  FROM unnest(:watches::text[]) AS w (name)
 CROSS JOIN LATERAL (SELECT * FROM @snapshot i
                      WHERE i.watch = w.name AND i.application_id >= :text
                      ORDER BY i.application_id LIMIT :limit) AS s
UNION ALL
SELECT * FROM (SELECT watch, application_id, row_key, reason
                 FROM @skipped
                WHERE watch @in(watches) AND application_id >= :text
                ORDER BY application_id LIMIT :limit) AS unreported;

-- name: next_request
-- As in SQLite's. Its command cannot take it back while it is executed; one that is taken back is left out.
SELECT id, what, arguments, @clock BETWEEN asked_at AND expires_at
  FROM @request
 WHERE answer IS NULL
 ORDER BY number
 LIMIT 1
   FOR UPDATE SKIP LOCKED;
